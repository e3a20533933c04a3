"""BERT: what a row's tokens may know, the heads, and an independent encoder."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.nn import functional as F

from lit_lm.flops import cost
from lit_lm.models import BERTConfig
from tests.architectures import MASKED, SPEC
from tests.models.test_properties import POSITIONS, build, copy, text


def rows() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    ids = text(3, 11)
    mask = torch.arange(11) < torch.tensor([11, 7, 4]).unsqueeze(1)
    segments = (torch.arange(11) > 5).long().expand(3, -1) * mask
    return ids, mask, segments


@pytest.mark.parametrize("path", MASKED, ids=lambda p: p.stem)
@pytest.mark.parametrize("positions", POSITIONS)
class TestMasked:
    def test_padding_changes_nothing(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, mask, segments = rows()
        whole = net(ids, mask, segments)
        for row, length in enumerate(mask.sum(1).tolist()):
            alone = net(*(part[row : row + 1, :length] for part in (ids, mask, segments)))
            torch.testing.assert_close(whole[row : row + 1, :length], alone, rtol=0, atol=1e-5)

    def test_every_token_sees_both_sides(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, mask, segments = rows()
        for changed_at in (0, 5, 10):
            changed = ids.clone()
            changed[0, changed_at] = (ids[0, changed_at] + 1 - 5) % 30 + 5
            difference = (net(ids, mask, segments) - net(changed, mask, segments))[0].abs().amax(-1)
            assert (difference > 1e-4).all()

    def test_segments_are_told_apart(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, mask, segments = rows()
        before = net.next_sentence(net(ids, mask, segments))
        after = net.next_sentence(net(ids, mask, 1 - segments))
        assert before.shape == (3, 2)
        assert (before - after).abs().max() > 1e-4

    def test_order_matters_unless_there_are_no_positions(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, mask, segments = rows()
        swapped = ids.clone()
        swapped[0, [1, 2]] = ids[0, [2, 1]]
        before, after = net(ids, mask, segments)[0, 0], net(swapped, mask, segments)[0, 0]
        same = torch.allclose(before, after, atol=1e-5)
        assert same == (positions == "none")

    @pytest.mark.parametrize("next_sentence", [True, False])
    def test_every_parameter_has_a_gradient(
        self, path: Path, positions: str, next_sentence: bool
    ) -> None:
        config = dataclasses.replace(BERTConfig(2, 2, 16), positions=positions)
        net = config.build(dataclasses.replace(SPEC, next_sentence=next_sentence))
        h = net(*rows())
        loss = net.head(h[:, :2]).square().sum()
        if next_sentence:
            loss = loss + net.next_sentence(h).square().sum()
        loss.backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name


def test_output_layer_is_the_embeddings() -> None:
    net = BERTConfig(1, 2, 16, dropout=0.0).build(SPEC)
    h = torch.randn(5, 16)
    inside = net.head.norm(F.gelu(net.head.dense(h)))
    expected = inside @ net.embedding.weight.T + net.head.output.bias
    torch.testing.assert_close(net.head(h), expected)
    names = [name for name, _ in net.named_parameters() if "output" in name]
    assert names == ["head.output.bias"]


@pytest.mark.parametrize(("layers", "width", "heads", "millions"), [(12, 768, 12, 110.1), (24, 1024, 16, 336.2)])  # fmt: skip
def test_published_sizes(layers: int, width: int, heads: int, millions: float) -> None:
    """BERT base and large with both heads, vocabulary 30,522: 110 and 340 million in table 1."""
    spec = dataclasses.replace(SPEC, vocab_size=30522, max_length=512)
    with torch.device("meta"):
        net = BERTConfig(layers, heads, width).build(spec)
    assert cost(net, 128).parameters / 1e6 == pytest.approx(millions, abs=0.05)


def test_agrees_with_torchs_own_encoder() -> None:
    torch.manual_seed(0)
    net = BERTConfig(2, 4, 32, dropout=0.0).build(SPEC).eval()
    for p in net.parameters():
        p.data.add_(torch.randn_like(p), alpha=0.1)
    layer = torch.nn.TransformerEncoderLayer(32, 4, 128, 0.0, "gelu", batch_first=True)
    torchs = torch.nn.TransformerEncoder(layer, 2, enable_nested_tensor=False).eval()
    for ours, theirs in zip(net.stack.blocks, torchs.layers, strict=True):
        copy(ours, theirs, None)
    ids, mask, segments = rows()
    x = net.embedding.weight[ids] + net.segments.weight[segments]
    x = net.norm(x + net.positions.table.weight[: ids.size(1)])
    expected = torchs(x, src_key_padding_mask=~mask)
    torch.testing.assert_close(net(ids, mask, segments)[mask], expected[mask], rtol=1e-5, atol=1e-5)
