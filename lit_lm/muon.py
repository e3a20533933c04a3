"""Muon: orthogonalised momentum for matrices (Jordan 2024, https://kellerjordan.github.io/posts/muon).

``torch.optim.Muon`` with two differences. It works in single precision on a CPU: many CPUs have no bfloat16
products, and two thirds of a small network's training time went into imitating them. And matrices of one shape are
orthogonalised together.
"""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Iterable
from typing import Any

import torch
from torch import Tensor

# A quintic that lifts small singular values fast; they end between about 0.7 and 1.2.
_COEFFICIENTS = (3.4445, -4.7750, 2.0315)


def orthogonalise(matrices_NRC: Tensor, *, steps: int = 5, eps: float = 1e-7) -> Tensor:
    """The nearest matrices of which all singular values are about 1, by Newton-Schulz iterations.

    Args:
        matrices_NRC: float (N, R, C): N matrices.
        steps: iterations.
        eps: least norm to divide by.

    Returns:
        float (N, R, C).
    """
    a, b, c = _COEFFICIENTS
    tall = matrices_NRC.size(1) > matrices_NRC.size(2)
    x = matrices_NRC.mT if tall else matrices_NRC
    x = x / torch.linalg.matrix_norm(x, keepdim=True).clamp(min=eps)
    for _ in range(steps):
        gram = torch.bmm(x, x.mT)
        x = torch.baddbmm(x, torch.baddbmm(gram, gram, gram, beta=b, alpha=c), x, beta=a)
    return x.mT if tall else x


class Muon(torch.optim.Optimizer):
    """Nesterov momentum, orthogonalised, with decoupled weight decay.

    Args:
        params: matrices, or groups of them.
        lr: learning rate; a matrix of R rows and C columns takes sqrt(max(1, R / C)) times as much.
        weight_decay: pull towards zero.
        momentum: share of the past in the running mean of gradients.
    """

    def __init__(
        self,
        params: Iterable[Tensor] | Iterable[dict[str, Any]],
        lr: float = 0.02,
        weight_decay: float = 0.0,
        momentum: float = 0.95,
    ) -> None:
        super().__init__(params, {"lr": lr, "weight_decay": weight_decay, "momentum": momentum})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step; matrices without a gradient stay as they are."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for group in self.param_groups:
            alike: dict[Any, list[Tensor]] = defaultdict(list)
            for matrix in group["params"]:
                if matrix.grad is not None:
                    alike[matrix.shape, matrix.device, matrix.dtype].append(matrix)
            for matrices in alike.values():
                self._update(matrices, group)
        return loss

    def _update(self, matrices: list[Tensor], group: dict[str, Any]) -> None:
        """Updates matrices of one shape."""
        momentum, lr = group["momentum"], float(group["lr"])
        for matrix in matrices:
            if not self.state[matrix]:
                self.state[matrix]["momentum_buffer"] = torch.zeros_like(matrix)
        means = [self.state[matrix]["momentum_buffer"] for matrix in matrices]
        gradients = [matrix.grad for matrix in matrices if matrix.grad is not None]
        # One launch for all of them, where a GPU would wait for many.
        torch._foreach_lerp_(means, gradients, 1 - momentum)
        together = torch.stack(torch._foreach_lerp(gradients, means, momentum))
        together = together.bfloat16() if together.is_cuda else together.float()
        R, C = matrices[0].shape
        rate = lr * math.sqrt(max(1, R / C))
        updates = orthogonalise(together).to(matrices[0].dtype).unbind()
        torch._foreach_mul_(matrices, 1 - lr * group["weight_decay"])
        torch._foreach_add_(matrices, updates, alpha=-rate)
