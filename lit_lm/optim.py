"""Optimizers and learning-rate schedules: one configuration for every task."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Literal

import torch
from torch import nn


@dataclass(frozen=True)
class OptimConfig:
    """How weights are updated.

    Args:
        optimizer: "adamw" (Loshchilov and Hutter 2019, decoupled weight decay) or "adam".
        lr: peak learning rate.
        betas: decay rates of the gradient's first and second moment.
        eps: added to the root of the second moment.
        weight_decay: pull of matrices towards zero; vectors (biases, norms) are left alone.
        schedule: "inverse_sqrt" (Vaswani et al. 2017, section 5.3), "cosine" or "linear" decay to
            ``min_lr_ratio`` at the end of training, or "constant". All but "constant" warm up linearly.
        warmup_steps: optimizer steps until the peak.
        min_lr_ratio: last learning rate of "cosine" and "linear", as a share of the peak.
    """

    optimizer: Literal["adamw", "adam"] = "adamw"
    lr: float = 1e-3
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    schedule: Literal["constant", "inverse_sqrt", "cosine", "linear"] = "constant"
    warmup_steps: int = 0
    min_lr_ratio: float = 0.0

    def build(self, module: nn.Module) -> torch.optim.Optimizer:
        """The optimizer over ``module``'s trainable parameters."""
        parameters = [p for p in module.parameters() if p.requires_grad]
        groups = [
            {"params": [p for p in parameters if p.dim() >= 2], "weight_decay": self.weight_decay},
            {"params": [p for p in parameters if p.dim() < 2], "weight_decay": 0.0},
        ]
        kind = torch.optim.AdamW if self.optimizer == "adamw" else torch.optim.Adam
        fused = any(p.is_cuda for p in parameters)
        return kind(
            [g for g in groups if g["params"]],
            lr=self.lr,
            betas=self.betas,
            eps=self.eps,
            fused=fused,
        )

    def factor(self, step: int, progress: float) -> float:
        """The learning rate at ``step`` as a share of the peak.

        Args:
            step: optimizer steps taken so far.
            progress: share of the training budget used so far, 0 to 1.
        """
        if self.schedule == "constant":
            return 1.0
        warm = (step + 1) / max(self.warmup_steps, 1)
        if warm < 1:
            return warm
        if self.schedule == "inverse_sqrt":
            return math.sqrt(max(self.warmup_steps, 1) / (step + 1))
        progress = min(max(progress, 0.0), 1.0)
        decay = (
            1 - progress if self.schedule == "linear" else 0.5 * (1 + math.cos(math.pi * progress))
        )
        return self.min_lr_ratio + (1 - self.min_lr_ratio) * decay
