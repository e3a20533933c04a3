"""Beams share a cache and weights are gathered once: neither changes what a row alone, computed whole, would give."""

from __future__ import annotations

import dataclasses
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_lm.generation import Beam, _continuations, beam_search
from lit_lm.models import GPTConfig, TransformerConfig
from lit_lm.specs import DataSpec

SPEC = DataSpec(vocab_size=43, max_length=24, max_target_length=24)
GPT = GPTConfig(num_layers=2, num_heads=2, d_model=16, dropout=0.0)
POST = TransformerConfig(num_layers=2, num_heads=2, d_model=16, d_ff=24, dropout=0.0)
CONFIGS: dict[str, Any] = {
    "gpt": GPT,
    "gpt, rotary, no biases": dataclasses.replace(GPT, positions="rotary", bias=False),
    "gpt, post-norm, sinusoidal": dataclasses.replace(
        GPT, norm_first=False, positions="sinusoidal"
    ),
    "transformer": POST,
    "transformer, pre-norm, learned, gelu": dataclasses.replace(
        POST, norm_first=True, positions="learned", activation="gelu"
    ),
    "transformer, rotary": dataclasses.replace(POST, positions="rotary"),
}
LENGTHS = [7, 4, 5]
every_config = pytest.mark.parametrize("config", CONFIGS.values(), ids=CONFIGS.keys())


def build(config: Any, dtype: torch.dtype = torch.float32) -> Any:
    torch.manual_seed(0)
    net = config.build(SPEC)
    for parameter in net.parameters():
        torch.nn.init.normal_(parameter, float(parameter.dim() == 1), 0.3)
    return net.to(dtype).eval()


def inputs() -> tuple[Tensor, Tensor]:
    """Prompts or sources of three lengths, and tokens to go on with."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, 43, (3, 7), generator=generator)
    return ids, torch.randint(5, 43, (3, 8), generator=generator)


def start(net: Any, config: Any, capacity: int = 12) -> tuple[Tensor, Any]:
    ids, _ = inputs()
    lengths = torch.tensor(LENGTHS)
    if isinstance(config, GPTConfig):
        found = net.start(ids, lengths, capacity)
        net.keep(found[1], [2, 1])
        assert lengths.tolist() == LENGTHS  # what was passed in is left alone
        return net.start(ids, lengths, capacity)
    return net.start(ids, torch.arange(7) < lengths[:, None], capacity)


@torch.no_grad()
def whole(net: Any, config: Any, row: int, tokens: list[int]) -> Tensor:
    """Logits behind a row's prompt or source and these tokens, without a cache or a neighbour."""
    prompt = inputs()[0][row : row + 1, : LENGTHS[row]]
    new = torch.tensor([tokens], dtype=torch.long)
    if isinstance(config, GPTConfig):
        return net.head(net(torch.cat((prompt, new), dim=1)))[0, -1]
    new = torch.cat((torch.full((1, 1), SPEC.bos_id), new), dim=1)
    return net.head(net(prompt, torch.ones_like(prompt, dtype=torch.bool), new))[0, -1]


@torch.no_grad()
@every_config
def test_a_beam_is_a_row_of_its_own(config: Any) -> None:
    net = build(config)
    _, state = start(net, config, capacity=12)  # the beams come to need more slots
    paths: list[list[list[int]]] = [[[]], [[]], [[]]]
    rows = [0, 1, 2]
    steps = [(None, 2), ([2, 1], 3), (None, 3), ([1], 2), (None, 4)]
    for number, (stay, width) in enumerate(steps):
        if stay is not None:
            state = net.keep(state, stay)
            rows, paths = [rows[n] for n in stay], [paths[n] for n in stay]
        generator = torch.Generator().manual_seed(number)
        shape = (len(rows), width)
        parents = torch.randint(len(paths[0]), shape, generator=generator)
        ids = torch.randint(5, 43, shape, generator=generator)
        logits, state = net.step(ids, state, parents)
        paths = [
            [[*row[parent], token] for parent, token in zip(origins, tokens, strict=True)]
            for row, origins, tokens in zip(paths, parents.tolist(), ids.tolist(), strict=True)
        ]
        for n, row in enumerate(rows):
            for k, path in enumerate(paths[n]):
                expected = whole(net, config, row, path)
                torch.testing.assert_close(logits[n, k], expected, rtol=1e-4, atol=2e-5)


@torch.no_grad()
@every_config
def test_low_precision_is_no_worse_than_the_network_itself(config: Any) -> None:
    """Weights in bfloat16, and autocast: as near single precision as rows computed whole are."""
    exact = build(config)
    rough = build(config, torch.bfloat16)
    expected, state = start(exact, config)
    ids = inputs()[1][:, 0]
    after, _ = exact.step(ids, state)
    scale = expected.std().item()
    for net, autocast in ((rough, False), (exact, True)):
        with torch.autocast("cpu", torch.bfloat16, enabled=autocast):
            logits, state = start(net, config)
            second, _ = net.step(ids, state)
        torch.testing.assert_close(logits.float(), expected, rtol=0, atol=0.2 * scale)
        torch.testing.assert_close(second.float(), after, rtol=0, atol=0.2 * scale)


@every_config
@pytest.mark.parametrize("alpha", [0.0, 1.0])
def test_fewer_outputs_are_the_first_ones(config: Any, alpha: float) -> None:
    net, ended = build(config), 0
    found = {}
    with torch.no_grad():
        net.head.weight[SPEC.eos_id] += net.head.weight.mean(0) + 0.5
        for count in (4, 2, 1):
            found[count] = beam_search(
                net,
                *start(net, config, 7 + 12),
                max_new_tokens=12,
                eos_id=SPEC.eos_id,
                beam=Beam(4, alpha),
                count=count,
            )
    for row in range(3):
        for count in (2, 1):
            wanted, got = found[4][row][:count], found[count][row]
            assert [(h.ids, h.finished) for h in got] == [(h.ids, h.finished) for h in wanted]
            ended += sum(h.finished for h in got)
    assert ended


@pytest.mark.parametrize("vocab", [1000, 1024, 1055])
def test_the_best_continuations_are_found_in_blocks(vocab: int) -> None:
    generator = torch.Generator().manual_seed(0)
    logits = torch.randn(3, 4, vocab, generator=generator) * 3
    logits[0, 1, -1] += 20  # the last token of all, in no full block
    scores = torch.randn(3, 4, generator=generator)
    scores[2, 1:] = float("-inf")
    values, origins, ids = _continuations(logits.clone(), scores, 8)
    total = (logits.log_softmax(-1) + scores[..., None]).view(3, -1)
    expected, index = total.topk(8)
    torch.testing.assert_close(torch.tensor(values), expected, rtol=0, atol=1e-5)
    flat = torch.tensor(origins) * vocab + torch.tensor(ids)
    assert torch.equal(flat, index)
    assert (1, vocab - 1) in zip(origins[0], ids[0], strict=True)
