"""LSTMs with projection (Sak et al. 2014) and clipping that run side by side, with their backward pass written by hand.

What autograd would do a step at a time is done once for all steps: the gradients of the weights are one large product
each, and gates are kept in one place.

Shape letters: N LSTMs, B rows, L positions, E width of inputs, D width of outputs, C width of a cell.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor
from torch.autograd.function import once_differentiable

from lit_lm.nn.precision import product_dtype

sigmoid_backward = torch.ops.aten.sigmoid_backward
tanh_backward = torch.ops.aten.tanh_backward


class LSTMWeights(NamedTuple):
    """Of one LSTM: gates in the order of ``nn.LSTM`` (input, forget, cell, output), one bias for both products.

    Args:
        input: float (4 C, E).
        bias: float (4 C).
        recurrent: float (4 C, D).
        projection: float (D, C).
    """

    input: Tensor
    bias: Tensor
    recurrent: Tensor
    projection: Tensor


def lstms(
    x_NBLE: Tensor,
    weights: Sequence[LSTMWeights],
    state: tuple[Tensor, Tensor] | None = None,
    anew_NBL: Tensor | None = None,
    *,
    cell_clip: float | None = None,
    projection_clip: float | None = None,
) -> tuple[Tensor, Tensor]:
    """Runs each LSTM along its own rows. Under autocast all of it is in that precision.

    Args:
        x_NBLE: float inputs.
        weights: of each LSTM.
        state: float (N, B, D) outputs and (N, B, C) cells to go on from; zeros when None.
        anew_NBL: bool, True where all that was read before is forgotten; nowhere when None.
        cell_clip: most that a cell may hold. No gradient gets through one that holds so much; None for no bound.
        projection_clip: likewise of outputs.

    Returns:
        Outputs, float (N, B, L, D), and cells, float (N, B, L, C).
    """
    dtype = product_dtype(x_NBLE)
    N, B = x_NBLE.shape[:2]
    D, C = weights[0].projection.shape
    h, cell = state or (x_NBLE.new_zeros(N, B, D), x_NBLE.new_zeros(N, B, C))
    anew_NLB1 = None if anew_NBL is None else anew_NBL.transpose(1, 2).unsqueeze(-1)
    parts = (part.to(dtype) for one in weights for part in one)
    # Positions before rows: a step's rows lie side by side.
    x_NLBE = x_NBLE.to(dtype).transpose(1, 2).contiguous()
    out_NLBD, cells_NLBC = _LSTMs.apply(  # type: ignore[no-untyped-call]
        x_NLBE, h.to(dtype), cell.to(dtype), anew_NLB1, cell_clip, projection_clip, *parts
    )
    return out_NLBD.transpose(1, 2), cells_NLBC.transpose(1, 2)


class _LSTMs(torch.autograd.Function):
    @staticmethod
    def forward(
        ctx: Any,
        x: Tensor,
        h: Tensor,
        cell: Tensor,
        anew: Tensor | None,
        cell_clip: float | None,
        projection_clip: float | None,
        *parts: Tensor,
    ) -> tuple[Tensor, Tensor]:
        N, L, B, E = x.shape
        weights = [LSTMWeights(*parts[i : i + 4]) for i in range(0, len(parts), 4)]
        D, C = weights[0].projection.shape
        gates, outputs = x.new_empty(N, L, B, 4 * C), x.new_empty(N, L, B, D)
        cells, tanhs, hidden = (x.new_empty(N, L, B, C) for _ in range(3))
        for n, w in enumerate(weights):
            torch.addmm(w.bias, x[n].view(-1, E), w.input.t(), out=gates[n].view(-1, 4 * C))
        # Turned round once: products of few rows are quicker with these.
        recurrent_ND4 = torch.stack([w.recurrent.t() for w in weights])
        project_NCD = torch.stack([w.projection.t() for w in weights])
        first = (h, cell)
        for t in range(L):
            if anew is not None:  # filled, not multiplied: not even a NaN gets across
                h, cell = h.masked_fill(anew[:, t], 0.0), cell.masked_fill(anew[:, t], 0.0)
            _add_products(gates[:, t], h, recurrent_ND4)
            gates[:, t, :, : 2 * C].sigmoid_()
            gates[:, t, :, 2 * C : 3 * C].tanh_()
            gates[:, t, :, 3 * C :].sigmoid_()
            i, f, g, o = gates[:, t].chunk(4, dim=-1)
            cell = torch.mul(f, cell, out=cells[:, t]).addcmul_(i, g)
            if cell_clip is not None:
                cell.clamp_(-cell_clip, cell_clip)
            torch.tanh(cell, out=tanhs[:, t])
            torch.mul(o, tanhs[:, t], out=hidden[:, t])
            h = _products(hidden[:, t], project_NCD, outputs[:, t])
            if projection_clip is not None:
                h.clamp_(-projection_clip, projection_clip)
        ctx.clips = (cell_clip, projection_clip)
        ctx.save_for_backward(x, *first, anew, outputs, cells, gates, tanhs, hidden, *parts)
        ctx.set_materialize_grads(False)
        return outputs, cells

    @staticmethod
    @once_differentiable
    def backward(
        ctx: Any, d_outputs: Tensor | None, d_cells: Tensor | None
    ) -> tuple[Tensor | None, ...]:
        x, h0, cell0, anew, outputs, cells, gates, tanhs, hidden, *parts = ctx.saved_tensors
        cell_clip, projection_clip = ctx.clips
        N, L, _, E = x.shape
        weights = [LSTMWeights(*parts[i : i + 4]) for i in range(0, len(parts), 4)]
        D, C = weights[0].projection.shape
        recurrent_N4D = [w.recurrent for w in weights]
        project_NDC = [w.projection for w in weights]
        d_gates, dh_all = torch.empty_like(gates), torch.empty_like(outputs)
        dh, dc = torch.zeros_like(h0), torch.zeros_like(cell0)
        dm = torch.empty_like(cell0)
        for t in range(L - 1, -1, -1):
            i, f, g, o = gates[:, t].chunk(4, dim=-1)
            di, df, dg, do = d_gates[:, t].chunk(4, dim=-1)
            dh = dh if d_outputs is None else dh + d_outputs[:, t]
            if projection_clip is not None:
                dh = dh.masked_fill(outputs[:, t].abs() >= projection_clip, 0.0)
            dh_all[:, t] = dh
            _products(dh_all[:, t], project_NDC, dm)
            sigmoid_backward(dm * tanhs[:, t], o, grad_input=do)
            dc = dc + tanh_backward(dm.mul_(o), tanhs[:, t])
            if d_cells is not None:
                dc = dc + d_cells[:, t]
            if cell_clip is not None:
                dc = dc.masked_fill(cells[:, t].abs() >= cell_clip, 0.0)
            before = cells[:, t - 1] if t else cell0
            if anew is not None:
                before = before.masked_fill(anew[:, t], 0.0)
            sigmoid_backward(dc * g, i, grad_input=di)
            sigmoid_backward(dc * before, f, grad_input=df)
            tanh_backward(dc * i, g, grad_input=dg)
            dc = dc * f
            dh = _products(d_gates[:, t], recurrent_N4D, torch.empty_like(h0))
            if anew is not None:
                dh, dc = dh.masked_fill(anew[:, t], 0.0), dc.masked_fill(anew[:, t], 0.0)
        read = torch.cat((h0.unsqueeze(1), outputs[:, :-1]), dim=1)
        if anew is not None:
            read = read.masked_fill(anew, 0.0)
        d_parts: list[Tensor] = []
        for n in range(N):
            d_gates_M4 = d_gates[n].view(-1, 4 * C)
            d_parts += LSTMWeights(
                input=d_gates_M4.t() @ x[n].view(-1, E),
                bias=d_gates_M4.sum(0),
                recurrent=d_gates_M4.t() @ read[n].view(-1, D),
                projection=dh_all[n].view(-1, D).t() @ hidden[n].view(-1, C),
            )
        dx = None
        if ctx.needs_input_grad[0]:
            dx = torch.empty_like(x)
            for n, w in enumerate(weights):
                torch.mm(d_gates[n].view(-1, 4 * C), w.input, out=dx[n].view(-1, E))
        return dx, dh, dc, None, None, None, *d_parts


def _products(a_N: Tensor, b_N: Sequence[Tensor] | Tensor, out_N: Tensor) -> Tensor:
    """The product of each two matrices, written to ``out_N``: one by one, which a CPU does faster than a batch."""
    for a, b, out in zip(a_N, b_N, out_N, strict=True):
        torch.mm(a, b, out=out)
    return out_N


def _add_products(sum_N: Tensor, a_N: Tensor, b_N: Tensor) -> None:
    for a, b, out in zip(a_N, b_N, sum_N, strict=True):
        torch.addmm(out, a, b, out=out)
