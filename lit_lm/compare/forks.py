"""Processes that start at once: a host (``host.py``) imports what they need, which takes seconds, and forks for each."""

from __future__ import annotations

import json
import os
import select
import signal
import subprocess
import sys
import time
from collections.abc import Mapping
from contextlib import suppress
from pathlib import Path
from types import TracebackType
from typing import BinaryIO

MEMBER_MODULES = ("lit_lm.compare.member", "lit_lm.compare.pulse", "lit_lm.training")
# Elsewhere a system's own libraries may not outlive a fork.
CAN_FORK = sys.platform == "linux"
_TICK = 0.05


class Forks:
    """Starts processes by forking, inside a ``with``; behind it the host is gone, and what it has started ends.

    Args:
        modules: what the host imports; the first has a ``main(path)``, which returns an exit status.
    """

    def __init__(self, *modules: str) -> None:
        self._modules = modules
        self._host: subprocess.Popen[bytes] | None = None
        self._said = b""
        self._started: int | None = None
        self._running: set[int] = set()
        self._codes: dict[int, int] = {}

    def __enter__(self) -> Forks:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._end()

    def start(self, job: Path, log: BinaryIO, environment: Mapping[str, str]) -> Forked:
        """Starts a process.

        Args:
            job: what ``main`` is given.
            log: where its output goes, and an error of the host's start.
            environment: its environment; that of the first process is everyone's.
        """
        if self._host is None or not self._hears(0):
            self._end()
            # Asked through NVML whether there is a GPU, CUDA is not begun: it would not outlive a fork.
            self._host = subprocess.Popen(
                [sys.executable, "-m", "lit_lm.compare.host", *self._modules],
                stdin=subprocess.PIPE,
                stdout=subprocess.PIPE,
                stderr=log,
                env={"PYTORCH_NVML_BASED_CUDA_CHECK": "1", **environment},
                start_new_session=True,
            )
        self._started = None
        assert self._host.stdin is not None
        try:
            line = json.dumps({"job": str(job), "log": str(log.name)}) + "\n"
            self._host.stdin.write(line.encode())
            self._host.stdin.flush()
            while self._started is None and self._hears(None):
                pass
        except BrokenPipeError:  # it has died already; why stands in the log
            pass
        return Forked(self, self._started)

    def code(self, pid: int, wait: float = 0) -> int | None:
        """A process's exit status, negative for a signal; None while it runs."""
        self._hears(wait)
        return self._codes.get(pid)

    def _end(self) -> None:
        if self._host is not None:
            self._host.kill()
            with self._host, suppress(BrokenPipeError):
                pass

    def _hears(self, seconds: float | None) -> bool:
        """Takes in what the host says within some seconds (None: whenever it comes); False if the host is gone."""
        assert self._host is not None
        assert self._host.stdout is not None
        stream = self._host.stdout.fileno()
        while select.select([stream], [], [], seconds)[0]:
            new = os.read(stream, 65536)
            if not new:  # killed; its children end themselves
                self._codes |= dict.fromkeys(self._running, -signal.SIGKILL)
                self._running.clear()
                self._said = b""
                return False
            *lines, self._said = (self._said + new).split(b"\n")
            for line in lines:
                pid, code = json.loads(line)
                if code is None:
                    self._codes.pop(pid, None)  # of one that had this id before
                    self._started = pid
                    self._running.add(pid)
                else:
                    self._codes[pid] = code
                    self._running.discard(pid)
            seconds = 0
        return True


class Forked:
    """A process that a host has started, as ``subprocess.Popen`` would describe it.

    Attributes:
        pid: its id, also of its process group; 0 if it could not be started.
    """

    def __init__(self, forks: Forks, pid: int | None) -> None:
        self.pid = pid or 0
        self.returncode = None if pid else 1
        self._forks = forks

    def poll(self) -> int | None:
        """Its exit status; None while it runs."""
        return self._look(0)

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, within these seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self._look(_TICK)) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired("a forked process", timeout or 0.0)
        return code

    def _look(self, seconds: float) -> int | None:
        """Its exit status, if it is known within about these seconds."""
        if self.returncode is None:
            self.returncode = self._forks.code(self.pid, seconds)
        return self.returncode
