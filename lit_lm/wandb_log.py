"""W&B that never stops or holds up training: what cannot be sent is kept offline, what cannot be kept is counted."""

from __future__ import annotations

import os
import sys
import time
from collections.abc import Callable, Mapping
from functools import wraps
from pathlib import Path
from typing import Any, ClassVar

from lightning.fabric.loggers.logger import rank_zero_experiment
from lightning.pytorch.loggers import WandbLogger
from lightning.pytorch.utilities import rank_zero_only, rank_zero_warn

from lit_lm import checkpoints, wandb_artifacts

INIT_SECONDS = 20.0
"""How long the start of a run waits for W&B's host."""

FINISH_SECONDS = 30.0
"""How long the end of a run waits for what is yet to be uploaded; it stays on disk."""

PAUSE_SECONDS = 600.0
"""How long no table is written after one that failed: with a silent host each holds up training for 20 s."""


class WandbLog(WandbLogger):
    """Lightning's logger, with two differences.

    A row is written with W&B's own step, which is Lightning's: rows of one step are one row, and each step exists once.
    What comes late, with a step before the last one, joins the last one's row, as W&B takes no other.

    A checkpoint of the run can be kept as an artifact when training has ended; where training started from a checkpoint that
    was kept so, W&B is told that this run used it.

    And nothing that W&B raises gets out of it. If a run cannot be started online within `INIT_SECONDS`, it is kept
    offline, and if that fails too, there is none; a call that fails is reported once and counted.

    Args:
        name: the run's name.
        save_dir: folder in which W&B keeps its files.
        offline: keep the run on disk, for ``wandb sync``.
        id: the run to go on with, or to be made; None for a new one.
        artifact: the checkpoint to keep, "best" or "last", from ``save_dir/checkpoints``; "none" for none.
        settings: further arguments of ``wandb.init``: project, group, job_type, tags.
    """

    _last: ClassVar[Any] = None

    def __init__(
        self,
        *,
        name: str,
        save_dir: str | Path,
        offline: bool,
        id: str | None,
        artifact: str = "none",
        **settings: Any,
    ) -> None:
        super().__init__(name=name, save_dir=save_dir, id=id, **settings)
        self._offline = offline
        self._failed = 0
        self._tables_after = 0.0
        self._step: int | None = None
        self._artifact = artifact
        self._artifact_step: int | None = None
        self._validations: dict[int, dict[str, float]] = {}

    @property
    @rank_zero_experiment
    def experiment(self) -> Any:
        """The run, whose methods raise nothing (on the first rank; the others have a stand-in)."""
        if self._experiment is None:
            self._experiment = Guarded(self._open(), self._report)  # type: ignore[assignment]
        return self._experiment

    @rank_zero_only
    def log_metrics(self, metrics: Mapping[str, Any], step: int | None = None) -> None:
        """Writes a row at Lightning's step."""
        if step is None:
            self.experiment.log(dict(metrics))
            return
        if self._artifact != "none":
            wandb_artifacts.remember(self._validations, metrics, step)
        self._step = max(step, -1 if self._step is None else self._step)
        self.experiment.log({**metrics, "trainer/global_step": step}, step=self._step)

    @rank_zero_only
    def log_hyperparams(self, params: Any) -> None:
        """Writes the model's arguments into the run's configuration."""
        self._attempt(lambda: super(WandbLog, self).log_hyperparams(params))

    @rank_zero_only
    def log_table(
        self,
        key: str,
        columns: list[str] | None = None,
        data: list[list[Any]] | None = None,
        dataframe: Any = None,
        step: int | None = None,
    ) -> None:
        """Writes a table at Lightning's step. W&B asks its host about each: after a failure there is a pause."""
        failed = self._failed
        if time.monotonic() < self._tables_after:
            self._failed += 1
            return
        self._attempt(lambda: super(WandbLog, self).log_table(key, columns, data, dataframe, step))
        if self._failed > failed:
            self._tables_after = time.monotonic() + PAUSE_SECONDS

    @rank_zero_only
    def log_image(
        self, key: str, images: list[Any], step: int | None = None, **kwargs: Any
    ) -> None:
        """Writes pictures (arrays or files) at Lightning's step."""
        self._attempt(lambda: super(WandbLog, self).log_image(key, images, step, **kwargs))

    @rank_zero_only
    def finalize(self, status: str) -> None:
        """Keeps a checkpoint as an artifact, if that is wanted, and says how many calls failed."""
        self._attempt(lambda: super(WandbLog, self).finalize(status))
        if status == "success" and self._artifact != "none":
            self._attempt(self._keep_checkpoint)
        if self._failed > 1:
            rank_zero_warn(f"W&B: {self._failed} calls failed; metrics.csv has all metrics.")

    def _keep_checkpoint(self) -> None:
        path = checkpoints.find(self._artifact, Path(str(self.save_dir)) / "checkpoints")
        if path is None:
            rank_zero_warn(f"W&B: the run has no {self._artifact} checkpoint to keep.")
            return
        run, content = self.experiment, checkpoints.load(path, lazily=True)
        if run.id is None or content["global_step"] == self._artifact_step:  # a test ends, too
            return
        self._artifact_step = content["global_step"]
        name = wandb_artifacts.name_of(str(self._wandb_init["name"]), run.id)
        made = wandb_artifacts.make(path, name, content, self._validations)
        answered = run.log_artifact(made, aliases=[self._artifact]) is not None
        self._attempt(lambda: wandb_artifacts.use_origin(run, content, answered))

    def _attempt(self, call: Callable[[], Any]) -> None:
        try:
            call()
        except Exception as error:
            self._report(error)

    def _report(self, error: Exception) -> None:
        self._failed += 1
        if self._failed == 1:
            rank_zero_warn(
                f"W&B: a call failed, and training goes on without it ({_reason(error)}). Further failures are counted."
            )

    def _open(self) -> Any:
        """The run: online, else offline, else none."""
        for offline in (True,) if self._offline else (False, True):
            try:
                return self._start(offline)
            except Exception as error:
                kept = (
                    "it has no W&B run, metrics.csv has all metrics"
                    if offline
                    else f"W&B's files are kept in {self.save_dir}/wandb, for `wandb sync`"
                )
                how = "offline" if offline else "online"
                rank_zero_warn(
                    f"W&B: the run cannot be logged {how} ({_reason(error)}). Training goes on; {kept}."
                )
        return Absent()

    def _start(self, offline: bool) -> Any:
        # W&B's reports of its own errors go to the same host: if it hangs, the process ends 25 s late.
        os.environ.setdefault("WANDB_ERROR_REPORTING", "false")
        import wandb

        if wandb.run is not None:
            if wandb.run is not WandbLog._last:  # the user's own, of a sweep for instance
                return wandb.run
            wandb.finish()
        if attach_id := getattr(self, "_attach_id", None):  # pickled: the run is another process's
            return wandb._attach(attach_id)  # type: ignore[attr-defined]
        _leave_launch_alone()
        arguments: dict[str, Any] = {**self._wandb_init, "settings": _limits(wandb.Settings)}
        run = wandb.init(**arguments, mode="offline" if offline else None)
        run.define_metric("trainer/global_step")
        run.define_metric("*", step_metric="trainer/global_step", step_sync=True)
        WandbLog._last = run
        return run


