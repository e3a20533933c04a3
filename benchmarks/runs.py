"""What scripts share that train by the commands that anyone would type, and keep what they measure."""

from __future__ import annotations

import json
import re
import statistics
import subprocess
import sys
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

from filelock import FileLock

from lit_lm import configs
from lit_lm.compare.files import write_text

Run = dict[str, Any]


def lit_lm(*args: str) -> str:
    """Runs a command, whose progress shows, and gives what it printed."""
    print("$ lit-lm", *args, file=sys.stderr, flush=True)
    shown = args[0] == "fit"
    done = subprocess.run(
        [sys.executable, "-m", "lit_lm", *args],
        stdout=None if shown else subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout or ""


def recipe(experiment: str) -> dict[str, str]:
    """Texts of an experiment's YAML and of those that it names, by folder and name."""
    first = configs.find(f"experiment/{experiment}")
    text = first.read_text()
    named = [first.parent / name for name in re.findall(r"\.\./[\w/]+\.yaml", text)]
    return {f"{path.parent.name}/{path.name}": path.read_text() for path in (first, *named)}


def add(
    path: Path, found: list[Run], key: Callable[[Run], Any], page: Callable[[list[Run]], str]
) -> None:
    """Adds runs to those that were measured before, in the place of earlier ones with the same key, and writes the page anew.

    Args:
        path: of the JSON and the Markdown, without ending; several scripts may add to it at a time.
        found: the new runs.
        key: what a run is known by, and sorted by.
        page: all runs as Markdown.
    """
    file = path.with_suffix(".json")
    file.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(path.with_suffix(".lock")):
        before = json.loads(file.read_text()) if file.is_file() else []
        new = {key(run) for run in found}
        runs = sorted([*(run for run in before if key(run) not in new), *found], key=key)
        write_text(file, json.dumps(runs, indent=1) + "\n")
        write_text(path.with_suffix(".md"), page(runs))


def verdict(values: Sequence[float], bar: float, seeds: int) -> str:
    """Whether the mean over seeds reaches its bar, and how many seeds there are so far where that is to be over more."""
    reached = "reached" if statistics.mean(values) >= bar else "**not reached**"
    return reached + (f" ({len(values)} of {seeds} seeds so far)" if len(values) < seeds else "")


def place(about: dict[str, Any]) -> str:
    """The machine of a run in words, from what :func:`benchmarks.report.machine` noted."""
    cores = f"{about['cores']} cores of {about['processor']} ({about['instructions']})"
    return f"{about['gpu'] or cores}, torch {about['versions']['torch']}"


def places(runs: list[Run]) -> str:
    """The machines of runs in words."""
    return "; ".join(sorted({place(run["about"]) for run in runs}))


def trained(run: Run, processes: int = 1) -> str:
    """How long a run was trained, and on what."""
    minutes = f"{run['train_seconds'] / 60:.0f} min"
    gpu = run["about"]["gpu"]
    return f"{minutes}, {gpu}" if gpu else f"{minutes}, {processes} x {run['threads']} CPU threads"
