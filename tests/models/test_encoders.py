"""What every architecture is under a task with labels: an encoder, without what only its pre-training needs."""

from __future__ import annotations

from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lit_lm.models import ELMo, Network
from lit_lm.nn.heads import Head, HeadConfig, pooled
from tests.architectures import FILES, SPEC, small

IDS = torch.randint(5, SPEC.vocab_size, (3, 11), generator=torch.Generator().manual_seed(0))
MASK = torch.arange(11) < torch.tensor([11, 4, 7])[:, None]


def build(path: Path) -> Network:
    torch.manual_seed(0)
    return small(path).build(SPEC).eval()


def vectors(net: Network, ids: torch.Tensor, mask: torch.Tensor) -> list[torch.Tensor]:
    distinct, words = ids.unique(return_inverse=True)
    letters = torch.stack([distinct * (k + 1) % 250 + 1 for k in range(SPEC.max_characters)], 1)
    chars = (letters, words) if isinstance(net, ELMo) else None
    return net.vectors(ids, mask, chars=chars)


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_an_encoder_is_whole_and_nothing_more(path: Path) -> None:
    net = build(path)
    before = vectors(net, IDS, MASK)
    net.to_encoder()
    after = vectors(net, IDS, MASK)
    assert len(after) == net.num_vectors
    for x, y in zip(before, after, strict=True):
        torch.testing.assert_close(x, y)
        assert x.shape == (3, 11, net.dim)
    sum((h[MASK] ** 2 * torch.rand(net.dim)).sum() for h in after).backward()  # type: ignore[union-attr]
    segments = {"segments.weight"}  # of one segment only the first is seen, but it is one table
    idle = [n for n, p in net.named_parameters() if p.grad is None and n not in segments]
    assert not idle
    depths = [net.depth(name) for name, _ in net.named_parameters()]
    assert set(depths) == set(range(net.depths))
    assert net.depths > 1 or "averaged" in path.stem


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.stem)
def test_flops_of_encoding_agree_with_torch(path: Path) -> None:
    with torch.device("meta"):
        net = build(path)
        net.to_encoder()
        ids = torch.zeros(1, 10, dtype=torch.long)
        chars = (torch.zeros(13, SPEC.max_characters, dtype=torch.long), ids)
        with FlopCounterMode(display=False) as counter:
            net.vectors(ids, ids == 0, chars=chars)
    assert net.encode_flops(10, 13) == pytest.approx(counter.get_total_flops(), rel=0.03, abs=1)


@pytest.mark.parametrize("config", [HeadConfig(), HeadConfig(d_lstm=12, d_hidden=6)])
@pytest.mark.parametrize("pooling", ["first", "last", "mean", "max", None])
def test_a_head_reads_rows_each_on_its_own(config: HeadConfig, pooling: str | None) -> None:
    torch.manual_seed(0)
    layers = [torch.randn(3, 11, 8) for _ in range(2)]
    head = Head(config, 8, 2, 5, pooling).eval()  # type: ignore[arg-type]
    together = head(layers, MASK)
    for i, length in enumerate(MASK.sum(1).tolist()):
        alone = head([h[i : i + 1, :length] for h in layers], MASK[i : i + 1, :length])[0]
        found = together[i] if pooling else together[i, :length]
        torch.testing.assert_close(found, alone)


def test_words_are_read_at_their_first_tokens() -> None:
    torch.manual_seed(0)
    head = Head(HeadConfig(d_lstm=6), 8, 1, 5, None).eval()
    h = torch.randn(2, 7, 8)
    first = torch.tensor([[0, 2, 5], [1, 3, -1]])
    found = head([h], torch.ones(2, 7, dtype=torch.bool), first)
    mask = torch.ones(1, 2, dtype=torch.bool)
    torch.testing.assert_close(found[1:, :2], head([h[1:, [1, 3]]], mask))
    changed = h.clone()
    changed[0, [1, 3, 4, 6]] += 1  # between the first tokens
    torch.testing.assert_close(
        head([changed], torch.ones(2, 7, dtype=torch.bool), first)[0], found[0]
    )


def test_pooling_of_a_row_without_tokens_is_zero() -> None:
    h = torch.randn(1, 4, 3)
    for how in ("mean", "max"):
        assert not pooled(h, torch.zeros(1, 4, dtype=torch.bool), how).any()  # type: ignore[arg-type]
