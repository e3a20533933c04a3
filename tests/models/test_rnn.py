"""The RNN encoder-decoder: its parts against plain loops, torch's own recurrent nets and hand counts."""

from __future__ import annotations

import itertools

import pytest
import torch

from lit_lm.errors import InputError
from lit_lm.flops import cost
from lit_lm.models import RNN, RNNConfig
from tests.architectures import SPEC

CHOICES = [
    {"cell": cell, "attention": attention, "input_feeding": feeding, "num_layers": layers}
    for cell, attention, feeding, layers in itertools.product(
        ("lstm", "gru"), ("additive", "multiplicative"), (True, False), (1, 2)
    )
]
IDS = ["-".join(str(v) for v in choice.values()) for choice in CHOICES]
every_choice = pytest.mark.parametrize("choice", CHOICES, ids=IDS)
SOURCE_LENGTHS = [9, 5, 1]


def build(**choice: object) -> RNN:
    torch.manual_seed(0)
    sizes = {"d_model": 12, "d_hidden": 20, "dropout": 0.0, "init_range": 0.5}
    return RNNConfig(**(sizes | choice)).build(SPEC).eval()


def pairs() -> tuple[torch.Tensor, torch.Tensor, torch.Tensor]:
    draw = torch.Generator().manual_seed(1)
    src = torch.randint(4, SPEC.vocab_size, (3, 9), generator=draw)
    tgt = torch.randint(4, SPEC.vocab_size, (3, 7), generator=draw)
    tgt[:, 0] = SPEC.bos_id
    return src, torch.arange(9) < torch.tensor(SOURCE_LENGTHS).unsqueeze(1), tgt


def sources() -> tuple[torch.Tensor, torch.Tensor]:
    return pairs()[:2]


@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
def test_attention_agrees_with_plain_loops(attention: str) -> None:
    """Scores, weights, context and attentional vector from the papers' formulas, one position at a time."""
    net = build(attention=attention)
    src, mask = sources()
    encoded, memory = net.encode(src, mask), net._read(src, mask).memory
    states = torch.randn(3, 4, 20, generator=torch.Generator().manual_seed(2))
    vectors, weights = net._attend(states, memory)
    W_c = torch.cat((net.context.weight, net.output.weight), dim=1)
    for row, length in enumerate(SOURCE_LENGTHS):
        for t in range(4):
            s, scores = states[row, t], []
            for position in range(length):
                h = encoded[row, position]
                if attention == "additive":
                    inner = net.query.weight @ s + net.key.weight @ h
                    scores.append(net.score.weight[0] @ inner.tanh())
                else:
                    scores.append(s @ (net.key.weight @ h))
            exp = torch.stack(scores).exp()
            expected = exp / exp.sum()
            torch.testing.assert_close(weights[row, t, :length], expected, rtol=1e-5, atol=1e-6)
            context = sum(a * encoded[row, i] for i, a in enumerate(expected))
            vector = (W_c @ torch.cat((context, s))).tanh()
            torch.testing.assert_close(vectors[row, t], vector, rtol=1e-5, atol=1e-6)


@every_choice
def test_attention_weights_are_a_distribution_over_real_tokens(choice: dict[str, object]) -> None:
    src, mask, tgt = pairs()
    weights = build(**choice).attention_weights(src, mask, tgt)
    assert weights.shape == (3, 7, 9)
    assert (weights.transpose(1, 2)[~mask] == 0).all()
    assert (weights.transpose(1, 2)[mask] > 0).all()
    torch.testing.assert_close(weights.sum(2), torch.ones(3, 7))
    assert weights[0].std(0).max() > 1e-4  # different steps read different positions


@every_choice
def test_cached_equals_teacher_forced(choice: dict[str, object]) -> None:
    """Without input feeding this compares our cells, step by step, with one call of torch's own."""
    net = build(**choice)
    src, mask, tgt = pairs()
    whole = net.head(net(src, mask, tgt))
    logits, state = net.start(src, mask, 7)
    for t in range(7):
        torch.testing.assert_close(logits, whole[:, t], rtol=0, atol=1e-5)
        if t < 6:
            logits, state = net.step(tgt[:, t + 1], state)


