"""A run's checkpoint as a W&B artifact, and the one that its training started from: what W&B draws a lineage of."""

from __future__ import annotations

import math
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from lit_lm import checkpoints

KIND = "model"
"""The type of the artifacts."""

FILE = "model.ckpt"
"""What the checkpoint is called in its artifact, whatever it is called on disk: the content alone makes a version."""

_MOST_LETTERS = 128

Validations = dict[int, dict[str, float]]
"""Metrics by the step that they were logged at."""


def name_of(run: str, wandb_id: str) -> str:
    """What the artifact of a run is called: the run's name and its W&B id, so that no two runs share one.

    Args:
        run: the run's name.
        wandb_id: its id.
    """
    name, end = re.sub(r"[^A-Za-z0-9_.-]+", "-", run).strip("-"), f"-{wandb_id}"
    return name[: _MOST_LETTERS - len(end)] + end


def remember(validations: Validations, metrics: Mapping[str, Any], step: int) -> None:
    """Notes the finite metrics of a validation that was logged at a step."""
    numbers = {k: float(v) for k, v in metrics.items() if k.startswith("val/") and _is_number(v)}
    if numbers:
        validations.setdefault(step, {}).update(numbers)


def make(path: Path, name: str, content: Mapping[str, Any], validations: Validations) -> Any:
    """The artifact of a checkpoint, not yet logged. W&B keeps a copy of the file until it is uploaded.

    Args:
        path: the checkpoint.
        name: of the artifact.
        content: what the checkpoint holds.
        validations: what :func:`remember` noted.
    """
    import wandb

    artifact = wandb.Artifact(name, KIND, metadata=about(content, validations))
    (artifact.add_dir if path.is_dir() else artifact.add_file)(
        str(path), FILE
    )  # a folder of shards
    return artifact


def about(content: Mapping[str, Any], validations: Validations) -> dict[str, Any]:
    """Architecture, task and step of a checkpoint, and the metrics of the last validation before it was saved."""
    hparams = content.get("hyper_parameters", {})
    step = content["global_step"]
    # A validation behind step n is logged at n - 1, where batches are counted from 0.
    last = max((logged for logged in validations if logged < step), default=None)
    return {
        "architecture": _class_name(hparams.get("net", {}).get("class_path", "")),
        "task": _class_name(hparams.get("_class_path", "")),
        "step": step,
        "epoch": content.get("epoch"),
        "metrics": {} if last is None else validations[last],
    }


def use_origin(run: Any, content: Mapping[str, Any], answered: bool) -> None:
    """Tells W&B which artifact a run's training started from. Offline it is noted in the run's configuration only: W&B links to
    what its host has.

    Args:
        run: the W&B run.
        content: what a checkpoint of it holds.
        answered: whether its host answers; one that does not holds up 20 s a question.
    """
    name = origin(content)
    if name is not None:
        run.config.update({"started_from": name}, allow_val_change=True)
        if answered and not run.offline:
            run.use_artifact(name)


def origin(content: Mapping[str, Any]) -> str | None:
    """The artifact of the run whose checkpoint training started from (``pretrained.path``), as ``project/name:alias``.

    Args:
        content: what a checkpoint of the run holds.

    Returns:
        None where it started from nothing, from a folder, or from a checkpoint that was not logged.
    """
    start = (content.get("config") or {}).get("pretrained") or {}
    path = start.get("path")
    if path is None or not start.get("weights") or Path(path).expanduser().is_dir():
        return None
    theirs = checkpoints.load(path, lazily=True)
    run = (theirs.get("config") or {}).get("run") or {}
    wandb_id = ((theirs.get("resume") or {}).get("logs") or {}).get("wandb_id")
    alias = run.get("artifact", "none")
    if wandb_id is None or alias == "none":
        return None
    return f"{run['project']}/{name_of(run['name'], wandb_id)}:{alias}"


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and math.isfinite(value)


def _class_name(path: str) -> str:
    return path.rpartition(".")[2].removesuffix("Config")
