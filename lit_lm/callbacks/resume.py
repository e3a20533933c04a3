"""Exact resume: whatever checkpoint training goes on from, it goes on as if it had never stopped.

Lightning's checkpoints hold weights, optimizers and counters. What they lack is here: the random numbers of every rank, the
gradients of a window that is not complete, what a task carries from batch to batch, and whether a validation was due.
Lightning saves its counters as they stand in the middle of whatever hook saves; here they are brought into one of two forms,
so that it does not matter where that was: "n batches of epoch e are done", or "epoch e has not begun".
"""

from __future__ import annotations

import os
from typing import Any

import torch
from lightning.fabric.plugins.io import TorchCheckpointIO
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.callbacks import EarlyStopping
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_info

from lit_lm.callbacks.keep_last import KeepLast
from lit_lm.callbacks.meter import Meter
from lit_lm.callbacks.randomness import State, random_state, set_random_state
from lit_lm.checkpoints import CheckpointFiles, check_can_go_on
from lit_lm.csv_log import CSVLog
from lit_lm.errors import InputError

KEY = "resume"
_Counts = dict[str, Any]


class Resume(Callback):
    """Puts into every checkpoint what exact resume needs, and takes it from there.

    Evaluation leaves training's random numbers alone: how often a run is validated changes nothing in it.
    """

    def __init__(self) -> None:
        self._phase = "training"
        self._due = False
        self._random: State | None = None  # training's, while something else is going on
        self._loaded: dict[str, Any] | None = None
        self._logs_are_there = False
        self._patience: dict[str, int] = {}

    # ---- where training stands ---------------------------------------------------------------

    def on_train_batch_start(
        self, trainer: Trainer, pl_module: LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """A batch is under way. Also sets the step that Lightning logs at, which it restores in some cases only."""
        self._phase = "training"
        trainer.fit_loop.epoch_loop._batches_that_stepped = trainer.global_step

    def on_train_batch_end(
        self, trainer: Trainer, pl_module: LightningModule, outputs: Any, batch: Any, batch_idx: int
    ) -> None:
        """A batch is done; perhaps a validation is due now."""
        self._phase, self._due = "trained", _validation_is_due(trainer)

    def on_validation_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """From here on random numbers are the validation's."""
        if not trainer.sanity_checking:
            self._phase = "validating"
            self._random = random_state(pl_module.device)

    def on_validation_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Its results are logged; what callbacks do now is still no training."""
        if not trainer.sanity_checking:
            self._phase = "validated"

    def back_to_training(self, pl_module: LightningModule) -> None:
        """From here on, behind all callbacks, random numbers are training's again."""
        if self._random is not None:
            set_random_state(self._random, pl_module.device)
            self._random = None

    # ---- saving ------------------------------------------------------------------------------

    def on_save_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Adds what is missing. Every rank must call it, as it does in ``Trainer.save_checkpoint``."""
        own = {
            "random": self._random or random_state(pl_module.device),
            "task": pl_module.carried(),  # type: ignore[operator]
        }
        checkpoint[KEY] = {
            "ranks": _gather(trainer, own),
            "validation_due": self._validation_left(trainer),
            "accumulate": trainer.accumulate_grad_batches,
            "seed": os.environ.get("PL_GLOBAL_SEED"),
            "logs": _logs(trainer),
            "row": _unlogged(trainer),
        }
        _straighten(trainer, checkpoint["loops"]["fit_loop"])

    def _validation_left(self, trainer: Trainer) -> bool:
        if self._phase == "training":
            return _validation_is_due(trainer)
        return self._phase == "validating" or (self._phase == "trained" and self._due)

    # ---- going on ----------------------------------------------------------------------------

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Files are written and read by :mod:`lit_lm.checkpoints`. Remembers settings that Lightning overwrites with a
        checkpoint's.
        """
        if type(trainer.strategy.checkpoint_io) is TorchCheckpointIO:
            trainer.strategy.checkpoint_io = CheckpointFiles()
        self._patience = {c.state_key: c.patience for c in _stoppers(trainer)}

    def on_load_checkpoint(
        self, trainer: Trainer, pl_module: LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Takes what :meth:`on_save_checkpoint` put in.

        Raises:
            InputError: something was changed that the checkpoint would silently undo, or it holds weights only.
        """
        if not trainer.training:
            return
        check_can_go_on(checkpoint)
        state = checkpoint.get(KEY)
        if state is None or len(state["ranks"]) != trainer.world_size:
            before = "an unknown number of" if state is None else len(state["ranks"])
            rank_zero_info(
                f"The checkpoint is of {before} processes, and here are {trainer.world_size}: random numbers start anew, "
                "so that the run is not bit for bit the one it would have been."
            )
        if state is None:
            return
        _refuse_changes(trainer, state)
        self._loaded, self._logs_are_there = state, False
        # A run that was to end behind a validation must not end before it.
        fit_loop: Any = trainer.fit_loop
        if state["validation_due"] and fit_loop.max_steps == checkpoint["global_step"]:
            fit_loop.epoch_loop.max_steps += 1
            state["last_step"] = checkpoint["global_step"]

    def on_fit_start(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Brings the logs to where the checkpoint is, also where there is nothing left to train."""
        self._bring_logs(trainer)

    def _bring_logs(self, trainer: Trainer) -> None:
        if self._loaded is None or self._logs_are_there:
            return
        self._logs_are_there = True
        if trainer.is_global_zero:
            _repeat_rows(trainer)
        if row := self._loaded["row"]:
            for logger in trainer.loggers:
                logger.log_metrics(row["values"], row["step"])

    def go_on(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Everything is in place and all callbacks have begun: goes on, first with a validation that was due."""
        self._bring_logs(trainer)  # strategies that shard load a checkpoint behind on_fit_start
        for callback in _stoppers(trainer):
            callback.patience = self._patience.get(callback.state_key, callback.patience)
        state, self._loaded = self._loaded, None
        fit_loop: Any = trainer.fit_loop
        if fit_loop._combined_loader_states_to_load:
            # Lightning has opened the loaders before it knew, where a schedule asked how long training takes.
            fit_loop._load_combined_loader_states()
        if fit_loop.epoch_loop._num_ready_batches_reached():
            fit_loop._data_fetcher.done = True  # Lightning would ask for one batch more
        if state is None:
            return
        ranks = state["ranks"]
        if len(ranks) == trainer.world_size:
            own = ranks[trainer.global_rank]
            set_random_state(own["random"], pl_module.device)
            pl_module.carry_on(own["task"])  # type: ignore[operator]
        if state["validation_due"]:
            _validate(trainer)
        if "last_step" in state:
            fit_loop.epoch_loop.max_steps = state["last_step"]
            trainer.should_stop = True


def arrange(trainer: Trainer) -> None:
    """Puts callbacks in order: whoever saves, what is counted is counted; and what is saved last is what all have left."""
    callbacks: list[Any] = trainer.callbacks  # type: ignore[attr-defined]
    callbacks.sort(key=lambda c: isinstance(c, KeepLast) - isinstance(c, Meter | Resume))


def _validation_is_due(trainer: Trainer) -> bool:
    loop: Any = trainer.fit_loop.epoch_loop
    return bool(loop._should_check_val_fx(trainer.fit_loop._data_fetcher))


def _validate(trainer: Trainer) -> None:
    """The validation behind the last batch, as Lightning's loop runs it."""
    loop: Any = trainer.fit_loop.epoch_loop
    connector = trainer._logger_connector
    stepped = not loop._should_accumulate()
    loop._batches_that_stepped = trainer.global_step - int(stepped)
    first = connector._first_loop_iter
    trainer.validating = True
    loop.val_loop.restarting = False
    loop.val_loop.run()
    loop.val_loop._has_run = (
        False  # or Lightning would leave the epoch before it has taken up its own counters
    )
    trainer.training = True
    connector._first_loop_iter = first


def _straighten(trainer: Trainer, loop: dict[str, Any]) -> None:
    """Brings the counters of a checkpoint into one of the two forms."""
    epochs, batches = loop["epoch_progress"], loop["epoch_loop.batch_progress"]
    done = batches["current"]["processed"]
    ended = epochs["current"]["processed"] == epochs["current"]["ready"]
    over = ended and (batches["is_last_batch"] or done >= trainer.num_training_batches)
    for counts in (epochs["total"], epochs["current"]):
        _set(counts, counts["ready"], counts["ready"] - (0 if over else 1))
    _set(batches["total"], batches["total"]["processed"])
    _set(batches["current"], 0 if over else done)
    batches["is_last_batch"] &= not over
    if over:
        optimizer = loop["epoch_loop.automatic_optimization.optim_progress"]["optimizer"]
        steps = (loop["epoch_loop.scheduler_progress"], optimizer["step"], optimizer["zero_grad"])
        for counts in steps:
            _set(counts["current"], 0)
    # The step that is logged at, as it is when the next batch begins.
    loop["epoch_loop.state_dict"]["_batches_that_stepped"] = trainer.global_step
    validation = loop["epoch_loop.val_loop.batch_progress"]
    for counts in (validation["total"], validation["current"]):
        _set(counts, 0)
    validation["is_last_batch"] = False
    epoch = epochs["current"]["ready"] - (0 if over else 1)
    for state in loop.get("combined_loader", ()):
        if isinstance(state, dict) and {"epoch", "position"} <= state.keys():
            state |= {"epoch": epoch, "position": batches["current"]["ready"]}


def _set(counts: _Counts, begun: int, done: int | None = None) -> None:
    done = begun if done is None else done
    values = {"ready": begun, "started": begun, "processed": done, "completed": done}
    counts |= {key: value for key, value in values.items() if key in counts}


def _gather(trainer: Trainer, own: Any) -> list[Any]:
    """What each rank gives, on the first rank; the others get an empty list."""
    if trainer.world_size == 1:
        return [own]
    everyone = [None] * trainer.world_size if trainer.global_rank == 0 else None
    torch.distributed.gather_object(own, everyone)
    return everyone or []


def _logs(trainer: Trainer) -> dict[str, Any]:
    """What continues the logs: the rows of ``metrics.csv``, on the disk from here on, and the id of the W&B run."""
    out: dict[str, Any] = {}
    for logger in trainer.loggers:
        if isinstance(logger, CSVLog):
            logger.save()
            out["rows"] = logger.rows
        elif isinstance(logger, WandbLogger) and logger.version is not None:
            out["wandb_id"] = logger.version
    return out


def _repeat_rows(trainer: Trainer) -> None:
    """Gives W&B the rows up to the checkpoint that it does not have: a kill takes what it had not written yet."""
    for log in (logger for logger in trainer.loggers if isinstance(logger, CSVLog)):
        for logger in (logger for logger in trainer.loggers if isinstance(logger, WandbLogger)):
            known = logger.experiment.step
            for row in log.read():
                step = int(row.pop("step", 0))
                if isinstance(known, int) and step >= known:
                    logger.log_metrics(row, step)


def _unlogged(trainer: Trainer) -> dict[str, Any]:
    """The row that Lightning logs behind the hook at a batch's end, if that is where it is now."""
    loop: Any = trainer.fit_loop.epoch_loop
    connector = trainer._logger_connector
    batches = loop.batch_progress.total
    if batches.completed == batches.processed or loop._should_accumulate():
        return {}
    if not connector.should_update_logs:
        return {}
    values = {name: float(value) for name, value in connector.metrics["log"].items()}
    step = int(values.pop("step", loop._batches_that_stepped))
    return {"values": {"epoch": trainer.current_epoch, **values}, "step": step}


def _stoppers(trainer: Trainer) -> list[EarlyStopping]:
    return [c for c in trainer.callbacks if isinstance(c, EarlyStopping)]  # type: ignore[attr-defined]


def _refuse_changes(trainer: Trainer, state: dict[str, Any]) -> None:
    seed = os.environ.get("PL_GLOBAL_SEED")
    if state["seed"] is not None and seed is not None and seed != state["seed"]:
        raise InputError(
            f"the checkpoint's run was started with seed_everything={state['seed']}: its random numbers go on, and "
            f"seed_everything={seed} would mean nothing. Leave it as it was, or start anew without --ckpt_path"
        )
    open_window = any(rank["task"].get("gradients") for rank in state["ranks"])
    if open_window and state["accumulate"] != trainer.accumulate_grad_batches:
        raise InputError(
            "the checkpoint is from the middle of an accumulation window of "
            f"{state['accumulate']} batches: accumulate_grad_batches={trainer.accumulate_grad_batches} cannot take it "
            "up. Leave it as it was, or go on from a checkpoint at the end of a window"
        )
    if open_window and len(state["ranks"]) != trainer.world_size:
        raise InputError(
            f"the checkpoint is from the middle of an accumulation window of {len(state['ranks'])} processes, and there "
            f"are {trainer.world_size} now: go on with as many devices"
        )
