"""Going on from a checkpoint on the command line: which file is meant, and whose settings count."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

from lightning.pytorch.utilities import rank_zero_info

from lit_lm import checkpoints
from lit_lm.errors import InputError


def find(given: str | None, folder: Path, verb: str | None) -> str | None:
    """The file that ``--ckpt_path`` means; None for a new start.

    Args:
        given: a path, an address, or "best", "average", "last", "last-intact".
        folder: of the run's checkpoints.
        verb: what is done with it; training starts anew where there is no last one yet, and says so.

    Raises:
        InputError: there is none, or the last one is damaged.
    """
    if given is None and verb == "fit" and checkpoints.kept(folder) and _is_back_from_the_queue():
        rank_zero_info(
            "SLURM has put this job back into the queue: going on as with --ckpt_path=last."
        )
        given = "last"
    if given not in ("best", "average", "last", "last-intact"):
        return given
    found = checkpoints.find(given, folder)
    if found is not None:
        return str(found)
    if verb != "fit" or given in ("best", "average"):
        raise InputError(
            f"--ckpt_path={given}: there is none in {folder}. Train first, or give the file's path (run.name and "
            "run.dir say where runs are kept)"
        )
    rank_zero_info(f"--ckpt_path={given}: there is no checkpoint in {folder} yet: a new start.")
    return None


def _is_back_from_the_queue() -> bool:
    """Whether SLURM starts this job for another time: the same command is to go on then, not to begin again."""
    return os.environ.get("SLURM_RESTART_COUNT", "0") not in ("", "0")


def check_same_architecture(path: str, hparams: dict[str, Any], model: Any) -> None:
    """Raises InputError unless the checkpoint holds the task and architecture that ``model`` configures."""
    wanted = (model["class_path"], (model.get("init_args") or {}).get("net", {}))
    found = (hparams.get("_class_path"), hparams.get("net", {}))
    names = [
        (str(task).rpartition(".")[2], str(net.get("class_path")).rpartition(".")[2])
        for task, net in (wanted, found)
    ]
    if names[0] != names[1]:
        raise InputError(
            f"{path} holds {names[1][0]} of {names[1][1]}, but the configuration asks for {names[0][0]} of "
            f"{names[0][1]}: give the configuration it was trained with"
        )


def name_changes(before: dict[str, Any] | None, now: dict[str, Any]) -> None:
    """Says what is not as it was when a checkpoint was written, one line a setting."""
    lines = [] if before is None else changes(before, now)
    if lines:
        rank_zero_info("Changed since the checkpoint was written:\n  " + "\n  ".join(lines))


def settings(hparams: dict[str, Any], given: dict[str, Any], flags: list[str]) -> dict[str, Any]:
    """A checkpoint's task as the command line configures it: its own settings, but for those that are given as flags.

    Args:
        hparams: the checkpoint's.
        given: the model as it is configured.
        flags: the command line.
    """
    own = {key: value for key, value in hparams.items() if not key.startswith("_")}
    take_flags(own, given, flags)
    return {"class_path": hparams["_class_path"], "dict_kwargs": own}


def take_flags(own: dict[str, Any], given: dict[str, Any], flags: list[str]) -> None:
    """Sets what flags have set of a task's settings, as far as ``own`` has the setting.

    Args:
        own: the settings.
        given: the model as it is configured.
        flags: the command line.
    """
    for flag in flags:
        if flag.startswith("--model."):  # levels of init_args may be left out
            keys = flag.removeprefix("--model.").partition("=")[0].split(".")
            keys = [key for key in keys if key != "init_args"]
            if keys[0] in own:
                _take_over(own, given, keys)


def changes(before: dict[str, Any], now: dict[str, Any]) -> list[str]:
    """What is not as it was, one line a setting; what only names and places a run is left out."""
    old, new = _flat(before), _flat(now)
    return [
        f"{key}: {old.get(key)!r} -> {new.get(key)!r}"
        for key in sorted(old.keys() | new.keys())
        if old.get(key) != new.get(key) and not key.startswith(("run.", "ckpt_path", "config"))
    ]


def _take_over(settings: dict[str, Any], given: dict[str, Any], keys: list[str]) -> None:
    """Sets one nested setting as it stands in another tree; levels of ``init_args`` count in neither."""
    given = given.get("init_args", given)
    if len(keys) > 1 and isinstance(settings.get(keys[0]), dict):
        inner = settings[keys[0]] = dict(settings[keys[0]])
        if "init_args" in inner:
            inner["init_args"] = dict(inner["init_args"])
            inner = inner["init_args"]
        _take_over(inner, given[keys[0]], keys[1:])
    else:
        settings[keys[0]] = given[keys[0]]


def _flat(value: Any, prefix: str = "") -> dict[str, Any]:
    if not isinstance(value, dict) or not value:
        return {prefix: value}
    parts = [
        _flat(inner, f"{prefix}.{key}" if prefix else str(key)) for key, inner in value.items()
    ]
    return {key: inner for part in parts for key, inner in part.items()}
