"""The progress bar."""

from __future__ import annotations

import time
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import RichProgressBar


class Bar(RichProgressBar):
    """Lightning's bar, brought up to date and drawn a few times a second.

    Lightning's own is brought up to date at every step, which fetches the values it shows from the device, and is drawn
    up to a hundred times a second, which takes a good part of a core.

    Args:
        refresh_rate: times a second; 0 for no bar.
        leave: whether the bar of an epoch that is over stays.
    """

    def __init__(self, refresh_rate: int = 4, leave: bool = False) -> None:
        super().__init__(refresh_rate, leave)
        self._due = 0.0

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Shows the batch, if it is time or the last of an epoch."""
        now = time.monotonic()
        if self.is_enabled and (now >= self._due or batch_idx + 1 == self.total_train_batches):
            self._due = now + 1 / self.refresh_rate
            super().on_train_batch_end(trainer, pl_module, outputs, batch, batch_idx)

    def get_metrics(self, trainer: Trainer, pl_module: LightningModule) -> dict[str, Any]:
        """What was logged last, but the loss as it is now."""
        metrics: dict[str, Any] = super().get_metrics(trainer, pl_module)
        losses = getattr(pl_module, "step_losses", None)
        if trainer.training and losses is not None:
            metrics["train/loss"] = losses.mean.item()
        return metrics
