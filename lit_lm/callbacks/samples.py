"""Shows what the model writes, as it learns."""

from __future__ import annotations

from typing import Any

from lightning.pytorch import Callback, LightningModule, Trainer

from lit_lm.errors import check_counts


class Samples(Callback):
    """Logs a table of sample outputs after each validation to loggers that take tables (W&B).

    Args:
        count: samples a table.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        check_counts(self, "count", least=0)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Makes the samples (on the first rank) and logs them as ``val/samples``."""
        loggers: list[Any] = [logger for logger in trainer.loggers if hasattr(logger, "log_table")]
        data = getattr(trainer, "datamodule", None)
        if trainer.sanity_checking or not trainer.is_global_zero or data is None or not loggers:
            return
        rows = pl_module.samples(data, "val", self.count)  # type: ignore[operator]
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # that of the validation's metrics
        for logger in loggers:
            columns = ["step", *rows[0]]
            values = [[trainer.global_step, *row.values()] for row in rows]
            logger.log_table("val/samples", columns=columns, data=values, step=step)