@pytest.mark.parametrize("cell", ["lstm", "gru"])
@pytest.mark.parametrize("layers", [1, 2])
def test_input_feeding_is_a_longer_input(cell: str, layers: int) -> None:
    """Each step is one of torch's own recurrent net on the embedding and the last attentional vector."""
    net = build(cell=cell, num_layers=layers)
    src, mask, tgt = pairs()
    state = net._read(src, mask)
    past: object = torch.stack(state.hidden)
    if cell == "lstm":
        past = (past, torch.stack(state.cells))
    vector, expected = torch.zeros(3, 12), []
    for t in range(7):
        x = torch.cat((net._embed(tgt[:, t], net.tgt_embedding), vector), dim=1)
        out, past = net.decoder(x.unsqueeze(1), past)
        vector = net._attend(out, state.memory)[0].squeeze(1)
        expected.append(vector)
    torch.testing.assert_close(net(src, mask, tgt), torch.stack(expected, dim=1), rtol=0, atol=1e-5)


@every_choice
def test_source_padding_changes_nothing(choice: dict[str, object]) -> None:
    net = build(**choice)
    src, mask, tgt = pairs()
    together = net(src, mask, tgt)
    garbled = torch.where(mask, src, (src + 5) % SPEC.vocab_size)
    torch.testing.assert_close(net(garbled, mask, tgt), together, rtol=0, atol=0)
    for row, length in enumerate(SOURCE_LENGTHS):
        one = slice(row, row + 1)
        alone = net(src[one, :length], mask[one, :length], tgt[one])
        torch.testing.assert_close(alone, together[one], rtol=0, atol=1e-6)


@pytest.mark.parametrize("layers", [1, 2])
def test_encoder_reads_in_both_directions(layers: int) -> None:
    """Half of a state has seen the tokens up to its own, the other half those from its own on."""
    net = build(num_layers=layers)
    src, mask = sources()
    before = net.encode(src, mask)
    assert before.shape == (3, 9, net.dim)
    for row, length in enumerate(SOURCE_LENGTHS):
        for changed in {0, length - 1}:
            other = src.clone()
            other[row, changed] = 4 + (other[row, changed] - 3) % (SPEC.vocab_size - 4)
            moved = (net.encode(other, mask) - before).abs() > 1e-7
            forward, backward = moved[row, :length, :10].any(1), moved[row, :length, 10:].any(1)
            if layers == 1:
                assert forward.tolist() == [i >= changed for i in range(length)]
                assert backward.tolist() == [i <= changed for i in range(length)]
            else:  # the second layer's halves both read both halves of the first
                assert forward.all()
                assert backward.all()


@pytest.mark.parametrize("cell", ["lstm", "gru"])
def test_initial_state_is_made_of_both_directions_last_states(cell: str) -> None:
    """Against the last states that torch's own net gives for each row alone."""
    net = build(cell=cell, num_layers=2, num_decoder_layers=3)
    src, mask = sources()
    state = net._read(src, mask)
    for row, length in enumerate(SOURCE_LENGTHS):
        last = net.encoder(net._embed(src[row, :length], net.src_embedding))[1]
        hidden = last[0] if cell == "lstm" else last
        ends = torch.cat((hidden[-2], hidden[-1]))  # the top layer's, forward and backward
        expected = (net.initial.weight @ ends + net.initial.bias).tanh().view(-1, 20)
        found = torch.stack([part[row] for part in state.hidden + state.cells])
        torch.testing.assert_close(found, expected, rtol=0, atol=1e-6)
    assert (len(state.hidden), len(state.cells)) == (3, 3 if cell == "lstm" else 0)
    assert (state.attentional_BD == 0).all()


