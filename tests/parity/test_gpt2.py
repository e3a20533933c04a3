"""GPT against Hugging Face's GPT-2."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
import torch
from transformers import AutoTokenizer, GPT2Config, GPT2LMHeadModel, GPT2Model

from lit_lm import interop
from lit_lm.data.batches import BatchSize, TextBatch
from lit_lm.generation import Beam, beam_search, generate
from lit_lm.interop import gpt2
from lit_lm.tasks import CausalLM
from tests.parity import hf

pytestmark = pytest.mark.parity

SIZES = [(1, 16, 1, None, 1e-5), (2, 24, 3, 40, 1e-3), (3, 32, 4, 128, 1e-5)]
PROMPTS = [[7, 9, 30], [12], [5, 6, 7, 8, 9, 40, 41]]


def make(kind=GPT2LMHeadModel, size=SIZES[1], seed=0, **settings):
    layers, d, heads, d_ff, eps = size
    ids = {"bos_token_id": 2, "eos_token_id": 2, "pad_token_id": 0}
    config = GPT2Config(
        vocab_size=hf.VOCAB, n_positions=40, n_embd=d, n_layer=layers, n_head=heads, n_inner=d_ff,
        layer_norm_epsilon=eps, **(ids | settings),
    )  # fmt: skip
    config._attn_implementation = "eager"
    model = kind(config).eval()
    hf.randomise(model, seed)
    return model


def load(folder: Path) -> CausalLM:
    return gpt2.read(folder, hf.tokenizer).eval()


@pytest.mark.parametrize("tied", [True, False])
@pytest.mark.parametrize("size", SIZES)
def test_vectors_logits_loss_and_gradients_are_equal(size, tied: bool, tmp_path: Path) -> None:
    model = make(size=size, seed=size[0], tie_word_embeddings=tied)
    task = load(hf.save(model, tmp_path))
    ids, mask = hf.rows(size[0])
    shifted, real = ids.roll(-1, 1), mask & mask.roll(-1, 1)
    real[:, -1] = False
    labels = shifted.masked_fill(~real, -100)
    out = model(
        ids,
        attention_mask=mask.long(),
        labels=ids.masked_fill(~mask, -100),
        output_hidden_states=True,
    )
    h = task.net(ids, mask)
    assert hf.apart(h[mask], out.hidden_states[-1][mask]) <= 1e-5
    assert hf.apart(task.net.head(h)[mask], out.logits[mask]) <= 1e-5
    size_of = BatchSize(len(ids), 0, 0, 0, ids.numel(), int(real.sum()))
    loss = task.loss(TextBatch(ids, labels, mask, size_of))
    mean = loss.total / loss.targets
    assert mean.item() == pytest.approx(out.loss.item(), rel=1e-6)
    mean.backward()
    out.loss.backward()
    hf.check_gradients(task.net, gpt2.layout(size[0], head=not tied), model)


def test_the_two_forms_of_gelu_are_told_apart(tmp_path: Path) -> None:
    ids, _ = hf.rows(0)
    ours, theirs = {}, {}
    for name in ("gelu", "gelu_new", "gelu_pytorch_tanh", "relu"):
        model = make(activation_function=name)
        with torch.no_grad():
            ours[name] = load(hf.save(model, tmp_path / name)).net(ids)
            theirs[name] = model.transformer(ids).last_hidden_state
        assert hf.apart(ours[name], theirs[name]) <= 1e-5
    assert hf.apart(ours["gelu"], theirs["gelu_new"]) > 5e-5
    assert hf.apart(ours["gelu_new"], theirs["gelu"]) > 5e-5
    assert torch.equal(ours["gelu_new"], ours["gelu_pytorch_tanh"])


def uncached(net, prompt: list[int], steps: int, eos: int) -> list[int]:
    ids = list(prompt)
    for _ in range(steps):
        token = int(net.head(net(torch.tensor([ids]))[0, -1]).argmax())
        if token == eos:
            break
        ids.append(token)
    return ids[len(prompt) :]


def start(task: CausalLM, prompts: list[list[int]], steps: int):
    lengths = torch.tensor([len(p) for p in prompts])
    ids = torch.zeros(len(prompts), int(lengths.max()), dtype=torch.long)
    for row, prompt in zip(ids, prompts, strict=True):
        row[: len(prompt)] = torch.tensor(prompt)
    return task.net.start(ids, lengths, ids.size(1) + steps)


def stripped(ids: torch.Tensor, prompt: list[int], eos: int) -> list[int]:
    """New tokens of an output of Hugging Face's, up to its end."""
    new = ids[len(prompt) :].tolist()
    return new[: new.index(eos)] if eos in new else new


@torch.no_grad()
@pytest.mark.parametrize("seed", range(3))
def test_greedy_output_is_equal_cached_and_not(seed: int, tmp_path: Path) -> None:
    model = make(seed=seed)
    task, steps = load(hf.save(model, tmp_path)), 25
    # An end that one of the rows comes upon: the token in the middle of its endless output.
    eos = uncached(task.net, PROMPTS[0], steps, -1)[steps // 2]
    logits, state = start(task, PROMPTS, steps)
    found = generate(task.net, logits, state, max_new_tokens=steps, eos_id=eos)
    assert found[0].finished
    for prompt, hypothesis in zip(PROMPTS, found, strict=True):
        assert hypothesis.ids == uncached(task.net, prompt, steps, eos)
        for use_cache in (True, False):
            (theirs,) = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False,
                max_new_tokens=steps, eos_token_id=eos, use_cache=use_cache,
            )  # fmt: skip
            assert hypothesis.ids == stripped(theirs, prompt, eos)
    assert len({tuple(h.ids) for h in found}) == len(PROMPTS)


