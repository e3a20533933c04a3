"""What a run is called, where it writes and who is told: one folder, CSV and W&B."""

from __future__ import annotations

import netrc
import os
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lightning.pytorch.loggers import Logger

from lit_lm.csv_log import CSVLog
from lit_lm.errors import InputError
from lit_lm.wandb_log import WandbLog


@dataclass(frozen=True)
class RunConfig:
    """Identity of a run.

    Args:
        name: the run's name; its folder is ``dir/name``.
        dir: where runs are kept.
        project: W&B project.
        group: W&B group: runs to be seen together, such as the members of a comparison.
        job_type: W&B job type, such as the architecture.
        tags: W&B tags.
        wandb: "online", "offline" (upload later with ``wandb sync``), "disabled", or "auto": online when
            there is a key, else offline. The environment variable WANDB_MODE decides over "auto".
        artifact: the checkpoint that W&B keeps as an artifact when training has ended: "none", "best" or "last".
    """

    name: str = "run"
    dir: str = "runs"
    project: str = "lit_lm"
    group: str | None = None
    job_type: str | None = None
    tags: list[str] = field(default_factory=list)
    wandb: Literal["auto", "online", "offline", "disabled"] = "auto"
    artifact: Literal["none", "best", "last"] = "none"

    def __post_init__(self) -> None:
        for key in ("name", "dir", "project"):
            value = getattr(self, key)
            if not value.strip() or "\0" in value:
                raise InputError(f"run.{key}={value!r} is no name: give at least one letter")
        parts = Path(self.name).parts
        if Path(self.name).is_absolute() or ".." in parts or not parts:
            raise InputError(
                f"run.name={self.name!r} leads out of run.dir={self.dir!r}: give a name, and the folder as run.dir"
            )
        file = next((p for p in (self.folder, *self.folder.parents) if p.is_file()), None)
        if file is not None:
            raise InputError(f"run.dir={self.dir!r}: {file} is a file, where a folder is wanted")

    @property
    def folder(self) -> Path:
        """Everything that the run writes is in here."""
        return Path(self.dir) / self.name

    @property
    def checkpoints(self) -> Path:
        """Where its checkpoints are."""
        return self.folder / "checkpoints"

    def loggers(self, verb: str = "fit", resumed: dict[str, Any] | None = None) -> list[Logger]:
        """``metrics.csv`` in the run's folder (in a folder of its own for other verbs), and W&B unless disabled.

        Args:
            verb: what is done.
            resumed: what a checkpoint knows of the logs of the run that goes on (:class:`Resume`).
        """
        resumed = (resumed or {}) if verb == "fit" else {}
        folder = self.folder if verb == "fit" else self.folder / verb
        loggers: list[Logger] = [CSVLog(folder, keep_rows=resumed.get("rows", 0))]
        mode = self._wandb_mode()
        if mode != "disabled":
            self.folder.mkdir(parents=True, exist_ok=True)
            loggers.append(
                WandbLog(
                    name=self.name,
                    save_dir=self.folder,
                    project=self.project,
                    offline=mode == "offline",
                    group=self.group,
                    job_type=self.job_type,
                    tags=self.tags,
                    id=resumed.get("wandb_id"),
                    artifact=self.artifact if verb == "fit" else "none",
                )
            )
        return loggers

    def _wandb_mode(self) -> str:
        if self.wandb != "auto":
            return self.wandb
        if mode := os.environ.get("WANDB_MODE"):
            return mode
        return "online" if os.environ.get("WANDB_API_KEY") or _netrc_has_key() else "offline"


def _netrc_has_key() -> bool:
    try:
        return netrc.netrc().authenticators("api.wandb.ai") is not None
    except (OSError, netrc.NetrcParseError):
        return False
