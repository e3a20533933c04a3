"""What several works need: a full training step, ours and a peer's."""

from __future__ import annotations

from collections.abc import Callable
from contextlib import nullcontext
from typing import Any

import torch
from torch import Tensor, nn

from benchmarks.harness import Entrant
from lit_lm.nn.precision import cpu_multiplies_in
from lit_lm.optim import OptimConfig

OPTIM = OptimConfig(lr=1e-4, weight_decay=0.01)


def device() -> torch.device:
    """Where works run."""
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


def missing(dtype: torch.dtype) -> str:
    """Why a precision is not raced here; empty where it is."""
    if device().type == "cuda" or cpu_multiplies_in(dtype):
        return ""
    return f"this processor has no instructions for {str(dtype).removeprefix('torch.')}"


def ours(
    task: Any, batches: list[Any], units: float, dtype: torch.dtype = torch.float32
) -> Entrant:
    """A task's own step: its loss, backward, its optimizer."""

    def loss(batch: Any) -> Tensor:
        out = task.loss(batch)
        return out.total / out.targets

    return training(task, OPTIM.build(task), loss, batches, units, dtype)


def peer(
    module: nn.Module,
    loss: Callable[[Any], Tensor],
    batches: list[Any],
    units: float,
    dtype: torch.dtype = torch.float32,
) -> Entrant:
    """A peer's network under torch's AdamW, the same as ours."""
    optimizer = torch.optim.AdamW(
        module.parameters(),
        lr=OPTIM.lr,
        betas=OPTIM.betas,
        eps=OPTIM.eps,
        fused=True,
    )
    return training(module, optimizer, loss, batches, units, dtype)


def training(
    module: nn.Module,
    optimizer: torch.optim.Optimizer,
    loss: Callable[[Any], Tensor],
    batches: list[Any],
    units: float,
    dtype: torch.dtype,
) -> Entrant:
    """Forward, backward and optimizer step over all batches; gives the first batch's loss."""
    module.train()
    place = device()
    cast = nullcontext() if dtype == torch.float32 else torch.autocast(place.type, dtype)

    def step() -> float:
        first = None
        for batch in batches:
            optimizer.zero_grad(set_to_none=True)
            with cast:
                value = loss(batch)
            value.backward()
            optimizer.step()
            first = value.detach() if first is None else first
        return float(first)  # type: ignore[arg-type]

    return Entrant(step, units)
