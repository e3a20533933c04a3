"""Optimizer steps whose gradient is that of one big batch, and what is carried from one micro-batch to the next.

The gradient of an optimizer step is that of the loss summed over all its targets divided by their
number, over all micro-batches of an accumulation window and all ranks: never a mean of means.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from functools import partial
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule
from lightning.pytorch.plugins.precision import (
    DoublePrecision,
    HalfPrecision,
    MixedPrecision,
    Precision,
)
from lightning.pytorch.utilities.model_helpers import is_overridden
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lit_lm import sharding
from lit_lm.callbacks import Meter, Watchdog
from lit_lm.callbacks.rows import note
from lit_lm.errors import InputError
from lit_lm.losses import LossSum
from lit_lm.optim import OptimConfig, adopt

# Keeps summed losses in the range of half precision; a power of two, so that it changes no bit.
_SCALE = 1024.0


class StepLosses(NamedTuple):
    """Losses of an optimizer step, on the device.

    Attributes:
        mean: float64 (): over all targets of the step, the same on every rank.
        window: float64 (1 + parts, 3): total, targets and correct predictions (-1 where nobody counted them) of the
            whole loss and of each of its parts, over all ranks.
        micro: float64 () each: this rank's summed loss of each micro-batch.
    """

    mean: Tensor
    window: Tensor
    micro: tuple[Tensor, ...]


class Steps(LightningModule):
    """How a task is trained.

    Args:
        optim: optimizer and schedule.

    Attributes:
        meter: counts what training consumes, and keeps the budget.
        step_losses: those of the optimizer step that is being taken, or was taken last.
        gradient_norm: float (): 2-norm of the gradient of that step before clipping, where it was computed.
    """

    def __init__(self, optim: OptimConfig) -> None:
        super().__init__()
        self.optim, self.meter = optim, Meter()
        self.step_losses: StepLosses | None = None
        self.gradient_norm: Tensor | None = None
        self._whole_norm = self._norm_holds = False
        self._window: Tensor | None = None
        self._micro_losses: list[Tensor] = []
        self._parts: dict[str, bool] = {}  # whether correct predictions were counted
        self._optim_changed = False

    @abstractmethod
    def loss(self, batch: Any) -> LossSum:
        """The batch's loss, summed over its targets; with correct predictions counted when not training.

        A loss of several parts has one total, which is differentiated, and one number of targets, by
        which it is divided.
        """

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The summed loss; the step's denominator is applied to the gradient in :meth:`optimizer_step`."""
        loss = self.loss(batch)
        parts = loss.parts or {}
        counts = [count for part in (loss, *parts.values()) for count in _counts(part)]
        counted = torch.stack(counts).view(-1, 3)
        self._parts = {name: part.correct is not None for name, part in parts.items()}
        self._window = counted if self._window is None else self._window + counted
        self._micro_losses.append(counts[0])
        return loss.total / _SCALE

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Divides the gradient by the step's number of targets before anything looks at it."""

        def closure() -> Any:
            result = optimizer_closure() if optimizer_closure else None
            self._divide_gradients()
            return result

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def _divide_gradients(self) -> None:
        if self._window is None:
            return
        window = self.trainer.strategy.reduce(self._window, reduce_op="sum")
        self._window = None
        count = window[0, 1]
        # Lightning has divided by the window's micro-batches, the strategy by the ranks: undo both.
        means = self.trainer.accumulate_grad_batches * self.trainer.world_size
        factor = _SCALE * means / count.clamp(min=1)
        moved = _moved(self.trainer.optimizers[0])
        gradients = [sharding.local(p.grad) for p in moved if p.grad is not None]
        torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
        mean = window[0, 0] / count.clamp(min=1)
        self.step_losses = StepLosses(mean, window, tuple(self._micro_losses))
        self._micro_losses = []
        note(self.trainer, "train/loss", mean)

    def step_values(self) -> dict[str, Tensor]:
        """What is logged of the last optimizer step: its losses and, where it is known, its gradient's norm."""
        if self.step_losses is None:
            return {}
        total, targets, correct = self.step_losses.window.unbind(1)
        targets = targets.clamp(min=1)
        values = {"train/loss": self.step_losses.mean}
        for i, (name, counted) in enumerate(self._parts.items(), 1):
            values[f"train/{name}_loss"] = total[i] / targets[i]
            if counted:
                values[f"train/{name}_accuracy"] = correct[i] / targets[i]
        if self._whole_norm and self.gradient_norm is not None:
            values["gradient_norm"] = self.gradient_norm
        return values

    def configure_gradient_clipping(
        self,
        optimizer: Any,
        gradient_clip_val: float | None = None,
        gradient_clip_algorithm: str | None = None,
    ) -> None:
        """Clips by the norm that the watchdog has looked at, where nothing can have changed the gradient since."""
        by_norm = gradient_clip_algorithm in (None, "norm") and bool(gradient_clip_val)
        if by_norm and self._norm_holds and self.gradient_norm is not None:
            assert gradient_clip_val is not None
            moved = [p.grad for p in _moved(optimizer) if p.grad is not None]
            sharding.clip(moved, gradient_clip_val, self.gradient_norm)
        else:
            self.clip_gradients(optimizer, gradient_clip_val, gradient_clip_algorithm)

    def on_train_start(self) -> None:
        """Finds out whether a norm that the watchdog computes is still that of the gradient which is clipped."""
        self.gradient_norm = None
        # Others have shards of the gradient, or clip in a way of their own.
        kinds = (Precision, MixedPrecision, HalfPrecision, DoublePrecision)
        self._whole_norm = type(self.trainer.precision_plugin) in kinds
        callbacks: list[Callback] = self.trainer.callbacks  # type: ignore[attr-defined]
        name = "on_before_optimizer_step"
        between = any(
            is_overridden(name, c, Callback) for c in callbacks if not isinstance(c, Watchdog)
        ) or is_overridden(name, self, LightningModule)
        self._norm_holds = self._whole_norm and not between

    def on_train_batch_end(self, outputs: Any, batch: Any, batch_idx: int) -> None:
        """Logs what a callback that ends training has made due only now."""
        self.meter.log_row(self.trainer, self)

    def configure_optimizers(self) -> Any:
        """The optimizer, and a schedule that is updated after every step."""
        # Lightning cannot clip what a fused optimizer unscales itself.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = self.optim.build(self, fused=not scaled, depth_of=self.depth_of)
        rates: list[Callable[[int], float]] = [
            partial(self._rate, group["depth"]) for group in optimizer.param_groups
        ]
        schedule = LambdaLR(optimizer, rates)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def depth_of(self, name: str) -> int | None:
        """How far up in the network a parameter is, where layers learn at unlike rates; None where all learn alike."""
        return None

    def share(self, depth: int, progress: float) -> float:
        """The learning rate of parameters of a depth, as a share of the whole.

        Args:
            depth: as :meth:`depth_of` gives it.
            progress: share of the run that is done, 0 to 1.
        """
        return 1.0

    def _rate(self, depth: int | None, step: int) -> float:
        """The learning rate as a share of the peak."""
        progress = self.progress
        factor = self.optim.factor(step, progress)
        return factor if depth is None else factor * self.share(depth, progress)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1: of its steps, its epochs or its budget, whichever ends first."""
        steps = self.trainer.estimated_stepping_batches
        return max(self.trainer.global_step / steps if steps > 0 else 0.0, self.meter.share)

    def carried(self) -> dict[str, Any]:
        """What this rank carries from batch to batch besides weights, in tensors and plain types: of an accumulation
        window that is not complete, the gradients and the sums so far.
        """
        if self._window is None:
            return {}
        gradients = {
            n: sharding.local(p.grad) for n, p in self.named_parameters() if p.grad is not None
        }
        return {
            "window": self._window,
            "losses": torch.stack(self._micro_losses),
            "gradients": gradients,
            "parts": list(self._parts),
        }

    def carry_on(self, carried: dict[str, Any]) -> None:
        """Goes on with what :meth:`carried` gave."""
        if "window" not in carried:
            return
        self._window = carried["window"].to(self.device)
        counted = (carried["window"][1:, 2] >= 0).tolist()
        self._parts = dict(zip(carried["parts"], counted, strict=True))
        self._micro_losses = list(carried["losses"].to(self.device))
        for name, parameter in self.named_parameters():
            if name in carried["gradients"]:
                parameter.grad = sharding.like(parameter, carried["gradients"][name])

    def note_optim(self, checkpoint: dict[str, Any]) -> None:
        """Notes that training goes on with other settings of the optimizer, which Lightning would lose."""
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        before, now = checkpoint["hyper_parameters"].get("optim", {}), self.hparams["optim"]
        if before.get("optimizer", now["optimizer"]) != now["optimizer"]:
            raise InputError(
                f"the checkpoint holds the state of optimizer {before['optimizer']!r}, which {now['optimizer']!r} cannot "
                "take up: leave it as it was, or start anew without --ckpt_path"
            )
        self._optim_changed = before != now

    def take_up_optim(self) -> None:
        """Goes on with other settings of the optimizer than a checkpoint's, if :meth:`note_optim` found any."""
        if not self._optim_changed:
            return
        step, optimizer = self.trainer.global_step, self.trainer.optimizers[0]
        adopt(optimizer, self.optim.build(self, depth_of=self.depth_of))
        scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self._rate(group["depth"], step)


def _counts(loss: LossSum) -> list[Tensor]:
    """Total, targets and correct predictions (negative where nobody counted them), float64 () each."""
    correct = torch.full_like(loss.targets, -1) if loss.correct is None else loss.correct
    return [x.detach().double() for x in (loss.total, loss.targets, correct)]


def _moved(optimizer: Any) -> list[Tensor]:
    """What an optimizer moves; a module's parameters would have to be looked for in all of its parts."""
    return [p for group in optimizer.param_groups for p in group["params"]]
