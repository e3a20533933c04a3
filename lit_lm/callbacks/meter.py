"""Counts what training has consumed and how fast: the common x-axes of every comparison."""

from __future__ import annotations

import math
import time
from dataclasses import dataclass
from typing import Any, Literal

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.loggers import WandbLogger

from lit_lm.callbacks.rows import Rows, is_due
from lit_lm.errors import InputError
from lit_lm.peaks import peak_flops

COUNTERS = ("tokens", "bytes", "flops", "seconds")
BudgetUnit = Literal["steps", "tokens", "bytes", "flops", "seconds"]


@dataclass(frozen=True)
class Budget:
    """How long to train: the same line for every member of a comparison.

    Training stops at the first step at which the budget is used up, and is validated there; schedules
    stretch to it.

    Args:
        unit: optimizer "steps", or what the :class:`Meter` counts: predicted "tokens", raw "bytes",
            model "flops", training "seconds".
        amount: how much of it; None for no budget.
    """

    unit: BudgetUnit = "tokens"
    amount: float | None = None

    def __post_init__(self) -> None:
        if self.amount is not None and not 0 < self.amount < math.inf:
            raise InputError(
                f"budget.amount={self.amount} {self.unit}: the amount must be above 0 and finite"
            )


class Meter(Callback):
    """Logs ``tokens``, ``bytes``, ``flops`` and ``seconds`` so far, and rates since it last logged; keeps the budget.

    ``tokens`` are predicted tokens, ``bytes`` the raw UTF-8 text they stand for, ``flops`` the model's
    (forward and backward, padding not counted), summed over ranks; ``seconds`` is training time, without
    validation, the mean over ranks. Rates: ``tokens_per_second``, ``padding_fraction`` (of all computed positions),
    ``data_wait_fraction`` (of training time spent between two steps) and, on devices whose peak is known, ``mfu``: the
    model's FLOPs a second as a share of it (Chowdhery et al. 2022, appendix B). And ``lr``, the learning rate.

    Args:
        budget: when to stop; None to leave that to the trainer.

    Attributes:
        totals: the counters, exact. On several ranks they are brought together whenever they are logged,
            and at the end of training.
        share: share of the budget used so far.
    """

    def __init__(self, budget: Budget | None = None) -> None:
        self.budget, self.share = budget, 0.0
        self.totals: dict[str, float] = dict.fromkeys(COUNTERS, 0)
        self._recent = [0] * 5  # tokens, bytes, flops, real and all positions
        self._real = self._positions = self._waited = self._seconds = 0.0
        self._marks = self._now()
        self._last: float | None = None
        self._peak: float | None = None
        self._rows = Rows()
        self._logged = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Tells W&B that the counters are axes."""
        for logger in trainer.loggers:
            if isinstance(logger, WandbLogger) and trainer.is_global_zero:
                for name in COUNTERS:
                    logger.experiment.define_metric(name, summary="max")

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Starts the clock. What a checkpoint has used of the budget is used."""
        self._last = time.perf_counter()
        self._peak = peak_flops(trainer.strategy.root_device, str(trainer.precision))
        self._spend(trainer)

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Time since the last step ended was spent waiting."""
        self._waited += self._tick()
        self._rows.end()
        self._logged = False

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Counts the batch, stops when the budget is used up, logs at the trainer's logging interval."""
        self._tick()
        size = batch.size
        real = size.tokens + size.input_tokens
        # Whole numbers, so that sums do not depend on when they are taken.
        flops = round(pl_module.flops(size))  # type: ignore[operator]
        counts = (size.tokens, size.bytes, flops, real, size.positions)
        self._recent = [a + b for a, b in zip(self._recent, counts, strict=True)]
        self._spend(trainer)
        self.log_row(trainer, pl_module)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Stops the clock."""
        if self._last is not None:
            self._tick()

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Puts the counters beside the validation metrics."""
        if not trainer.sanity_checking and self._last is not None:
            self._bring_together(trainer)
            for name, value in self.totals.items():
                pl_module.log(name, torch.tensor(value, dtype=torch.float64))

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Goes on with the clock: validation is not training time."""
        if self._last is not None:
            self._last = time.perf_counter()

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the last counts in."""
        self._bring_together(trainer)
        self._last = None

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Brings all ranks' counts into the checkpoint."""
        if self._last is not None and trainer.training:
            self._tick()
        self._bring_together(trainer)
        checkpoint["callbacks"][self.state_key] = self.state_dict()

    def state_dict(self) -> dict[str, Any]:
        """The counters, for the checkpoint, and where they stood when they were last logged."""
        positions = [self._waited, self._real, self._positions]
        return {
            "totals": dict(self.totals),
            "share": self.share,
            "positions": positions,
            "marks": list(self._marks),
        }

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Goes on counting where the checkpoint stopped."""
        self.totals, self.share = dict(state_dict["totals"]), state_dict["share"]
        if "marks" in state_dict:
            self._waited, self._real, self._positions = state_dict["positions"]
            # Older checkpoints do not say how many FLOPs there were.
            self._marks = [*state_dict["marks"], self.totals["flops"]][: len(self._now())]

    def _spend(self, trainer: Trainer) -> None:
        if self.budget is not None and self.budget.amount is not None:
            if self.budget.unit == "steps":
                used: float = trainer.global_step
            else:
                self._bring_together(trainer)
                used = self.totals[self.budget.unit]
            self.share = used / self.budget.amount
        # Lightning validates the last step of a run that was told to stop, but not of one that met max_steps.
        if self.share >= 1 or 0 < trainer.max_steps <= trainer.global_step:
            trainer.should_stop = True

    def _tick(self) -> float:
        now = time.perf_counter()
        passed = now - (now if self._last is None else self._last)
        self._last = now
        self._seconds += passed
        return passed

    def _now(self) -> list[float]:
        return [
            self.totals["tokens"],
            self.totals["seconds"],
            self._waited,
            self._real,
            self._positions,
            self.totals["flops"],
        ]

    def log_row(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Logs what there is to log behind this batch, once."""
        if self._logged or not is_due(trainer):
            return
        self._logged = True
        self._bring_together(trainer)
        now = self._now()
        tokens, seconds, waited, real, positions, flops = (
            a - b for a, b in zip(now, self._marks, strict=True)
        )
        self._marks = now
        seconds = max(seconds, 1e-9)
        values = {
            **pl_module.step_values(),  # type: ignore[operator]
            **self.totals,
            "lr": max(trainer.optimizers[0].param_groups, key=_depth)["lr"],
            "padding_fraction": 1 - real / max(positions, 1.0),
            "data_wait_fraction": waited / seconds,
            "tokens_per_second": tokens / seconds,
        }
        if self._peak is not None:
            values["mfu"] = flops / seconds / (self._peak * trainer.world_size)
        self._rows.add(pl_module, values)

    def _bring_together(self, trainer: Trainer) -> None:
        # The mean of the ranks' seconds: all must agree on when a budget of them is used up.
        counts: list[float] = [*self._recent, self._seconds / trainer.world_size]
        if trainer.world_size > 1:
            tensor = torch.tensor(counts, dtype=torch.float64, device=trainer.strategy.root_device)
            counts = trainer.strategy.reduce(tensor, reduce_op="sum").tolist()
        for name, value in zip(("tokens", "bytes", "flops"), counts[:3], strict=True):
            self.totals[name] += int(value)
        self._real += counts[3]
        self._positions += counts[4]
        self.totals["seconds"] += counts[5]
        self._recent = [0] * 5
        self._seconds = 0.0


def _depth(group: dict[str, Any]) -> int:
    """How far up the parameters of a group are: what is on top learns at the whole rate."""
    return group.get("depth") or 0
