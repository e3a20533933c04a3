"""Beam search with a language model: against every continuation there is, and against greedy decoding."""

from __future__ import annotations

import itertools

import pytest
import torch

from lit_lm import CausalLM, GPTConfig, Tokenizer, TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.generation import Beam

PROMPTS = ["ab", "", "cabba"]


@pytest.fixture(scope="module")
def task():
    torch.manual_seed(3)
    tokenizer = Tokenizer.train(TokenizerConfig("char"), ["abc"])
    config = GPTConfig(num_layers=2, num_heads=2, d_model=16, dropout=0.0, init_std=0.5)
    # As in networks that are imported, there are ids without text.
    spec = tokenizer.spec(12)
    found = CausalLM(config, spec.__class__(**{**vars(spec), "vocab_size": spec.vocab_size + 5}))
    found.tokenizer = tokenizer
    return found.eval()


def log_probs(task, ids):
    """Of the token behind each position, over ids that have text."""
    with torch.no_grad():
        h = task.net(torch.tensor([ids]), torch.ones(1, len(ids), dtype=torch.bool))
        return task.net.head(h)[0, :, : task.tokenizer.vocab_size].log_softmax(-1)


def test_a_wide_beam_finds_the_likeliest_continuation(task):
    size, eos, alpha = task.tokenizer.vocab_size, task.tokenizer.eos_id, 0.7
    found = task.generate(PROMPTS, max_new_tokens=3, beam=Beam(size**3, alpha))
    for prompt, completion in zip(PROMPTS, found, strict=True):
        row = task.frame(task.tokenizer.encode(prompt))[0]
        scored = []
        for n in (1, 2, 3):
            for new in itertools.product(range(size), repeat=n):
                ends = new[-1] == eos
                if eos in new[:-1] or not (ends or n == 3):
                    continue
                table = log_probs(task, [*row, *new[:-1]])[len(row) - 1 :]
                total = sum(table[i, token].item() for i, token in enumerate(new))
                scored.append((ends, total / n**alpha, new))
        best = max(scored)[2]  # what has ended comes before what was cut
        assert completion.continuation == task.tokenizer.decode(best)
        assert completion.prompt == prompt


def test_a_beam_of_one_is_greedy_and_companions_change_nothing(task):
    greedy = task.generate(PROMPTS, max_new_tokens=6)
    assert task.generate(PROMPTS, max_new_tokens=6, beam=Beam(1, 0.0)) == greedy
    together = task.generate(PROMPTS, max_new_tokens=6, beam=Beam(4))
    alone = [task.generate([prompt], max_new_tokens=6, beam=Beam(4))[0] for prompt in PROMPTS]
    assert together == alone


def test_a_search_needs_room(task):
    assert task.generate(["abc"], max_new_tokens=9, beam=Beam(2))  # 4 tokens in, 8 more fed back
    with pytest.raises(InputError, match="4 tokens and max_new_tokens=10 are more than the 12"):
        task.generate(["abc"], max_new_tokens=10, beam=Beam(2))
    assert task.generate(["abc"], max_new_tokens=0, beam=Beam(2))[0].continuation == ""
    assert task.generate([], max_new_tokens=5, beam=Beam(2)) == []
