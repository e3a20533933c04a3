"""ELMo: what each direction may know, characters, state, and torch's own LSTM as an independent reference."""

from __future__ import annotations

import dataclasses
from pathlib import Path

import pytest
import torch

from lit_lm.errors import InputError
from lit_lm.models import ELMoConfig
from lit_lm.nn.heads import ScalarMix
from tests.architectures import BIDIRECTIONAL, SPEC
from tests.models.test_properties import build

TINY = ELMoConfig(filters=[(1, 8), (2, 8)], num_highway=1, d_model=12, d_cell=20, dropout=0.0)


def rows(lengths: tuple[int, ...] = (9, 6, 1)) -> tuple[torch.Tensor, ...]:
    """ids, next, mask; and characters of the L + 1 tokens."""
    generator = torch.Generator().manual_seed(0)
    L = max(lengths)
    whole = torch.randint(5, SPEC.vocab_size, (len(lengths), L + 1), generator=generator)
    mask = torch.arange(L) < torch.tensor(lengths).unsqueeze(1)
    return whole[:, :-1], whole[:, 1:], mask, *characters(whole)


def characters(ids: torch.Tensor) -> tuple[torch.Tensor, torch.Tensor]:
    table = torch.randint(1, 260, (SPEC.vocab_size, 8), generator=torch.Generator().manual_seed(1))
    distinct, words = ids.unique(return_inverse=True)
    return table[distinct], words


def run(
    net: torch.nn.Module, ids: torch.Tensor, after: torch.Tensor, mask: torch.Tensor, state=None
):
    whole = torch.cat((ids, after[:, -1:]), dim=1)
    return net(ids, after, mask, chars=characters(whole), state=state)


@pytest.mark.parametrize("path", BIDIRECTIONAL, ids=lambda p: p.stem)
class TestBidirectional:
    def test_each_direction_knows_its_side_only(self, path: Path) -> None:
        net = build(path)
        ids, after, mask, *_ = rows()
        forward, backward, _ = run(net, ids, after, mask)
        changed = ids.clone()
        changed[0, 4] = (ids[0, 4] + 1 - 5) % 30 + 5  # also what stands behind position 3
        new_after = after.clone()
        new_after[0, 3] = changed[0, 4]
        f, b, _ = run(net, changed, new_after, mask)
        assert torch.allclose(forward[0, :4], f[0, :4], atol=1e-6)
        assert (forward - f)[0, 4:].abs().amax(-1).min() > 1e-6
        # From the right, position t has read the tokens behind it: 4 is read from position 3 down.
        assert torch.allclose(backward[0, 4:], b[0, 4:], atol=1e-6)
        assert (backward - b)[0, :4].abs().amax(-1).min() > 1e-6

    def test_padding_changes_nothing(self, path: Path) -> None:
        net = build(path)
        ids, after, mask, *_ = rows()
        forward, backward, _ = run(net, ids, after, mask)
        for row, length in enumerate(mask.sum(1).tolist()):
            f, b, _ = run(net, *(part[row : row + 1, :length] for part in (ids, after, mask)))
            torch.testing.assert_close(forward[row, :length], f[0], rtol=0, atol=1e-6)
            torch.testing.assert_close(backward[row, :length], b[0], rtol=0, atol=1e-6)

    def test_contextual_vectors_know_both_sides_and_no_padding(self, path: Path) -> None:
        net = build(path)
        ids, _, mask, *_ = rows()
        vectors = net.encode(ids, mask, chars=characters(ids))
        assert vectors.shape == (*ids.shape, net.dim)
        alone = net.encode(ids[1:2, :6], mask[1:2, :6], chars=characters(ids[1:2, :6]))
        torch.testing.assert_close(vectors[1, :6], alone[0], rtol=0, atol=1e-6)
        changed = ids.clone()
        changed[0, 4] = (ids[0, 4] + 1 - 5) % 30 + 5
        new = net.encode(changed, mask, chars=characters(changed))
        assert (vectors - new)[0].abs().amax(-1).min() > 1e-7
        layers, _ = net.encode_layers(mask, characters(ids))
        torch.testing.assert_close(ScalarMix(len(layers))(layers), vectors)

    def test_state_carries_the_text_before(self, path: Path) -> None:
        net = build(path)
        ids, after, mask, *_ = rows((8, 8))
        forward, _, state = run(net, ids, after, mask)
        halves = [
            tuple(part[:, half] for part in (ids, after, mask)) for half in (slice(4), slice(4, 8))
        ]
        first, _, middle = run(net, *halves[0])
        second, _, end = run(net, *halves[1], state=middle)
        torch.testing.assert_close(torch.cat((first, second), dim=1), forward, rtol=0, atol=1e-6)
        for one, other in zip(state, end, strict=True):
            torch.testing.assert_close(one, other, rtol=0, atol=1e-6)
        fresh, _, _ = run(net, *halves[1])
        assert (fresh - second).abs().max() > 1e-5

    def test_every_parameter_has_a_gradient(self, path: Path) -> None:
        net = build(path)
        ids, after, mask, *_ = rows()
        f, b, _ = run(net, ids, after, mask)
        (net.head(f).square().sum() + net.head(b).square().sum()).backward()
        for name, parameter in net.named_parameters():
            assert parameter.grad is not None, name