@torch.no_grad()
@pytest.mark.parametrize(
    ("size", "alpha", "use_cache"),
    [
        (2, 0.0, False),
        (2, 0.7, True),
        (2, 1.0, False),
        (4, 0.0, True),
        (4, 0.7, False),
        (4, 1.0, True),
    ],
)
def test_beams_are_equal(size: int, alpha: float, use_cache: bool, tmp_path: Path) -> None:
    """All hypotheses, their order and their scores.

    Ours is their ``early_stopping="never"``: a search ends when no open hypothesis can still get among the
    best. Their length penalty is our "plain" one, over new tokens with the end counted. They let outputs
    that the limit cut compete with ended ones, which ours places behind them; so rows are compared in which
    all outputs end, and below those in which none does.
    """
    model = make(seed=1, tie_word_embeddings=False)
    bias = model.transformer.ln_f.bias
    model.lm_head.weight[2] += 4 * bias / bias.square().sum()  # the end becomes likely everywhere
    task, steps = load(hf.save(model, tmp_path)), 20
    ended = 0
    for eos in (2, -1):
        logits, state = start(task, PROMPTS, steps)
        found = beam_search(
            task.net, logits, state, max_new_tokens=steps, eos_id=eos, beam=Beam(size, alpha)
        )
        for prompt, ours in zip(PROMPTS, found, strict=True):
            settings = {"eos_token_id": eos} if eos >= 0 else {"eos_token_id": None}
            theirs = model.generate(
                torch.tensor([prompt]), attention_mask=torch.ones(1, len(prompt)), do_sample=False,
                num_beams=size, num_return_sequences=size, length_penalty=alpha, early_stopping="never",
                max_new_tokens=steps, use_cache=use_cache, output_scores=True,
                return_dict_in_generate=True, **settings,
            )  # fmt: skip
            whole = [s[len(prompt) :].tolist() for s in theirs.sequences]
            all_end = all(eos in ids for ids in whole)
            if eos >= 0 and not all_end:
                continue
            ended += all_end
            assert [h.finished for h in ours] == [all_end] * size
            assert [h.ids for h in ours] == [stripped(s, prompt, eos) for s in theirs.sequences]
            scores = [h.score for h in ours]
            assert scores == pytest.approx(theirs.sequences_scores.tolist(), rel=1e-5)
    assert ended >= 2


@pytest.mark.parametrize(
    ("kind", "tied", "fresh"),
    [
        (GPT2LMHeadModel, True, ()),
        (GPT2LMHeadModel, False, ()),
        (GPT2Model, True, ()),
        (GPT2Model, False, ("head.weight",)),
    ],
)
def test_each_class_opens_here_and_there_and_stays_equal_bit_for_bit(
    kind, tied, fresh, tmp_path
) -> None:
    model = make(kind, tie_word_embeddings=tied)
    task = load(hf.save(model, tmp_path / "in"))
    assert task.fresh == fresh
    interop.write(task, tmp_path / "out")
    written = GPT2Model if fresh else GPT2LMHeadModel
    assert json.loads((tmp_path / "out/config.json").read_text())["architectures"] == [
        written.__name__
    ]
    again, info = written.from_pretrained(tmp_path / "out", output_loading_info=True)
    assert not any(info.values()), info
    core = getattr(model, "transformer", model).state_dict()
    other = getattr(again, "transformer", again).state_dict()
    assert all(torch.equal(t, other[n]) for n, t in core.items())
    for name in (
        "layer_norm_epsilon",
        "activation_function",
        "n_head",
        "resid_pdrop",
        "tie_word_embeddings",
    ):
        assert getattr(again.config, name) == getattr(model.config, name)
    back = load(tmp_path / "out")
    assert back.fresh == fresh
    a, b = task.net.state_dict(), back.net.state_dict()
    assert all(torch.equal(a[n], b[n]) for n in a if n not in fresh)


def test_buffers_and_the_tied_copy_of_older_files_are_no_weights(tmp_path: Path) -> None:
    from safetensors.torch import load_file, save_file

    wanted = load(hf.save(make(), tmp_path)).net.state_dict()
    file = tmp_path / "model.safetensors"
    tensors = load_file(file)
    tensors["lm_head.weight"] = tensors["transformer.wte.weight"].clone()
    tensors["transformer.h.1.attn.bias"] = torch.ones(1, 1, 40, 40, dtype=torch.bool)
    tensors["transformer.h.1.attn.masked_bias"] = torch.tensor(-1e4)
    save_file(tensors, file)
    got = load(tmp_path).net.state_dict()
    assert all(torch.equal(wanted[n], got[n]) for n in wanted)


def test_the_tokenizer_opens_there(tmp_path: Path) -> None:
    task = gpt2.read(hf.save(make(), tmp_path / "in"), hf.tokenizer)
    interop.write(task, tmp_path / "out")
    ours, other = hf.tokenizer(), AutoTokenizer.from_pretrained(tmp_path / "out")
    assert other("abc defa bad").input_ids == ours.encode("abc defa bad")
    assert (other.bos_token_id, other.eos_token_id, other.pad_token_id) == (
        ours.eos_id,
        ours.eos_id,
        ours.pad_id,
    )
