"""Stops or skips optimizer steps that are not finite, and ends a job of several processes when one of them dies."""

from __future__ import annotations

import functools
import logging
import math
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer

from lit_lm import sharding
from lit_lm.callbacks.peers import Peers
from lit_lm.callbacks.rows import Rows, is_due, note
from lit_lm.errors import InputError

_log = logging.getLogger("lightning.pytorch.lit_lm")
_FEW = 3
_ROWS = 8


class Watchdog(Callback):
    """Looks after a run that nobody looks at.

    **Steps that are not finite.** The loss of an optimizer step and the norm of its gradient are looked at before the
    update, once the gradient is complete (with one synchronisation of host and device): every rank sees the same
    numbers, so all decide alike. Under float16 with a gradient scaler, infinite gradients are the scaler's affair and
    only the loss counts.

    **Processes that die.** See :class:`~lit_lm.callbacks.peers.Peers`.

    Args:
        nonfinite: "stop" ends training with an error that names the step, its batches, their rows and the parameters;
            "skip" leaves weights and moments as they are, warns, counts (``skipped_steps`` in the logs) and goes on.
        max_skipped: so many skipped steps in a row end training all the same.
        peer_timeout: seconds without a sign of life after which a process counts as dead; 0 watches none.

    Attributes:
        skipped: steps skipped so far.
        in_a_row: those of them since the last good step.
    """

    def __init__(
        self,
        nonfinite: Literal["stop", "skip"] = "stop",
        max_skipped: int = 10,
        peer_timeout: float = 30.0,
    ) -> None:
        if nonfinite not in ("stop", "skip"):
            raise InputError(f"watchdog.nonfinite={nonfinite!r} must be 'stop' or 'skip'")
        if max_skipped < 1:
            raise InputError(f"watchdog.max_skipped={max_skipped} must be at least 1")
        if peer_timeout < 0:
            raise InputError(f"watchdog.peer_timeout={peer_timeout} seconds must be at least 0")
        self.nonfinite, self.max_skipped, self.peer_timeout = nonfinite, max_skipped, peer_timeout
        self.skipped = self.in_a_row = 0
        self._peers: Peers | None = None
        self._rows = Rows()

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Starts to watch the other processes: from here on there is a process group."""
        if self._peers is None and self.peer_timeout and trainer.world_size > 1:
            self._peers = Peers.start(trainer.global_rank, trainer.world_size, self.peer_timeout)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Says goodbye to the other processes."""
        self._leave(None)

    def on_exception(
        self, trainer: Trainer, pl_module: LightningModule, exception: BaseException
    ) -> None:
        """Tells the other processes, which may be waiting for this one, why it will not come."""
        self._leave(exception)

    def _leave(self, error: BaseException | None) -> None:
        if self._peers is not None:
            self._peers.leave(error)
            self._peers = None

    def on_before_optimizer_step(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        """Looks at the step's loss and gradient."""
        losses = getattr(pl_module, "step_losses", None)
        looked_at = [] if losses is None else [losses.mean]
        norm = None
        if _scaler(trainer) is None:
            parameters = (p for group in optimizer.param_groups for p in group["params"])
            norm = sharding.total_norm([p.grad for p in parameters if p.grad is not None])
            looked_at.append(norm)
        pl_module.gradient_norm = norm  # type: ignore[assignment]
        # A sum of numbers is finite only if all are.
        if not looked_at or math.isfinite(functools.reduce(torch.add, looked_at)):
            self.in_a_row = 0
        else:
            self._not_finite(trainer, pl_module, optimizer)
        if self.nonfinite == "skip":
            note(trainer, "skipped_steps", torch.tensor(float(self.skipped)))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Logs how many steps were skipped."""
        if self.nonfinite == "skip":
            self._rows.end()
            if is_due(trainer):
                self._rows.add(pl_module, {"skipped_steps": float(self.skipped)})

    def _not_finite(
        self, trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
    ) -> None:
        found = describe(trainer, pl_module, optimizer)
        if self.nonfinite == "stop":
            raise InputError(
                f"{found}. The update was not made. {advice(trainer, optimizer)}, or leave such steps out with "
                "--watchdog.nonfinite=skip"
            )
        drop_update(trainer, pl_module, optimizer)
        self.skipped += 1
        self.in_a_row += 1
        if trainer.is_global_zero:
            _log.warning(
                "Skipped: %s. %d skipped so far, %d in a row.", found, self.skipped, self.in_a_row
            )
        if self.in_a_row >= self.max_skipped:
            raise InputError(
                f"{self.in_a_row} optimizer steps in a row were not finite and were skipped (watchdog.max_skipped="
                f"{self.max_skipped}). The last: {found}. {advice(trainer, optimizer)}"
            )

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Sums up what was skipped."""
        if self.skipped and trainer.is_global_zero:
            _log.warning(
                "%d of %d optimizer steps were not finite and were skipped.",
                self.skipped,
                trainer.global_step,
            )

    def state_dict(self) -> dict[str, Any]:
        """The counts, for the checkpoint."""
        return {"skipped": self.skipped, "in_a_row": self.in_a_row}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the checkpoint stopped."""
        self.skipped, self.in_a_row = state_dict["skipped"], state_dict["in_a_row"]


def drop_update(
    trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
) -> None:
    """Takes the gradients away, so that the optimizer moves neither weights nor moments."""
    for parameter in pl_module.parameters():
        if parameter.grad is None:
            continue
        if _scaler(trainer) is not None and getattr(optimizer, "_step_supports_amp_scaling", False):
            # A fused optimizer's gradients are yet to be checked by the scaler, which must find what to check.
            sharding.local(parameter.grad).fill_(torch.nan)
        else:
            parameter.grad = None


def describe(trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer) -> str:
    """What is not finite, and where: the same on every rank, all of which have to call this."""
    parts = [_batches(trainer, pl_module), _gradients(trainer, pl_module, optimizer)]
    return (
        f"optimizer step {trainer.global_step} (counted from 0, in epoch {trainer.current_epoch}) is not finite: "
        + "; ".join(part for part in parts if part)
    )


def _batches(trainer: Trainer, pl_module: LightningModule) -> str:
    """The micro-batches of all ranks whose losses are not finite."""
    losses = getattr(pl_module, "step_losses", None)
    if losses is None:
        return ""
    gathered: Any = trainer.strategy.all_gather(torch.stack(losses.micro))
    sums = gathered.reshape(trainer.world_size, -1).cpu()
    first = trainer.fit_loop.epoch_loop.batch_idx - sums.size(1) + 1
    bad = (~sums.isfinite()).nonzero().tolist()
    if not bad:
        last = first + sums.size(1) - 1
        which = f"batch {first}" if last == first else f"batches {first} to {last}"
        return f"the loss of its {which} of the epoch is finite, the gradient is not"
    named = [
        f"batch {first + i} of the epoch on rank {rank} has the loss {sums[rank, i]:g}"
        f"{_rows(trainer, rank, first + i)}"
        for rank, i in bad[:_FEW]
    ]
    return ", ".join(named) + (f" and {len(bad) - _FEW} more batches" if bad[_FEW:] else "")


def _rows(trainer: Trainer, rank: int, batch_idx: int) -> str:
    """The rows of the training split that made a batch, if they are planned by lit_lm's sampler."""
    sampler = getattr(trainer.train_dataloader, "batch_sampler", None)
    plan: Any = getattr(sampler, "plan", None)
    if plan is None:
        return ""
    rows = plan(sampler.epoch)[rank :: trainer.world_size][batch_idx].tolist()  # type: ignore[union-attr]
    more = f" and {len(rows) - _ROWS} more" if rows[_ROWS:] else ""
    return f" (rows {', '.join(map(str, rows[:_ROWS]))}{more} of the training split)"


def _gradients(
    trainer: Trainer, pl_module: LightningModule, optimizer: torch.optim.Optimizer
) -> str:
    """The parameters whose gradients are not finite, with their groups."""
    graded = [(n, p, p.grad) for n, p in pl_module.named_parameters() if p.grad is not None]
    fine = sharding.finite(
        [gradient for *_, gradient in graded],
        lambda counts: trainer.strategy.reduce(counts, reduce_op="sum"),
    )
    bad = [(n, p) for (n, p, _), is_fine in zip(graded, fine, strict=True) if not is_fine]
    if not bad:
        return ""
    groups = {id(p): i for i, g in enumerate(optimizer.param_groups) for p in g["params"]}
    named = ", ".join(
        f"{name} ({_group(optimizer, groups[id(p)])})" for name, p in bad[:_FEW] if id(p) in groups
    )
    return f"gradients of {len(bad)} of {len(graded)} parameters are not finite, first {named}"


def _group(optimizer: torch.optim.Optimizer, index: int) -> str:
    group = optimizer.param_groups[index]
    size = sum(p.numel() for p in group["params"])
    return f"group {index} of {len(optimizer.param_groups)}: lr {float(group['lr']):g}, {size:,} weights"


def advice(trainer: Trainer, optimizer: torch.optim.Optimizer) -> str:
    """What may help, with the present values."""
    rate = max(float(group["lr"]) for group in optimizer.param_groups)
    tips = [
        f"lower the learning rate (model.init_args.optim.lr; {rate:g} at this step)",
        "warm up longer (model.init_args.optim.warmup_steps)",
    ]
    if not trainer.gradient_clip_val:
        tips.append("clip gradients (trainer.gradient_clip_val=1.0)")
    if "16" in str(trainer.precision) and "bf16" not in str(trainer.precision):
        tips.append(f"use trainer.precision=bf16-mixed instead of {trainer.precision}")
    return f"Look at these rows, {', '.join(tips)}"


def _scaler(trainer: Trainer) -> Any:
    return getattr(trainer.precision_plugin, "scaler", None)
