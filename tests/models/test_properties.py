"""Properties that every architecture of its kind must have, over all files in configs/model."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch
from torch.utils.flop_counter import FlopCounterMode

from lit_lm import generation
from lit_lm.flops import TRAINING_FACTOR, cost
from lit_lm.generation import Beam
from lit_lm.models import CausalNetwork, GPTConfig, Seq2SeqNetwork, TransformerConfig
from tests.architectures import (
    BIDIRECTIONAL,
    CAUSAL,
    ENCODERS,
    FILES,
    MASKED,
    SEQ2SEQ,
    SPEC,
    changed,
    load,
    small,
)

POSITIONS = ["learned", "sinusoidal", "rotary", "none"]


def build(path: Path, **changes: object) -> torch.nn.Module:
    torch.manual_seed(0)
    net = changed(small(path), **changes).build(SPEC)  # an RNN has no positions to choose
    for p in net.parameters():  # fresh biases are zeros and norms ones: they would hide mistakes
        p.data.add_(torch.randn_like(p), alpha=0.05)
    return net.eval()


def causal_logits(net: CausalNetwork, ids: torch.Tensor) -> torch.Tensor:
    return net.head(net(ids))


def seq2seq_logits(
    net: Seq2SeqNetwork, src: torch.Tensor, mask: torch.Tensor, tgt: torch.Tensor
) -> torch.Tensor:
    return net.head(net(src, mask, tgt))


def text(rows: int, length: int, seed: int = 0) -> torch.Tensor:
    return torch.randint(
        4, SPEC.vocab_size, (rows, length), generator=torch.Generator().manual_seed(seed)
    )


def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    src, tgt = text(3, 9), text(3, 7, seed=1)
    mask = torch.arange(9) < torch.tensor([9, 5, 1]).unsqueeze(1)
    tgt[:, 0] = SPEC.bos_id
    return src, mask, tgt


def test_configs_exist() -> None:
    kinds = [CAUSAL, SEQ2SEQ, MASKED, BIDIRECTIONAL, ENCODERS]
    assert all(kinds)
    assert sorted(path for kind in kinds for path in kind) == FILES


@pytest.mark.parametrize("path", CAUSAL, ids=lambda p: p.stem)
@pytest.mark.parametrize("positions", POSITIONS)
class TestCausal:
    def test_future_tokens_change_nothing(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids = text(2, 12)
        changed = ids.clone()
        changed[:, 7:] = text(2, 5, seed=9)
        before, after = causal_logits(net, ids), causal_logits(net, changed)
        torch.testing.assert_close(before[:, :7], after[:, :7], rtol=0, atol=1e-6)
        assert not torch.allclose(before[:, 7:], after[:, 7:], atol=1e-3)

    def test_padding_changes_nothing(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids = text(1, 6)
        padded = torch.cat((ids, torch.full((1, 5), SPEC.pad_id)), dim=1)
        torch.testing.assert_close(
            causal_logits(net, padded)[:, :6], causal_logits(net, ids), rtol=0, atol=1e-5
        )

    def test_cached_equals_uncached(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, lengths = text(3, 20), torch.tensor([7, 4, 1])
        logits, state = net.start(ids[:, :7], lengths, 20)
        for step in range(12):
            for row, length in enumerate(lengths.tolist()):
                whole = causal_logits(net, ids[row : row + 1, : length + step])[0, -1]
                torch.testing.assert_close(logits[row], whole, rtol=0, atol=1e-5)
            logits, state = net.step(ids[torch.arange(3), lengths + step], state)

    def test_batched_equals_single(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, lengths = text(3, 7), torch.tensor([7, 4, 2])
        settings = {"max_new_tokens": 12, "eos_id": SPEC.eos_id}
        together = generation.generate(net, *net.start(ids, lengths, 19), **settings)
        for row, length in enumerate(lengths.tolist()):
            alone = net.start(ids[row : row + 1, :length], lengths[row : row + 1], length + 12)
            assert generation.generate(net, *alone, **settings)[0].ids == together[row].ids

    def test_beam_of_one_is_greedy(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        ids, lengths = text(3, 7), torch.tensor([7, 4, 2])
        settings = {"max_new_tokens": 12, "eos_id": SPEC.eos_id}
        greedy = generation.generate(net, *net.start(ids, lengths, 19), **settings)
        found = generation.beam_search(
            net, *net.start(ids, lengths, 19), **settings, beam=Beam(size=1, length_penalty=0)
        )
        assert [hypotheses[0].ids for hypotheses in found] == [h.ids for h in greedy]


@pytest.mark.parametrize("path", SEQ2SEQ, ids=lambda p: p.stem)
@pytest.mark.parametrize("positions", POSITIONS)
class TestSeq2Seq:
    def test_future_targets_change_nothing(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        src, mask, tgt = pairs()
        changed = tgt.clone()
        changed[:, 4:] = text(3, 3, seed=9)
        before = seq2seq_logits(net, src, mask, tgt)
        after = seq2seq_logits(net, src, mask, changed)
        torch.testing.assert_close(before[:, :4], after[:, :4], rtol=0, atol=1e-5)
        assert not torch.allclose(before[:, 4:], after[:, 4:], atol=1e-3)

    def test_source_padding_changes_nothing(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        src, mask, tgt = pairs()
        logits = seq2seq_logits(net, src, mask, tgt)
        other = torch.where(mask, src, text(3, 9, seed=5))
        torch.testing.assert_close(seq2seq_logits(net, other, mask, tgt), logits, rtol=0, atol=1e-6)
        short = seq2seq_logits(net, src[1:2, :5], mask[1:2, :5], tgt[1:2])
        torch.testing.assert_close(short, logits[1:2], rtol=0, atol=1e-5)

    def test_every_source_token_matters(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        src, mask, tgt = pairs()
        logits = seq2seq_logits(net, src, mask, tgt)
        for position in range(src.size(1)):
            other = src.clone()
            other[0, position] = (other[0, position] - 3) % (SPEC.vocab_size - 4) + 4
            assert not torch.allclose(
                seq2seq_logits(net, other, mask, tgt)[0], logits[0], atol=1e-5
            )

    def test_cached_equals_uncached(self, path: Path, positions: str) -> None:
        net = build(path, positions=positions)
        src, mask, tgt = pairs()
        whole = seq2seq_logits(net, src, mask, tgt)
        logits, state = net.start(src, mask, tgt.size(1))
        for step in range(tgt.size(1)):
            torch.testing.assert_close(logits, whole[:, step], rtol=0, atol=1e-5)
            if step + 1 < tgt.size(1):
                logits, state = net.step(tgt[:, step + 1], state)

    def test_beam_of_one_is_greedy_and_batched_equals_single(
        self, path: Path, positions: str
    ) -> None:
        net = build(path, positions=positions)
        src, mask, _ = pairs()
        settings = {"max_new_tokens": 12, "eos_id": SPEC.eos_id}
        greedy = generation.generate(net, *net.start(src, mask, 12), **settings)
        beam = Beam(size=1, length_penalty=0)
        found = generation.beam_search(net, *net.start(src, mask, 12), **settings, beam=beam)
        assert [hypotheses[0].ids for hypotheses in found] == [h.ids for h in greedy]
        wide = generation.beam_search(net, *net.start(src, mask, 12), **settings, beam=Beam(size=4))
        for row in range(3):
            length = int(mask[row].sum())
            one = net.start(src[row : row + 1, :length], mask[row : row + 1, :length], 12)
            assert generation.generate(net, *one, **settings)[0].ids == greedy[row].ids
            alone = generation.beam_search(
                net, *one_start(net, src, mask, row), **settings, beam=Beam(size=4)
            )
            assert [h.ids for h in alone[0]] == [h.ids for h in wide[row]]


def one_start(
    net: Seq2SeqNetwork, src: torch.Tensor, mask: torch.Tensor, row: int
) -> tuple[torch.Tensor, object]:
    length = int(mask[row].sum())
    return net.start(src[row : row + 1, :length], mask[row : row + 1, :length], 12)


@pytest.mark.parametrize("path", [p for p in FILES if p not in ENCODERS], ids=lambda p: p.stem)
def test_flops_agree_with_torch(path: Path) -> None:
    with torch.device("meta"):
        net = changed(load(path), num_layers=2).build(dataclasses.replace(SPEC, vocab_size=500))
        ids = torch.zeros(1, 10, dtype=torch.long)
        chars = (torch.zeros(13, 8, dtype=torch.long), torch.zeros(1, 11, dtype=torch.long))
        with FlopCounterMode(display=False) as counter:
            if path in CAUSAL:
                out = net.head(net(ids))
            elif path in SEQ2SEQ:
                out = net.head(net(ids, ids == 0, ids[:, :8]))
            elif path in MASKED:
                h = net(ids, ids == 0, ids)
                out = net.head(h[:, :3]).sum() + net.next_sentence(h).sum()
            else:
                f, b, _ = net(ids, ids, ids == 0, chars=chars)
                out = net.head(f).sum() + net.head(b).sum()
        forward = counter.get_total_flops()
        with counter:
            out.sum().backward()
    lengths = {"pair": (10, 8), "masked": (10, 3), "both": (10, 13)}.get(kind_of(path), (10,))
    found = net.row_flops(*lengths)
    assert found == pytest.approx(forward, rel=0.02)
    # The first layer's inputs need no gradient; everything else is done twice more backward.
    assert TRAINING_FACTOR * found == pytest.approx(counter.get_total_flops() + forward, rel=0.06)


def kind_of(path: Path) -> str:
    kinds = {"pair": SEQ2SEQ, "masked": MASKED, "both": BIDIRECTIONAL}
    return next((kind for kind, paths in kinds.items() if path in paths), "causal")


def test_parameters_are_counted_once() -> None:
    net = GPTConfig(num_layers=1, num_heads=2, d_model=16).build(SPEC)
    assert cost(net, 8).parameters == sum(p.numel() for p in set(net.parameters()))
    assert cost(net, 8).embedding_parameters == (SPEC.vocab_size + SPEC.max_length) * 16


@pytest.mark.parametrize(
    ("config", "millions"),
    [
        (
            GPTConfig(num_layers=12, num_heads=12, d_model=768, max_length=1024),
            124.4,
        ),  # GPT-2 small
        (GPTConfig(num_layers=48, num_heads=25, d_model=1600, max_length=1024), 1557.6),  # GPT-2 XL
    ],
)
def test_published_sizes(config: GPTConfig, millions: float) -> None:
    with torch.device("meta"):
        net = config.build(dataclasses.replace(SPEC, vocab_size=50257))
    assert cost(net, 1024).parameters / 1e6 == pytest.approx(millions, abs=0.05)


def test_transformer_base_is_the_papers() -> None:
    with torch.device("meta"):
        net = TransformerConfig().build(dataclasses.replace(SPEC, vocab_size=37000))
    assert cost(net, 25, 25).parameters / 1e6 == pytest.approx(
        63.0, abs=0.5
    )  # "65 x 10^6" in table 3


def test_transformer_agrees_with_torchs_own() -> None:
    """nn.Transformer, an independent implementation, with the same weights gives the same vectors."""
    for norm_first in (False, True):
        torch.manual_seed(0)
        config = TransformerConfig(2, None, 4, 32, 64, dropout=0.0, norm_first=norm_first)
        net = config.build(SPEC).eval()
        for p in net.parameters():
            p.data.add_(torch.randn_like(p), alpha=0.1)
        torchs = torch.nn.Transformer(
            32, 4, 2, 2, 64, 0.0, batch_first=True, norm_first=norm_first
        ).eval()
        if not norm_first:
            torchs.encoder.norm = torchs.decoder.norm = None
        else:
            torchs.encoder.norm.load_state_dict(net.encoder.norm.state_dict())
            torchs.decoder.norm.load_state_dict(net.decoder.norm.state_dict())
        for ours, theirs in zip(net.encoder.blocks, torchs.encoder.layers, strict=True):
            copy(ours, theirs, None)
        for ours, theirs in zip(net.decoder.blocks, torchs.decoder.layers, strict=True):
            copy(ours, theirs, theirs.multihead_attn)
        src, mask, tgt = pairs()
        expected = torchs(
            net._embed(src, net.src_embedding, net.src_positions),
            net._embed(tgt, net.tgt_embedding, net.tgt_positions),
            tgt_mask=torch.ones(7, 7, dtype=torch.bool).triu(1),
            src_key_padding_mask=~mask,
            memory_key_padding_mask=~mask,
        )
        torch.testing.assert_close(net(src, mask, tgt), expected, rtol=1e-5, atol=1e-5)


def copy(ours: torch.nn.Module, theirs: torch.nn.Module, cross: torch.nn.Module | None) -> None:
    theirs.self_attn.load_state_dict(joined(ours.attention))
    norms = [ours.norm_attention, ours.norm_feed_forward]
    if cross is not None:
        cross.load_state_dict(joined(ours.cross_attention))
        norms.insert(1, ours.norm_cross)
    theirs.linear1.load_state_dict(ours.feed_forward.up.state_dict())
    theirs.linear2.load_state_dict(ours.feed_forward.down.state_dict())
    for i, norm in enumerate(norms, 1):
        getattr(theirs, f"norm{i}").load_state_dict(norm.state_dict())


def joined(attention: torch.nn.Module) -> dict[str, torch.Tensor]:
    """Weights as torch's own attention names them."""
    parts = (attention.q, attention.k, attention.v)
    return {
        "in_proj_weight": torch.cat([part.weight for part in parts]),
        "in_proj_bias": torch.cat([part.bias for part in parts]),
        "out_proj.weight": attention.out.weight,
        "out_proj.bias": attention.out.bias,
    }
