"""LSTMs whose backward pass is written by hand, beside the same equations under autograd."""

from __future__ import annotations

from typing import Any

import pytest
import torch
from torch import Tensor
from torch.nn import functional as F

from lit_lm.nn.lstm import LSTMWeights, lstms

N, B, L, E, D, C = 2, 3, 5, 4, 3, 6
CASES: list[dict[str, Any]] = [
    {},
    {"cell_clip": 0.4, "projection_clip": 0.15},
    {"anew": True},
    {"anew": True, "cell_clip": 0.4, "projection_clip": 0.15},
]


def inputs(
    dtype: torch.dtype = torch.float64, sizes: tuple[int, ...] = (B, L, E, D, C)
) -> tuple[Tensor, ...]:
    """x, h, cell and the parts of each LSTM."""
    torch.manual_seed(0)
    rows, length, e, d, c = sizes
    shapes = [(N, rows, length, e), (N, rows, d), (N, rows, c)]
    shapes += [(4 * c, e), (4 * c,), (4 * c, d), (d, c)] * N
    return tuple(torch.randn(s, dtype=dtype).requires_grad_() for s in shapes)


def anew() -> Tensor:
    """True at some positions, the first of a row among them."""
    return torch.rand(N, B, L, generator=torch.Generator().manual_seed(1)) < 0.4


def split(parts: tuple[Tensor, ...]) -> list[LSTMWeights]:
    return [LSTMWeights(*parts[i : i + 4]) for i in range(0, len(parts), 4)]


def ours(case: dict[str, Any], x: Tensor, h: Tensor, cell: Tensor, *parts: Tensor) -> Any:
    settings = {key: value for key, value in case.items() if key != "anew"}
    start = anew()[:, : x.shape[1], : x.shape[2]] if "anew" in case else None
    return lstms(x, split(parts), (h, cell), start, **settings)


def plain(case: dict[str, Any], x: Tensor, h: Tensor, cell: Tensor, *parts: Tensor) -> Any:
    """A step of a row of an LSTM at a time."""
    far = float("inf")
    cell_clip, clip = case.get("cell_clip", far), case.get("projection_clip", far)
    outputs, cells = [], []
    for n, w in enumerate(split(parts)):
        for b in range(B):
            h_D, c_C = h[n, b], cell[n, b]
            for t in range(L):
                if "anew" in case and anew()[n, b, t]:
                    h_D, c_C = torch.zeros_like(h_D), torch.zeros_like(c_C)
                gates = F.linear(x[n, b, t], w.input, w.bias) + F.linear(h_D, w.recurrent)
                i, f, g, o = gates.chunk(4)
                c_C = (f.sigmoid() * c_C + i.sigmoid() * g.tanh()).clamp(-cell_clip, cell_clip)
                h_D = F.linear(o.sigmoid() * c_C.tanh(), w.projection).clamp(-clip, clip)
                outputs.append(h_D)
                cells.append(c_C)
    return torch.stack(outputs).view(N, B, L, D), torch.stack(cells).view(N, B, L, C)


@pytest.mark.parametrize("case", CASES, ids=str)
def test_equals_autograd(case: dict[str, Any]) -> None:
    """Outputs, and the gradients of all that goes in, from outputs and cells."""
    given = inputs()
    results = []
    for run in (ours, plain):
        found = run(case, *given)
        loss = sum((part.sin() * (k + 1)).sum() for k, part in enumerate(found))
        results.append((*found, *torch.autograd.grad(loss, given)))
    if "cell_clip" in case:  # they are reached, and not everywhere
        for part, most in zip(results[0], (0.15, 0.4), strict=False):
            assert 0.1 < (part.abs() == most).double().mean() < 0.9
    for a, b in zip(*results, strict=True):
        assert b.abs().max() > 0
        torch.testing.assert_close(a, b, rtol=1e-10, atol=1e-10)


@pytest.mark.parametrize("case", [CASES[0], CASES[2]], ids=str)
def test_gradients_are_the_slopes(case: dict[str, Any]) -> None:
    """Of every output in every input; hence the few of them."""
    few = inputs(sizes=(2, 4, 2, 2, 3))
    assert torch.autograd.gradcheck(lambda *given: ours(case, *given), few)


def test_gradients_of_outputs_or_cells_alone() -> None:
    given = inputs()
    for k in range(2):
        grads = [
            torch.autograd.grad(run({}, *given)[k].square().sum(), given[0])[0]
            for run in (ours, plain)
        ]
        torch.testing.assert_close(*grads, rtol=1e-10, atol=1e-10)


def test_backward_may_run_twice() -> None:
    """Nothing that was kept is written to."""
    given = inputs()
    out, _ = ours(CASES[3], *given)
    one, two = (torch.autograd.grad(out.sum(), given, retain_graph=True) for _ in range(2))
    assert all(torch.equal(a, b) for a, b in zip(one, two, strict=True))


def test_what_is_forgotten_may_be_nan() -> None:
    x, h, cell, *parts = inputs()
    start = torch.zeros(N, B, L, dtype=torch.bool)
    start[:, :, 0] = True
    bad = (torch.full_like(h, float("nan")), torch.full_like(cell, float("nan")))
    out, _ = lstms(x, split(tuple(parts)), bad, start)
    gradients = torch.autograd.grad(out.sum(), (x, *parts))
    assert all(g.isfinite().all() for g in (out, *gradients))


def test_bfloat16_under_autocast() -> None:
    given = inputs(torch.float32)
    with torch.autocast("cpu", torch.bfloat16):
        out, cells = ours(CASES[2], *given)
    assert out.dtype == cells.dtype == torch.bfloat16
    gradients = torch.autograd.grad(out.float().sin().sum(), given)
    exact = ours(CASES[2], *given)[0]
    expected = torch.autograd.grad(exact.sin().sum(), given)
    for a, b in zip((out.float(), *gradients), (exact, *expected), strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() < 0.1 * b.norm()
