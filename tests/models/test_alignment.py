"""What decoders read of their sources: the weights that `alignment` gives are those that the network uses."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_lm.models import RNN, DecoderOnlyConfig, Transformer, TransformerConfig
from lit_lm.models.base import Seq2SeqNetwork
from lit_lm.nn.attention import MultiHeadAttention
from tests.architectures import SEQ2SEQ, SPEC, load, small

LENGTHS = [9, 5, 1]
T = 7
READERS = [p for p in SEQ2SEQ if not isinstance(load(p), DecoderOnlyConfig)]
every_network = pytest.mark.parametrize("path", READERS, ids=lambda p: p.stem)


def build(path: Path) -> Seq2SeqNetwork:
    torch.manual_seed(0)
    return small(path).build(SPEC).eval()  # type: ignore[return-value]


def pairs() -> tuple[Tensor, Tensor, Tensor]:
    draw = torch.Generator().manual_seed(1)
    src = torch.randint(4, SPEC.vocab_size, (3, 9), generator=draw)
    tgt = torch.randint(4, SPEC.vocab_size, (3, T), generator=draw)
    tgt[:, 0] = SPEC.bos_id
    return src, torch.arange(9) < torch.tensor(LENGTHS).unsqueeze(1), tgt


def aligned(net: Seq2SeqNetwork, *inputs: Tensor) -> Tensor:
    weights = net.alignment(*inputs)
    assert weights is not None
    return weights


@every_network
def test_rows_are_distributions_over_real_source_tokens(path: Path) -> None:
    src, mask, tgt = pairs()
    net = build(path)
    weights = aligned(net, src, mask, tgt)
    shape = (1, 1) if isinstance(net, RNN) else (2, small(path).num_heads)  # type: ignore[attr-defined]
    assert weights.shape == (3, *shape, T, 9)
    torch.testing.assert_close(weights.sum(-1), torch.ones(3, *shape, T))
    for row, length in enumerate(LENGTHS):
        assert (weights[row, ..., :length] > 0).all()
        assert (weights[row, ..., length:] == 0).all()


@every_network
def test_padding_and_later_targets_change_nothing(path: Path) -> None:
    src, mask, tgt = pairs()
    net = build(path)
    whole = aligned(net, src, mask, tgt)
    alone = aligned(net, src[1:2, : LENGTHS[1]], mask[1:2, : LENGTHS[1]], tgt[1:2])
    torch.testing.assert_close(alone, whole[1:2, ..., : LENGTHS[1]], rtol=0, atol=1e-6)
    other = tgt.clone()
    other[:, 4:] = 4
    changed = aligned(net, src, mask, other)
    torch.testing.assert_close(changed[..., :4, :], whole[..., :4, :], rtol=0, atol=1e-6)
    assert (changed[0, ..., 4:, :] - whole[0, ..., 4:, :]).abs().max() > 1e-5


@pytest.mark.parametrize("norm_first", [False, True])
def test_the_transformer_reads_by_these_weights(
    norm_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Each layer's cross-attention in the forward pass is what the weights make of its values."""
    config = TransformerConfig(
        num_layers=3, num_heads=2, d_model=16, d_ff=24, norm_first=norm_first
    )
    torch.manual_seed(0)
    net = config.build(SPEC).eval()
    assert isinstance(net, Transformer)
    inputs = pairs()
    weights = aligned(net, *inputs)
    seen: list[tuple[Any, ...]] = []
    attend = MultiHeadAttention.attend_memory

    def watched(self: MultiHeadAttention, x: Tensor, memory: Any, mask: Tensor) -> Tensor:
        seen.append((self, memory.values_BHKE, attend(self, x, memory, mask)))
        return seen[-1][2]  # type: ignore[no-any-return]

    monkeypatch.setattr(MultiHeadAttention, "attend_memory", watched)
    net(*inputs)
    assert len(seen) == 3
    for layer, (attention, values_BHKE, out_BTD) in enumerate(seen):
        read = attention._merge(weights[:, layer] @ values_BHKE)
        torch.testing.assert_close(read, out_BTD, rtol=0, atol=1e-6)


def test_a_network_without_attention_has_none() -> None:
    assert Seq2SeqNetwork.alignment(object(), *pairs()) is None  # type: ignore[arg-type]
