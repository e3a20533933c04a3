"""A sweep for W&B: its server chooses the settings, and its agents call ``lit-lm fit`` with them."""

from __future__ import annotations

import shlex
from pathlib import Path
from typing import Any

import yaml

from lit_lm import configs
from lit_lm.compare.files import write_text
from lit_lm.compare.plan import find
from lit_lm.errors import InputError
from lit_lm.sweep.config import ARGUMENTS, Parameter, Sweep, load

AGENTS = "agents"
"""Folder of the runs of W&B's agents, in the sweep's."""


def wandb_form(sweep: Sweep) -> dict[str, Any]:
    """What ``wandb sweep`` takes: the keys of its schema only, and the same dotted keys.

    An agent is to be started in the folder that ``lit-lm sweep`` would be started in: paths are relative to it.
    """
    form: dict[str, Any] = {
        "name": sweep.name,
        "project": sweep.project,
        "method": sweep.method,
        "metric": {"name": sweep.metric.name, "goal": sweep.metric.goal},
        "parameters": {its.key: _parameter(its) for its in sweep.parameters},
        "command": list(sweep.command or _command(sweep)),
    }
    if sweep.runs is not None:
        form["run_cap"] = sweep.runs
    return form


def print_wandb_form(config: str, output: str | None = None) -> None:
    """Writes a sweep's YAML for ``wandb sweep``.

    Args:
        config: the sweep's YAML: a path, or the name of a shipped one.
        output: the file to write; stdout when None.
    """
    text = yaml.safe_dump(wandb_form(load(find(config))), sort_keys=False, width=100)
    if output is None:
        print(text, end="")
        return
    path = Path(output)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        write_text(path, text)
    except OSError as error:
        raise InputError(f"--output {output} cannot be written: {error.strerror}") from error
    print(f"{path}: wandb sweep {shlex.quote(str(path))}, then the wandb agent that it names")


def experiment(sweep: Sweep) -> str:
    """The experiment as ``lit-lm fit --config`` takes it: a shipped one by its name, any other by its path."""
    path = find(sweep.config, sweep.path.parent if sweep.path else None)
    shipped = path.resolve().is_relative_to(configs.shipped().resolve())
    return sweep.config if shipped and not sweep.config.startswith(".") else str(path)


def _parameter(parameter: Parameter) -> dict[str, Any]:
    if len(parameter.values) == 1:
        return {"value": parameter.values[0]}
    if parameter.values:
        return {"values": list(parameter.values)}
    return {
        "distribution": parameter.distribution,
        "min": parameter.min,
        "max": parameter.max,
    }


def _command(sweep: Sweep) -> list[str]:
    """Through a shell, as only the environment of a run knows its id: each run needs a folder of its own."""
    fit = [
        "lit-lm",
        "fit",
        f"--config={experiment(sweep)}",
        f"--run.dir={(sweep.folder / AGENTS).as_posix()}",
    ]
    line = f'exec {shlex.join(fit)} --run.name="$WANDB_RUN_ID" --run.group={shlex.quote(sweep.name)} "$@"'
    return ["/usr/bin/env", "sh", "-c", line, "sh", ARGUMENTS]
