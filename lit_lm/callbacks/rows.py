"""What training logs, put together on those steps only behind which Lightning writes a row.

``LightningModule.log`` takes a few tenths of a millisecond for a value, and whatever it was given is looked through at
every step until the epoch ends; values for the progress bar are also fetched from the device each time.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import torch
from lightning.pytorch import LightningModule, Trainer
from torch import Tensor

BAR = frozenset({"train/loss", "tokens_per_second"})
"""What a progress bar shows."""


def is_due(trainer: Trainer) -> bool:
    """Whether Lightning writes a row behind this batch."""
    due = trainer._logger_connector.should_update_logs or getattr(trainer, "fast_dev_run", False)
    return bool(due) and not trainer.fit_loop._should_accumulate()


def note(trainer: Trainer, name: str, value: Tensor) -> None:
    """Puts a value of any step, logged or not, into ``Trainer.callback_metrics``."""
    trainer._logger_connector._callback_metrics[name] = value


class Rows:
    """The values of one row; until the next they count as read."""

    def __init__(self) -> None:
        self._fresh: list[Any] = []

    def add(self, pl_module: LightningModule, values: Mapping[str, Tensor | float]) -> None:
        """Logs values of this step; numbers without rounding. To be called in ``on_train_batch_end``."""
        results: Any = pl_module.trainer._results
        for name, value in values.items():
            if not isinstance(value, Tensor):  # single precision would round counters from 2^24 on
                value = torch.tensor(value, dtype=torch.float64)
            key = f"{pl_module._current_fx_name}.{name}"
            if key in results:
                results.update_metrics(key, value, 1)
            else:
                pl_module.log(name, value, prog_bar=name in BAR, on_step=True, on_epoch=False)
            self._fresh.append(results[key])

    def end(self) -> None:
        """The row is written: nobody needs to look at these values again. What others log is not touched."""
        for value in self._fresh:
            value.has_reset = True
        self._fresh.clear()
