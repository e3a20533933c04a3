"""Saves as training goes on, and before it leaves, so that it can be resumed."""

from __future__ import annotations

import contextlib
import os
import signal
import time
from collections.abc import Callable
from pathlib import Path
from types import FrameType
from typing import Any

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities.exceptions import SIGTERMException

from lit_lm import checkpoints
from lit_lm.callbacks.requeue import requeue, requeue_signal
from lit_lm.errors import check_counts, check_reals


class KeepLast(Callback):
    """Keeps the last checkpoints of a run: ``last.ckpt``, the one before it as ``last-1.ckpt``, and so on.

    Saves every so often, behind every validation, at the end, and on SIGTERM and Ctrl-C: then the batch under way is finished
    (of several processes also a validation under way), everything is saved and the process ends with status 143 or 130. A
    second Ctrl-C stops at once. In a job of SLURM the same happens at the signal that announces its end, and the job goes
    back into the queue. Whatever is written is on the disk before the checkpoint that goes with it, logs included.

    Args:
        keep: how many.
        every_minutes: minutes of training between two saves; None for none.
        every_steps: optimizer steps between two saves; None for none.
        dirpath: where; None for the run's folder of checkpoints.
    """

    def __init__(
        self,
        keep: int = 2,
        every_minutes: float | None = 10.0,
        every_steps: int | None = None,
        dirpath: str | None = None,
    ) -> None:
        self.keep, self.every_minutes, self.every_steps = keep, every_minutes, every_steps
        self.dirpath = dirpath
        check_counts(self, "keep")
        check_counts(self, "every_steps", optional=True, most=1 << 62)
        check_reals(self, "every_minutes", above=True, optional=True)
        self._told_to_end = self._told_to_make_room = False
        self._ended_by = signal.SIGTERM
        self._step = 0
        self._time = time.monotonic()
        self._previous: dict[int, Any] = {}

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Finds its folder. From here on SLURM's signal is ours: Lightning would save inside of it, whatever is under way."""
        if self.dirpath is None:
            self.dirpath = str(Path(trainer.default_root_dir) / "checkpoints")
        number = requeue_signal(trainer) if stage == "fit" else None
        if number is not None:
            self._told_to_make_room = False
            self._take(number, self._make_room)

    def on_train_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on SIGTERM and Ctrl-C are ours: Lightning's own way out loses the work since the last checkpoint."""
        self._step, self._time = trainer.global_step, time.monotonic()
        self._told_to_end, self._ended_by = False, signal.SIGTERM
        if signal.getsignal(signal.SIGINT) is signal.default_int_handler:
            self._take(signal.SIGINT, self._interrupt)
        self._take(signal.SIGTERM, lambda number, frame: self._end(trainer, number, frame))

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """Saves if it is time, and leaves if any process was told to."""
        now = [self._told_to_end, self._told_to_make_room, self._is_time(trainer)]
        if trainer.world_size > 1:
            told = torch.tensor(now, dtype=torch.int32, device=pl_module.device)
            now = [bool(x) for x in trainer.strategy.reduce(told, reduce_op="max").tolist()]
        if any(now):
            self._save(trainer)
        if now[0] or now[1]:
            self._leave(trainer, make_room=now[1])

    def on_validation_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, *args: Any, **kwargs: Any
    ) -> None:
        """A single process leaves a validation at once: it is done again when training goes on."""
        told = self._told_to_end or self._told_to_make_room
        if told and trainer.world_size == 1 and not trainer.sanity_checking:
            self._save(trainer)
            self._leave(trainer, make_room=self._told_to_make_room)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves behind every validation of a training."""
        if trainer.state.fn == "fit" and not trainer.sanity_checking:
            self._save(trainer)

    def on_train_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Saves the end."""
        self._save(trainer)
        self._release(signal.SIGTERM, signal.SIGINT)

    def teardown(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Gives signals back, behind Lightning, which puts back what it found."""
        self._release(*self._previous)

    def _is_time(self, trainer: Trainer) -> bool:
        steps = (
            self.every_steps is not None and trainer.global_step - self._step >= self.every_steps
        )
        passed = time.monotonic() - self._time
        return steps or (self.every_minutes is not None and passed >= 60 * self.every_minutes)

    def _save(self, trainer: Trainer) -> None:
        self._step, self._time = trainer.global_step, time.monotonic()
        if getattr(trainer, "fast_dev_run", False):
            return
        assert self.dirpath is not None
        newest = Path(self.dirpath) / "next.ckpt"
        trainer.save_checkpoint(newest)
        if trainer.is_global_zero:
            checkpoints.make_room(self.dirpath, self.keep)
            checkpoints.put(newest, newest.with_name("last.ckpt"))

    def _end(self, trainer: Trainer, number: int, frame: FrameType | None) -> None:
        if not self._told_to_end and trainer.strategy.launcher is not None:
            trainer.strategy.launcher.kill(number)
        self._told_to_end = True

    def _interrupt(self, number: int, frame: FrameType | None) -> None:
        if self._told_to_end:
            raise KeyboardInterrupt
        # A handler may stand inside of a print.
        os.write(
            2,
            b"\nCtrl-C: the batch under way is finished and everything saved. Once more stops at once.\n",
        )
        self._told_to_end, self._ended_by = True, signal.SIGINT

    def _make_room(self, number: int, frame: FrameType | None) -> None:
        self._told_to_make_room = True

    def _leave(self, trainer: Trainer, *, make_room: bool) -> None:
        trainer.strategy.barrier("leave")
        if trainer.is_global_zero:
            name = "Ctrl-C" if self._ended_by == signal.SIGINT else "SIGTERM"
            what = "make room" if make_room else f"end ({name})"
            print(
                f"Told to {what}: saved at step {trainer.global_step} in {self.dirpath}. Go on with --ckpt_path=last",
                flush=True,
            )
            if make_room:
                print(f"SLURM: {requeue()}", flush=True)
        # The first process waits for the others; of those it started itself none may seem to have failed.
        raise SIGTERMException(128 + self._ended_by if trainer.is_global_zero else 0)

    def _take(self, number: int, handler: Callable[[int, FrameType | None], None]) -> None:
        with contextlib.suppress(ValueError):  # not in the main thread
            before = signal.signal(number, handler)
            self._previous.setdefault(number, before)

    def _release(self, *numbers: int) -> None:
        for number in numbers:
            if number in self._previous:
                signal.signal(number, self._previous.pop(number))
