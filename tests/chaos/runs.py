"""Runs of the real command that can be killed, and what is compared of them."""

from __future__ import annotations

import csv
import os
import signal
import struct
import subprocess
import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import torch

OVERLAY = Path(__file__).parent / "chaos.yaml"
TIMES = {"seconds", "tokens_per_second", "data_wait_fraction"}
_BLOCK = 32_768
_ROWS, _TOKENS = "--data.init_args.batch_size=4", "--data.init_args.batch_tokens=256"
EXPERIMENTS = {"gpt": _ROWS, "bert": _ROWS, "elmo": _ROWS, "transformer": _TOKENS, "rnn": _TOKENS}
"""Shipped experiments by their short names, and what makes their batches small."""


@dataclass
class Run:
    """One run of an experiment in a folder of its own.

    Args:
        experiment: its short name.
        folder: where.
        flags: added to the command.
    """

    experiment: str
    folder: Path
    flags: list[str] = field(default_factory=list)

    @property
    def checkpoint(self) -> Path:
        return self.folder / "run" / "checkpoints" / "last.ckpt"

    @property
    def log(self) -> Path:
        """Beside the folder, which may stand on a disk that is full."""
        return self.folder.with_name(f"{self.folder.name}.log")

    def start(self, *flags: str, env: dict[str, str] | None = None) -> subprocess.Popen[bytes]:
        """Starts ``lit-lm fit``, which goes on from the last checkpoint if there is one."""
        self.folder.mkdir(parents=True, exist_ok=True)
        command = [
            sys.executable, "-m", "lit_lm", "fit", f"--config=experiment/builtin_{self.experiment}",
            f"--config={OVERLAY}", f"--run.dir={self.folder}", "--run.name=run", "--ckpt_path=last",
            EXPERIMENTS[self.experiment], *self.flags, *flags,
        ]  # fmt: skip
        self.log.parent.mkdir(parents=True, exist_ok=True)
        with self.log.open("ab") as log:
            return subprocess.Popen(
                command,
                stdout=log,
                stderr=log,
                start_new_session=True,
                env={**os.environ, "OMP_NUM_THREADS": "1", "WANDB_SILENT": "true", **(env or {})},
            )

    def finish(self, *flags: str, env: dict[str, str] | None = None, timeout: float = 300) -> int:
        """Runs to the end; the exit status."""
        process = self.start(*flags, env=env)
        try:
            return process.wait(timeout)
        except subprocess.TimeoutExpired:
            end(process, signal.SIGKILL)
            raise

    def content(self) -> dict[str, Any]:
        """What the last checkpoint holds."""
        found: dict[str, Any] = torch.load(self.checkpoint, weights_only=True)
        return found

    def rows(self) -> list[dict[str, str]]:
        """The logged rows, without what the clock says."""
        with (self.folder / "run" / "metrics.csv").open(newline="") as file:
            rows = list(csv.DictReader(file))
        return [{k: v for k, v in row.items() if k not in TIMES and v} for row in rows]

    def tail(self, lines: int = 15) -> str:
        """The end of what it printed."""
        return "\n".join(self.log.read_text(errors="replace").splitlines()[-lines:])


def end(process: subprocess.Popen[bytes], number: int) -> None:
    """Sends a signal; with SIGKILL nothing of the run's processes is left."""
    if number == signal.SIGKILL:
        os.killpg(process.pid, signal.SIGKILL)
    else:
        process.send_signal(number)
    process.wait(120)


def wait_for(run: Run, process: subprocess.Popen[bytes], seconds: float) -> bool:
    """Waits so long from when everything is set up; False if the run ends before that."""
    set_up = run.folder / "run" / "config.yaml"
    begun: float | None = None
    while process.poll() is None:
        if begun is None and set_up.exists():
            begun = time.monotonic()
        if begun is not None and time.monotonic() - begun >= seconds:
            return True
        time.sleep(0.01)
    return False


def differences(a: Run, b: Run) -> list[str]:
    """What two finished runs do not have in common, bit by bit: nothing."""
    one, two = a.content(), b.content()
    found = []
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "global_step", "loops"):
        found += _different(one[key], two[key], key)
    found += _different(one["resume"]["ranks"], two["resume"]["ranks"], "ranks")
    found += _different(a.rows(), b.rows(), "rows")
    return found


def _different(a: Any, b: Any, at: str) -> list[str]:
    if type(a) is not type(b):
        return [f"{at}: {type(a).__name__} and {type(b).__name__}"]
    if isinstance(a, torch.Tensor):
        return [] if torch.equal(a, b) else [at]
    if isinstance(a, dict):
        keys = [f"{at}.{key}: in one only" for key in a.keys() ^ b.keys()]
        return keys + [
            d for key in a.keys() & b.keys() for d in _different(a[key], b[key], f"{at}.{key}")
        ]
    if isinstance(a, list | tuple):
        if len(a) != len(b):
            return [f"{at}: {len(a)} and {len(b)}"]
        return [
            d
            for i, (x, y) in enumerate(zip(a, b, strict=True))
            for d in _different(x, y, f"{at}[{i}]")
        ]
    return [] if a == b else [f"{at}: {a!r} and {b!r}"]


def wandb_steps(run: Run) -> list[int]:
    """Steps of the history in the offline files of a run, by the rule that of two rows of one step the later attempt's
    counts. A new start, from no checkpoint, is a W&B run of its own.
    """
    from wandb.proto import wandb_internal_pb2

    run_id, history = "", {}
    for path in sorted((run.folder / "run" / "wandb").glob("offline-run-*/run-*.wandb")):
        if path.stem != run_id:
            run_id, history = path.stem, {}
        for data in _records(path.read_bytes()):
            record = wandb_internal_pb2.Record()
            record.ParseFromString(data)
            if record.HasField("history"):
                items = record.history.item
                row = {item.key or ".".join(item.nested_key): item.value_json for item in items}
                history[int(row["_step"])] = row
    return sorted(history)


def _records(data: bytes) -> Iterator[bytes]:
    """Records of W&B's offline files, which are LevelDB's log format behind a header of 7 bytes."""
    at, parts = 7, []
    while at + 7 <= len(data):
        left = _BLOCK - at % _BLOCK
        if left < 7:  # too small for a header: filling
            at += left
            continue
        size, kind = struct.unpack("<HB", data[at + 4 : at + 7])
        part = data[at + 7 : at + 7 + size]
        if len(part) < size or kind not in (1, 2, 3, 4):  # a killed run can leave half a record
            return
        at += 7 + size
        parts = [part] if kind in (1, 2) else [*parts, part]
        if kind in (1, 4):
            yield b"".join(parts)
