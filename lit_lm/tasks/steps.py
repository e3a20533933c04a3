"""Optimizer steps whose gradient is that of one big batch, and what is carried from one micro-batch to the next.

The gradient of an optimizer step is that of the loss summed over all its targets divided by their
number, over all micro-batches of an accumulation window and all ranks: never a mean of means.
"""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Callable
from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lit_lm.callbacks import Meter
from lit_lm.errors import InputError
from lit_lm.losses import LossSum
from lit_lm.optim import OptimConfig, adopt

# Keeps summed losses in the range of half precision; a power of two, so that it changes no bit.
_SCALE = 1024.0


class StepLosses(NamedTuple):
    """Losses of an optimizer step, on the device.

    Attributes:
        mean: float (): over all targets of the step, the same on every rank.
        micro_sums: float (micro-batches): this rank's summed loss of each micro-batch.
    """

    mean: Tensor
    micro_sums: Tensor


class Steps(LightningModule):
    """How a task is trained.

    Args:
        optim: optimizer and schedule.

    Attributes:
        meter: counts what training consumes, and keeps the budget.
        step_losses: those of the optimizer step that is being taken, or was taken last.
    """

    def __init__(self, optim: OptimConfig) -> None:
        super().__init__()
        self.optim, self.meter = optim, Meter()
        self.step_losses: StepLosses | None = None
        self._window: Tensor | None = None
        self._micro_losses: list[Tensor] = []
        self._parts: tuple[str, ...] = ()
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
        counted = torch.stack([_counts(loss), *map(_counts, parts.values())])
        self._parts = tuple(parts)
        self._window = counted if self._window is None else self._window + counted
        self._micro_losses.append(
            counted[0, 0].clone()
        )  # bringing ranks together writes into the window
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
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
        total, targets, correct = window.unbind(1)
        losses = total / targets.clamp(min=1)
        self.step_losses = StepLosses(losses[0], torch.stack(self._micro_losses))
        self._micro_losses = []
        self.log("train/loss", losses[0], prog_bar=True)
        for i, name in enumerate(self._parts, 1):
            self.log(f"train/{name}_loss", losses[i])
            if correct[i] >= 0:
                self.log(f"train/{name}_accuracy", correct[i] / targets[i].clamp(min=1))

    def configure_optimizers(self) -> Any:
        """The optimizer, and a schedule that is updated after every step."""
        # Lightning cannot clip what a fused optimizer unscales itself.
        scaled = getattr(self.trainer.precision_plugin, "scaler", None) is not None
        optimizer = self.optim.build(self, fused=not scaled)
        schedule = LambdaLR(optimizer, lambda step: self.optim.factor(step, self.progress))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

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
        gradients = {n: p.grad for n, p in self.named_parameters() if p.grad is not None}
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
        self._window, self._parts = carried["window"].to(self.device), tuple(carried["parts"])
        self._micro_losses = list(carried["losses"].to(self.device))
        for name, parameter in self.named_parameters():
            if name in carried["gradients"]:
                parameter.grad = carried["gradients"][name].to(parameter)

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
        adopt(optimizer, self.optim.build(self))
        scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
        scheduler.base_lrs = [group["initial_lr"] for group in optimizer.param_groups]
        for group in optimizer.param_groups:
            group["lr"] = group["initial_lr"] * self.optim.factor(step, self.progress)


def _counts(loss: LossSum) -> Tensor:
    """Total, targets and correct predictions (negative where nobody counted them), float64 (3,)."""
    unknown = torch.full_like(loss.targets, -1)
    correct = unknown if loss.correct is None else loss.correct
    return torch.stack([x.detach().double() for x in (loss.total, loss.targets, correct)])