@every_choice
def test_beams_are_whole_rows(choice: dict[str, object]) -> None:
    """A beam goes on as a row of its own would have; rows may change their places and leave."""
    net = build(**choice)
    src, mask, tgt = pairs()
    _, state = net.start(src, mask, 7)
    logits, state = net.step(tgt[:, 1:3], state, torch.zeros(3, 2, dtype=torch.long))
    state = net.keep(state, [2, 0])
    parents = torch.tensor([[1, 0, 1], [0, 0, 1]])
    found, _ = net.step(tgt[[2, 0], 3:6], state, parents)
    for n, row in enumerate([2, 0]):
        one = slice(row, row + 1)
        for k, parent in enumerate(parents[n].tolist()):
            path = [1 + parent, 3 + k]
            _, alone = net.start(src[one], mask[one], 7)
            for at in path:
                expected, alone = net.step(tgt[one, at], alone)
                if at == 1 + parent:
                    torch.testing.assert_close(logits[row, parent], expected[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(found[n, k], expected[0], rtol=0, atol=1e-6)


@every_choice
def test_every_parameter_learns(choice: dict[str, object]) -> None:
    """Each has a gradient, also where embeddings are not shared: nothing is left unused."""
    for tied in (True, False):
        net = build(**choice, tie_embeddings=tied).train()
        src, mask, tgt = pairs()
        net.head(net(src, mask, tgt)).square().sum().backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name
            assert parameter.grad.isfinite().all(), name
            assert parameter.grad.abs().sum() > 0, name


def test_tied_embeddings_are_one_matrix() -> None:
    net = build(tie_embeddings=True)
    assert net.head.weight is net.tgt_embedding.weight is net.src_embedding.weight
    net = build(tie_embeddings=False)
    assert len({id(m.weight) for m in (net.head, net.tgt_embedding, net.src_embedding)}) == 3


@pytest.mark.parametrize("width", [64, 256])
def test_embeddings_start_with_unit_variance(width: int) -> None:
    """Whatever the width, and though the output layer shares them: small inputs would learn slowly."""
    net = build(d_model=width)
    x = net._embed(torch.arange(SPEC.vocab_size), net.src_embedding)
    assert x.std().item() == pytest.approx(1.0, abs=0.1)


@every_choice
def test_bfloat16(choice: dict[str, object]) -> None:
    """Under autocast, training and decoding stay finite and near full precision."""
    net = build(**choice)
    src, mask, tgt = pairs()
    exact = net.head(net(src, mask, tgt))
    with torch.autocast("cpu", dtype=torch.bfloat16):
        rough = net.head(net(src, mask, tgt))
        logits, state = net.start(src, mask, 7)
        state = net.keep(state, [0, 1, 2])
        second, _ = net.step(tgt[:, 1], state)
    assert rough.dtype == torch.bfloat16
    scale = exact.std().item()
    for found, expected in ((rough, exact), (logits, exact[:, 0]), (second, exact[:, 1])):
        torch.testing.assert_close(found.float(), expected, rtol=0, atol=0.2 * scale)
    rough.float().square().sum().backward()
    assert all(p.grad is not None and p.grad.isfinite().all() for p in net.parameters())


def test_flops_by_hand() -> None:
    D, H, V, S, T = 12, 20, SPEC.vocab_size, 9, 7
    encoder = 2 * 4 * (H // 2) * (D + H // 2)  # two directions of four gates
    decoder = 4 * H * (D + D + H)  # embedding, attentional vector, state
    source = S * (encoder + H * H + H * D)
    target = T * (decoder + H * D + D * V) + T * S * (H + D)
    assert build().row_flops(S, T) == 2 * (source + target + H * 2 * H)
    assert cost(build(), S, T).forward_flops_per_token * T == build().row_flops(S, T)


def test_dropout_only_in_training() -> None:
    net = build(dropout=0.5, num_layers=2)
    src, mask, tgt = pairs()
    assert torch.equal(net(src, mask, tgt), net(src, mask, tgt))
    net.train()
    assert not torch.equal(net(src, mask, tgt), net(src, mask, tgt))
    for part in (net.encoder, net.decoder):
        assert part.dropout == 0.5


def test_odd_width_is_refused() -> None:
    with pytest.raises(InputError, match="d_hidden=21"):
        build(d_hidden=21)
