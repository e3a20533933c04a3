"""How long it takes to start: the command line's help, and training up to its first step."""

from __future__ import annotations

import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

from lightning.pytorch import Callback

from benchmarks.report import Finding

COMMAND = [sys.executable, "-m", "lit_lm"]
EXPERIMENT = "experiment/builtin_gpt"
ROUNDS = 3
MARK = "first step after"


class FirstStep(Callback):
    """Says how much processor time this process has used when the first step is done, and ends it."""

    def on_train_batch_end(self, *args: Any) -> None:
        """Ends without tidying up: that is not measured."""
        print(f"\n{MARK} {time.process_time()} {len(sys.modules)}", flush=True)
        os._exit(0)


def findings() -> dict[str, Callable[[float], list[Finding]]]:
    """Help and fit."""
    return {"start-help": start_help, "start-fit": start_fit}


def start_help(seconds: float) -> list[Finding]:
    """``lit-lm --help``."""
    return [_finding("start-help", "`lit-lm --help`", 1.0, [_run(["--help"]) for _ in range(5)])]


def start_fit(seconds: float) -> list[Finding]:
    """``lit-lm fit`` on prepared data."""
    subprocess.run([*COMMAND, "prepare", "--config", EXPERIMENT], check=True, capture_output=True)
    with tempfile.TemporaryDirectory() as folder:
        flags = ["--config", EXPERIMENT, "--run.dir", folder, "--run.wandb", "offline"]
        callback = f"--trainer.callbacks+={__name__}.FirstStep"
        runs = [_run(["fit", *flags, callback]) for _ in range(ROUNDS)]
    return [_finding("start-fit", "`lit-lm fit` to the end of the first step", 8.0, runs)]


def _run(args: list[str]) -> tuple[float, float]:
    """Seconds of the clock and of the processor."""
    begin = time.perf_counter()
    process = subprocess.Popen(
        [*COMMAND, *args], stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True
    )
    assert process.stdout is not None
    wall = processor = None
    for line in process.stdout:
        if line.startswith(MARK):
            wall, processor = time.perf_counter() - begin, float(line.split()[3])
    _, status, used = os.wait4(process.pid, 0)
    process.returncode = os.waitstatus_to_exitcode(status)
    assert process.returncode == 0, f"lit-lm {' '.join(args)} ended with {process.returncode}"
    if wall is None or processor is None:
        assert args == ["--help"], "no first step"
        return time.perf_counter() - begin, used.ru_utime + used.ru_stime
    return wall, processor


def _finding(name: str, title: str, bar: float, runs: list[tuple[float, float]]) -> Finding:
    wall, processor = (statistics.median(column) for column in zip(*runs, strict=True))
    note = f"{processor:.2f} s of processor time; {len(runs)} runs, {min(runs)[0]:.2f} to {max(runs)[0]:.2f} s"
    return Finding(name, title, wall, "s", f"< {bar:g} s", wall < bar, note)
