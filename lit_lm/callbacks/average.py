"""Means of weights: of checkpoints on the way, and running ones."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import EMAWeightAveraging, ModelCheckpoint
from lightning.pytorch.utilities import rank_zero_info

from lit_lm import checkpoints
from lit_lm.averaging import average
from lit_lm.errors import InputError, check_counts, check_reals


class AverageCheckpoints(ModelCheckpoint):
    """Keeps the weights of the last or best validations, and at the end of training their mean: ``average.ckpt``
    (``lit-lm test --ckpt_path=average``; see :func:`~lit_lm.averaging.average`).

    Args:
        k: how many.
        monitor: a measure such as ``val/loss``: the best ``k`` by it; None: the last ``k``.
        mode: whether the least ("min") or the greatest ("max") of it are the best.
        every_n_train_steps: optimizer steps from one to the next; None: one behind every validation.
        dirpath: where; None for the run's folder of checkpoints.
    """

    def __init__(
        self,
        k: int = 10,
        monitor: str | None = None,
        mode: str = "min",
        every_n_train_steps: int | None = None,
        dirpath: str | None = None,
    ) -> None:
        self.k = k
        check_counts(self, "k")
        super().__init__(
            dirpath=dirpath,
            filename="kept-{step}",
            monitor=monitor or "step",
            mode=mode if monitor else "max",
            every_n_train_steps=every_n_train_steps,
            save_top_k=k,
            save_weights_only=True,
            enable_version_counter=False,
        )

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses to stand beside a running mean: these checkpoints would hold the weights without it."""
        super().setup(trainer, pl_module, stage)
        callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
        if any(isinstance(callback, EMA) for callback in callbacks):
            raise InputError(
                "trainer.callbacks has EMA and AverageCheckpoints, two means of the same weights: take one of them out "
                "(trainer/ema beside a recipe that averages: drop its AverageCheckpoints)"
            )

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """A new start leaves nothing of an earlier run in its folder that could be taken for its own."""
        super().on_train_start(trainer, pl_module)
        if trainer.is_global_zero and trainer.ckpt_path is None:
            for path in (self.average, *self.average.parent.glob("kept-step=*.ckpt")):
                checkpoints.remove(path)

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Writes the mean, also where all training was done before."""
        kept = [path for path in self.best_k_models if Path(path).exists()]
        if trainer.is_global_zero and kept:
            steps = {path: int(Path(path).stem.rpartition("=")[2]) for path in kept}
            kept.sort(key=lambda path: steps[path])
            checkpoints.save(average(kept), self.average)
            told = ", ".join(str(steps[path]) for path in kept)
            rank_zero_info(f"{self.average}: the mean of the weights at steps {told}.")
        trainer.strategy.barrier("average.ckpt")

    @property
    def average(self) -> Path:
        """Where the mean is written."""
        return Path(str(self.dirpath)) / checkpoints.AVERAGE


class EMA(EMAWeightAveraging):
    """A running mean of the weights (Polyak and Juditsky 1992), which is what is validated, kept as best, and left in
    the task at the end. Training goes on with the weights themselves, from a checkpoint too.

    Lightning's, but for checkpoints that are written inside a validation or at the end: they hold both, as all others do.

    Args:
        decay: by how much the share of a step's weights falls a step.
        every_n_steps: optimizer steps from one update of the mean to the next.
    """

    def __init__(self, decay: float = 0.999, every_n_steps: int = 1) -> None:
        self.decay = decay
        self.every_n_steps = every_n_steps
        check_reals(self, "decay", most=1, below=True)
        check_counts(self, "every_n_steps")
        super().__init__(decay=decay, update_every_n_steps=every_n_steps)
        self._validating = False

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses shards of weights, which Lightning's mean does not know; and leaves out its warning of them."""
        if pl_module.device_mesh is not None:
            raise InputError(
                "trainer.callbacks has EMA, which needs whole weights: take it out, or train with trainer/ddp. "
                "AverageCheckpoints (trainer/average) takes shards, too"
            )
        with warnings.catch_warnings():
            warnings.filterwarnings("ignore", ".*overrides the configure_model.*")
            super().setup(trainer, pl_module, stage)

    def on_validation_epoch_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The mean takes the weights' place."""
        super().on_validation_epoch_start(trainer, pl_module)
        self._validating = True

    def on_validation_epoch_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """The weights are back."""
        super().on_validation_epoch_end(trainer, pl_module)
        self._validating = False

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Puts the mean where others look for weights, and the weights beside it."""
        super().on_save_checkpoint(trainer, pl_module, checkpoint)
        if self._validating and "current_model_state" in checkpoint:
            mean, current = checkpoint["current_model_state"], checkpoint["state_dict"]
            checkpoint |= {"state_dict": mean, "current_model_state": current}

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Nothing yet: the last checkpoint is still to be written."""

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Leaves the mean in the task, which is what a checkpoint loaded from now on is to leave there, too."""
        super().on_train_end(trainer, pl_module)
        self._average_model = None
