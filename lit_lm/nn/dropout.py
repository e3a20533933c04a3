"""Dropout (Srivastava et al. 2014, https://jmlr.org/papers/v15/srivastava14a.html) that is quick on CPUs.

PyTorch draws one number after another there, which took an eighth of a small Transformer's training time. Here four
numbers of 16 bits come of one draw.
"""

from __future__ import annotations

from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

_STEPS = 1 << 16


class Dropout(nn.Dropout):
    """``nn.Dropout``, by :func:`dropout`."""

    def forward(self, x: Tensor) -> Tensor:
        """Float of any shape to the same."""
        return dropout(x, self.p) if self.training else x


def dropout(x: Tensor, rate: float) -> Tensor:
    """Sets elements to 0 at random, and scales the others up.

    Args:
        x: float, any shape.
        rate: probability that an element is dropped; on a CPU in steps of 1 / 65,536.
    """
    if x.device.type != "cpu" or torch.compiler.is_compiling():
        return F.dropout(x, rate)
    dropped = round(rate * _STEPS)
    if not 0 < dropped < _STEPS:
        return F.dropout(x, rate)
    out: Tensor = _Dropout.apply(x, dropped)  # type: ignore[no-untyped-call]
    return out


class _Dropout(torch.autograd.Function):
    @staticmethod
    def forward(ctx: Any, x: Tensor, dropped: int) -> Tensor:
        keep = _bits(x) >= dropped - _STEPS // 2
        ctx.save_for_backward(keep)
        ctx.scale = _STEPS / (_STEPS - dropped)
        return (x * keep).mul_(ctx.scale)

    @staticmethod
    def backward(ctx: Any, *outputs: Tensor) -> tuple[Tensor, None]:
        (keep,) = ctx.saved_tensors
        return (outputs[0] * keep).mul_(ctx.scale), None


def _bits(x: Tensor) -> Tensor:
    """int16 of a tensor's shape, all 65,536 numbers equally likely."""
    wide = torch.empty((x.numel() + 3) // 4, dtype=torch.int64).random_(-(1 << 63), None)
    return wide.view(torch.int16)[: x.numel()].view(x.shape)