@pytest.mark.parametrize("direction", [0, 1])
def test_agrees_with_torchs_own_lstm(direction: int) -> None:
    torch.manual_seed(0)
    net = dataclasses.replace(TINY, cell_clip=None, projection_clip=None, num_layers=1).build(SPEC)
    layer = net.layers[0]
    torchs = torch.nn.LSTM(12, 20, batch_first=True, proj_size=12)
    torchs.load_state_dict(
        {
            "weight_ih_l0": layer.inputs[direction].weight,
            "bias_ih_l0": layer.inputs[direction].bias,
            "weight_hh_l0": layer.recurrent[direction].weight,
            "bias_hh_l0": torch.zeros(80),
            "weight_hr_l0": layer.projections[direction].weight,
        }
    )
    ids, after, mask, *_ = rows((7, 7))
    found = run(net, ids, after, mask)[direction]
    whole = torch.cat((ids, after[:, -1:]), dim=1)
    chars, words = characters(whole)
    x = net.tokens(chars)[words]
    inputs = x[:, :-1] if direction == 0 else x[:, 1:].flip(1)
    expected, _ = torchs(inputs)
    expected = expected if direction == 0 else expected.flip(1)
    torch.testing.assert_close(found, expected, rtol=1e-5, atol=1e-6)


def test_clipping_bounds_cells_and_outputs() -> None:
    net = dataclasses.replace(TINY, cell_clip=0.05, projection_clip=0.02, num_layers=1).build(SPEC)
    ids, after, mask, *_ = rows()
    f, b, state = run(net, ids, after, mask)
    assert f.abs().max() <= 0.02
    assert b.abs().max() <= 0.02
    assert state[0][1].abs().max() <= 0.05
    free = dataclasses.replace(TINY, cell_clip=None, projection_clip=None, num_layers=1).build(SPEC)
    assert run(free, ids, after, mask)[2][0][1].abs().max() > 0.05


def test_second_layer_has_a_residual() -> None:
    torch.manual_seed(0)
    net = TINY.build(SPEC)
    for linear in net.layers[1].projections:
        linear.weight.data.zero_()  # a layer that adds nothing
    ids, _, mask, *_ = rows()
    layers, _ = net.encode_layers(mask, characters(ids))
    torch.testing.assert_close(layers[2], layers[1])


def test_words_of_equal_characters_are_equal() -> None:
    net = TINY.build(SPEC)
    chars = torch.tensor([[257, 98, 99, 258, 0, 0, 0, 0], [257, 98, 100, 258, 0, 0, 0, 0]])
    same, other = net.tokens(chars)
    assert torch.equal(net.tokens(chars.flip(0))[1], same)
    assert not torch.allclose(same, other)


def test_scalar_mix_is_a_weighted_mean_of_layers() -> None:
    layers = [torch.full((2, 3), float(k)) for k in (1, 2, 6)]
    mix = ScalarMix(3)
    assert torch.allclose(mix(layers), torch.full((2, 3), 3.0))
    mix.weights.data = torch.tensor([0.0, 0.0, 50.0])
    mix.scale.data.fill_(2.0)
    assert torch.allclose(mix(layers), torch.full((2, 3), 12.0))


def test_data_without_characters_is_refused() -> None:
    with pytest.raises(InputError, match=r"set data\.characters"):
        TINY.build(dataclasses.replace(SPEC, max_characters=0))


def test_original_sizes() -> None:
    """Table 1 of the released models: 93.6 million without the softmax."""
    with torch.device("meta"):
        net = ELMoConfig().build(dataclasses.replace(SPEC, max_characters=50))
    body = sum(p.numel() for n, p in net.named_parameters() if not n.startswith("head"))
    assert body / 1e6 == pytest.approx(93.6, abs=0.1)
