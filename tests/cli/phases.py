"""Callbacks that say in which phase which process is, and take their time there, or what it ends with."""

from __future__ import annotations

import os
import sys
import time
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch import Callback


class Phases(Callback):
    """Writes ``PHASE name rank pid``."""

    def _say(self, trainer: Any, phase: str) -> None:
        print(f"PHASE {phase} {trainer.global_rank} {os.getpid()}", file=sys.stderr, flush=True)

    def setup(self, trainer: Any, pl_module: Any, stage: str) -> None:
        self._say(trainer, "setup")
        time.sleep(0.5)

    def on_train_batch_start(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == 2:
            self._say(trainer, "train")
        time.sleep(0.05)

    def on_validation_batch_start(self, trainer: Any, *args: Any) -> None:
        self._say(trainer, "val")
        time.sleep(0.3)


class Weights(Callback):
    """Every process writes the weights that it ends with: ``rank0.pt`` and so on, in the run's folder."""

    def on_train_end(self, trainer: Any, pl_module: Any) -> None:
        folder = Path(trainer.default_root_dir)
        folder.mkdir(parents=True, exist_ok=True)
        torch.save(dict(pl_module.state_dict()), folder / f"rank{trainer.global_rank}.pt")
