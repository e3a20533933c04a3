"""Optimizers and learning-rate schedules: one configuration for every task."""

from __future__ import annotations

import math
from collections import defaultdict
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn

from lit_lm.errors import InputError, check_counts, check_reals
from lit_lm.muon import Muon


@dataclass(frozen=True)
class OptimConfig:
    """How weights are updated.

    Args:
        optimizer: "adamw" (Loshchilov and Hutter 2019, decoupled weight decay; what fairseq calls adam), "adam" (whose
            weight decay is part of the gradient), or "muon" (Jordan 2024, https://kellerjordan.github.io/posts/muon):
            orthogonalised momentum for the matrices inside the network, AdamW for embeddings, output layer and vectors.
        lr: peak learning rate.
        muon_lr: peak learning rate of Muon's matrices.
        betas: decay rates of the gradient's first and second moment.
        eps: added to the root of the second moment.
        weight_decay: pull of matrices towards zero; vectors (biases, norms) are left alone.
        schedule: "inverse_sqrt" (Vaswani et al. 2017, section 5.3), "cosine" or "linear" decay to
            ``min_lr_ratio`` at the end of training, or "constant". All but "constant" warm up linearly.
        warmup_steps: optimizer steps until the peak.
        min_lr_ratio: last learning rate of "cosine" and "linear", as a share of the peak.
    """

    optimizer: Literal["adamw", "adam", "muon"] = "adamw"
    lr: float = 1e-3
    muon_lr: float = 0.02
    betas: tuple[float, float] = (0.9, 0.98)
    eps: float = 1e-9
    weight_decay: float = 0.0
    schedule: Literal["constant", "inverse_sqrt", "cosine", "linear"] = "constant"
    warmup_steps: int = 0
    min_lr_ratio: float = 0.0

    def __post_init__(self) -> None:
        check_reals(self, "lr", "muon_lr", "weight_decay", most=1000)
        # Less than this is 0 in single precision: what has had no gradient would become NaN.
        check_reals(self, "eps", least=1e-30, most=1)
        check_reals(self, "min_lr_ratio", most=1)
        check_counts(self, "warmup_steps", least=0, most=1 << 62)
        if not all(0 <= beta < 1 for beta in self.betas):
            raise InputError(
                f"OptimConfig: betas={list(self.betas)} must be two numbers, at least 0 and below 1"
            )

    def build(
        self,
        module: nn.Module,
        *,
        fused: bool = True,
        depth_of: Callable[[str], int | None] = lambda name: None,
    ) -> torch.optim.Optimizer:
        """The optimizer over ``module``'s trainable parameters.

        Args:
            module: what is trained.
            fused: one kernel for all of AdamW, on a CPU and on a GPU; without it gradients can be clipped under float16, too.
            depth_of: parameters of unlike depths are in groups of their own, which name it as "depth".
        """
        depths = {id(p): depth_of(name) for name, p in module.named_parameters()}

        def split(parameters: Sequence[Tensor], **settings: Any) -> list[dict[str, Any]]:
            kinds = dict.fromkeys(depths[id(p)] for p in parameters)
            return [
                {"params": [p for p in parameters if depths[id(p)] == k], "depth": k, **settings}
                for k in kinds
            ]

        parameters = [p for p in module.parameters() if p.requires_grad]
        inside = inner_matrices(module) if self.optimizer == "muon" else []
        taken = {id(p) for p in inside}
        rest = [p for p in parameters if id(p) not in taken]
        decayed = [p for p in rest if p.dim() >= 2]
        # Under Muon only its own matrices are decayed: what is left are tables and the output layer.
        groups = split(decayed, weight_decay=0.0 if inside else self.weight_decay)
        groups += split([p for p in rest if p.dim() < 2], weight_decay=0.0)
        kind = torch.optim.Adam if self.optimizer == "adam" else torch.optim.AdamW
        fused = fused and all(p.device.type in ("cpu", "cuda") for p in parameters)
        adam = kind(groups, lr=self.lr, betas=self.betas, eps=self.eps, fused=fused)
        if not inside:
            return adam
        muon = Muon(split(inside), lr=self.muon_lr, weight_decay=self.weight_decay)
        return Together(muon, adam)

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


class Together(torch.optim.Optimizer):
    """Several optimizers over different parameters that look and step like one.

    Args:
        parts: the optimizers; their parameter groups are this one's.
    """

    def __init__(self, *parts: torch.optim.Optimizer) -> None:
        super().__init__([group for part in parts for group in part.param_groups], {})
        self.parts = parts
        self._share()

    def _share(self) -> None:
        # The very same dictionaries: a schedule that sets a learning rate here sets the part's.
        self.param_groups = [group for part in self.parts for group in part.param_groups]
        self.state = defaultdict(dict, {p: s for part in self.parts for p, s in part.state.items()})

    @torch.no_grad()
    def step(self, closure: Callable[[], Any] | None = None) -> Any:
        """One step of every part."""
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        for part in self.parts:
            part.step()
        return loss

    def state_dict(self) -> dict[str, Any]:
        """The parts' states."""
        return {"parts": [part.state_dict() for part in self.parts]}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Takes the parts' states."""
        for part, state in zip(self.parts, state_dict["parts"], strict=True):
            part.load_state_dict(state)
        self._share()


def adopt(optimizer: torch.optim.Optimizer, fresh: torch.optim.Optimizer) -> None:
    """Gives an optimizer the settings of a fresh one over the same parameters; what it has gathered stays."""
    for group, new in zip(optimizer.param_groups, fresh.param_groups, strict=True):
        group |= {key: value for key, value in new.items() if key != "params"}
        group["initial_lr"] = new["lr"]


def inner_matrices(module: nn.Module) -> list[Tensor]:
    """Weights of linear maps and of recurrent layers, without output layers and what is shared with an embedding."""
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    recurrent = [
        p
        for m in module.modules()
        if isinstance(m, nn.RNNBase)
        for p in m.parameters()
        if p.dim() == 2 and p.requires_grad
    ]
    return recurrent + [
        m.weight
        for name, m in module.named_modules()
        if isinstance(m, nn.Linear)
        and name.rpartition(".")[2] != "head"
        and not name.endswith("head.output")
        and m.weight.requires_grad
        and id(m.weight) not in tables
    ]