class Guarded:
    """Something of W&B's whose calls raise nothing.

    Args:
        target: what it stands for.
        report: is told what was raised.
    """

    def __init__(self, target: Any, report: Callable[[Exception], None]) -> None:
        self._target, self._report = target, report

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        try:
            value = getattr(self._target, name)
        except Exception as error:
            self._report(error)
            return Absent()
        return Guarded(value, self._report) if callable(value) or name == "config" else value

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        try:
            return self._target(*args, **kwargs)
        except Exception as error:
            self._report(error)
            return None


class Absent:
    """A run that could not be had: takes everything and keeps nothing."""

    id = name = url = None

    def __getattr__(self, name: str) -> Any:
        if name.startswith("__"):
            raise AttributeError(name)
        return self

    def __call__(self, *args: Any, **kwargs: Any) -> Any:
        return self


def _leave_launch_alone() -> None:
    """Every start of a run asks for inputs that W&B's ``launch`` has staged, and imports all of it for that: a second.
    Where nobody has imported it, nothing is staged.
    """
    from wandb.sdk.wandb_run import Run

    name = "_detect_and_apply_job_inputs"
    original = getattr(Run, name, None)
    if original is None or hasattr(original, "__wrapped__"):
        return

    @wraps(original)
    def where_imported(run: Any) -> None:
        if "wandb.sdk.launch" in sys.modules:
            original(run)

    setattr(Run, name, where_imported)


def _limits(settings: Any) -> dict[str, float]:
    """W&B's time limits, as far as its version has them and the environment does not set them."""
    limits = {"init_timeout": INIT_SECONDS, "finish_timeout": FINISH_SECONDS}
    return {
        name: value
        for name, value in limits.items()
        if name in settings.model_fields and f"WANDB_{name.upper()}" not in os.environ
    }


def _reason(error: Exception) -> str:
    text = str(error).strip().splitlines()
    return f"{type(error).__name__}: {text[0][:300]}" if text else type(error).__name__
