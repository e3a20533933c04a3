"""W&B as it can fail, and what it leaves in files."""

from __future__ import annotations

import json
import struct
import time
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb


class FakeRun:
    """Keeps what is logged; every method named in ``broken`` raises."""

    def __init__(self, broken: set[str], id: str | None = None) -> None:
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.broken, self.id, self.name = broken, id or "fresh", "name"
        self.config = SimpleNamespace(update=self._update)
        self.offline = False
        self.updates: dict[str, Any] = {}
        self.kept: list[tuple[Any, list[str]]] = []
        self.used: list[str] = []

    def _do(self, what: str) -> None:
        if what in self.broken:
            raise OSError(f"{what}: no space left on device")

    def log(self, row: dict[str, Any], step: int | None = None) -> None:
        self._do("log")
        self.rows.append((step, row))

    def _update(self, values: dict[str, Any], **kwargs: Any) -> None:
        self._do("config")
        self.updates |= values

    def log_artifact(self, artifact: Any, aliases: list[str]) -> Any:
        self._do("log_artifact")
        self.kept.append((artifact, aliases))
        return artifact

    def use_artifact(self, name: str) -> None:
        self._do("use_artifact")
        self.used.append(name)

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self._do("define_metric")


class FakeWandb:
    """``wandb.init`` as it can fail."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, online: Any = None, offline: Any = None
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        self.broken: set[str] = set()
        self.fails = {None: online, "offline": offline}
        monkeypatch.setattr(wandb, "run", None)
        monkeypatch.setattr(wandb, "init", self.init)

    def init(self, **arguments: Any) -> FakeRun:
        self.calls.append(arguments)
        if (error := self.fails[arguments["mode"]]) is not None:
            raise error
        self.run = FakeRun(self.broken, arguments["id"])
        return self.run


def offline_runs(folder: Path) -> list[Path]:
    return list(folder.glob("run/wandb/offline-run-*/*.wandb"))


def history_steps(file: Path, least: int = 1, seconds: float = 20.0) -> list[int]:
    """W&B's steps in a run's file, which W&B's service may write a little after the run's end."""
    until = time.monotonic() + seconds
    while len(steps := _steps(file)) < least and time.monotonic() < until:
        time.sleep(0.2)
    return steps


def _steps(file: Path) -> list[int]:
    steps = []
    for record in records(file):
        if record.HasField("history"):
            items = {(i.key or i.nested_key[0]): i.value_json for i in record.history.item}
            steps.append(int(json.loads(items["_step"])))
    return steps


def records(file: Path) -> list[Any]:
    """Records in the framing of LevelDB's log behind seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, part, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if kind == 0 or at + 7 + length > len(content):
            break  # it is being written
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
    return found
