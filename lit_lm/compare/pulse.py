"""Tells the process that started a run how the run goes, in a small file, about once a second."""

from __future__ import annotations

import time
from pathlib import Path
from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_lm.compare.files import write_json


class Pulse(Callback):
    """Writes ``progress.json``: stage, fraction, step, loss, tokens_per_second.

    Args:
        path: the file.
        interval: seconds between two writings, at least.
    """

    def __init__(self, path: str, interval: float = 1.0) -> None:
        self.path, self.interval = Path(path), interval
        self._state: dict[str, Any] = {"stage": "starting", "fraction": 0.0}
        self._written = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """After each batch, but writes rarely: reading a loss waits for the device."""
        if not self._due(trainer):
            return
        metrics = trainer.callback_metrics
        self._state = {
            "stage": "training",
            "fraction": float(getattr(pl_module, "progress", 0.0)),
            "step": trainer.global_step,
            "loss": float(metrics["train/loss"]) if "train/loss" in metrics else None,
            "tokens_per_second": float(metrics["tokens_per_second"])
            if "tokens_per_second" in metrics
            else None,
        }
        self._write(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A validation can take long: say so."""
        if not trainer.sanity_checking and self._due(trainer):
            self._state["stage"] = "validating"
            self._write(trainer)

    def on_test_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Training is over."""
        self._state |= {"stage": "testing", "fraction": 1.0}
        self._write(trainer)

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """What is left to do is to write samples."""
        self._state["stage"] = "sampling"
        self._write(trainer)

    def _due(self, trainer: Trainer) -> bool:
        return trainer.is_global_zero and time.monotonic() - self._written >= self.interval

    def _write(self, trainer: Trainer) -> None:
        if trainer.is_global_zero:
            self._written = time.monotonic()
            write_json(self.path, self._state)
