"""A job of several processes ends when one of them dies or falls silent: none waits for it until a collective times out."""

from __future__ import annotations

import contextlib
import itertools
import os
import platform
import signal
import sys
import threading
import time
from collections.abc import Callable
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch.distributed as dist
from torch.distributed import distributed_c10d as c10d

_generations = itertools.count()
_GRACE = 5.0


@dataclass(frozen=True)
class Process:
    """A process, as others find it again.

    Attributes:
        host: its name.
        system: which numbering of processes its number belongs to; "" where that cannot be told.
        pid: its number.
        started: when it started, so that a number used again is not mistaken for it.
    """

    host: str
    system: str
    pid: int
    started: str

    @classmethod
    def this(cls) -> Process:
        """The process that asks."""
        try:
            boot = Path("/proc/sys/kernel/random/boot_id").read_text().strip()
            system = f"{boot} {os.readlink('/proc/self/ns/pid')}"
        except OSError:
            system = ""
        pid = os.getpid()
        return cls(platform.node(), system, pid, _stat(pid)[1])

    @property
    def here(self) -> bool:
        """Whether its number means something to the process that asks."""
        return self.system != "" and self.system == Process.this().system

    @property
    def gone(self) -> bool:
        """Whether it certainly runs no more."""
        if not self.here:
            return False
        state, started = _stat(self.pid)
        return state in ("", "Z", "X") or started != self.started

    def end(self) -> None:
        """Ends it, if it is here: also when it is stopped and cannot end itself."""
        if self.here and not self.gone:
            with contextlib.suppress(OSError):
                os.kill(self.pid, signal.SIGKILL)

    def __str__(self) -> str:
        return f"process {self.pid} on {self.host}"


def _stat(pid: int) -> tuple[str, str]:
    """State and start of a process; empty where there is none."""
    try:
        fields = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return "", ""
    return fields[0], fields[19]


class Peers:
    """Watches the other processes of a job from threads of its own, and ends this one when one of them is dead.

    Every process leaves a sign of life in the process group's store a few times a timeout, whatever its main thread is
    doing: a long validation or checkpoint is no silence. Each watches the one before it and the store itself, which lives
    in the process of rank 0 (under ``torchrun`` in its agent), so that a beat costs as little with many processes as
    with two. A process that is gone from this host counts as dead at once. Whoever finds one dead tells the others.

    Time in which this process itself was stopped or starved is no silence of the others.

    Args:
        connect: gives the store where the processes meet, for these threads alone.
        rank: this process's.
        world_size: number of processes.
        timeout: seconds of silence after which a process counts as dead.
        exit: ends this process.
    """

    def __init__(
        self,
        connect: Callable[[], Any],
        rank: int,
        world_size: int,
        timeout: float,
        exit: Callable[[int], Any] = os._exit,
    ) -> None:
        self.rank, self.world_size, self.timeout = rank, world_size, timeout
        self._connect, self._exit = connect, exit
        self._store: Any = None
        self._interval = min(max(timeout / 10, 0.05), 3.0)
        self._error: BaseException | None = None
        self._leaving, self._left = threading.Event(), threading.Event()
        self._watched = {(rank - 1) % world_size, 0} - {rank}
        self._processes: dict[int, Process] = {}
        now = time.monotonic()
        self._beats: dict[int, tuple[bytes, float]] = dict.fromkeys(self._watched, (b"", now))
        self._store_answered = now
        self._ended: tuple[str, float] | None = None
        self._accused: Process | None = None

    @classmethod
    def start(cls, rank: int, world_size: int, timeout: float) -> Peers | None:
        """Starts to watch the processes of the default process group; None if there is no such group."""
        if not (dist.is_available() and dist.is_initialized()):
            return None
        prefix = f"lit_lm/{next(_generations)}"

        def connect() -> Any:
            # A client of its own: the main thread's may be waiting for others.
            client = c10d._get_default_store().clone()  # type: ignore[attr-defined]
            return c10d.PrefixStore(prefix, client)

        peers = cls(connect, rank, world_size, timeout)
        peers.run()
        return peers

    def run(self) -> None:
        """Starts the threads: one talks to the store, which may block, the other one judges."""
        for target in (self._talk, self._judge):
            threading.Thread(
                target=target, name=f"lit_lm-peers{target.__name__}", daemon=True
            ).start()

    def leave(self, error: BaseException | None = None) -> None:
        """Says goodbye: from now on nobody waits for this process, nor does it watch the others.

        Args:
            error: why it stops too early; the others are told.
        """
        self._error = error
        self._leaving.set()
        self._left.wait(self.timeout)

    # ---- the thread that talks ---------------------------------------------------------------

    def _talk(self) -> None:
        for beat in itertools.count():
            try:
                if self._store is None:
                    self._introduce()
                self._store.set(f"beat/{self.rank}", str(beat))
                self._listen()
                self._store_answered = time.monotonic()
            except RuntimeError:  # a store that cannot be reached is silent: see _judge
                self._store = None  # a connection that has failed once may not recover
            known = len(self._processes) == len(self._watched)
            if self._leaving.wait(self._interval if known else min(self._interval, 0.1)):
                break
        with contextlib.suppress(RuntimeError):
            if self._store is not None:
                self._say_goodbye()
        self._left.set()

    def _introduce(self) -> None:
        store, me = self._connect(), Process.this()
        store.set_timeout(timedelta(seconds=self.timeout))
        store.set(f"who/{self.rank}", "\n".join((me.host, me.system, str(me.pid), me.started)))
        self._store = store

    def _listen(self) -> None:
        for rank in self._watched:
            if rank not in self._processes and self._store.check([f"who/{rank}"]):
                host, system, pid, started = self._store.get(f"who/{rank}").decode().split("\n")
                self._processes[rank] = Process(host, system, int(pid), started)
            if self._store.check([f"beat/{rank}"]):
                beat = self._store.get(f"beat/{rank}")
                if beat != self._beats[rank][0]:
                    self._beats[rank] = (beat, time.monotonic())
        if self._ended is None and self._store.check(["end"]):
            self._ended = (self._store.get("end").decode(), time.monotonic())

    def _say_goodbye(self) -> None:
        if self._error is not None:
            for rank in self._watched:
                if rank in self._processes and self._processes[rank].gone and not self._done(rank):
                    self._print(f"{self._name(rank)} is gone")
            reason = (str(self._error).splitlines() or [""])[0][:300]
            self._tell(f"rank {self.rank} stopped with {type(self._error).__name__}: {reason}")
            return
        self._store.set(f"beat/{self.rank}", "done")
        left = self._store.add("left", 1)
        # The store ends with this process: the others must have seen that it went in peace.
        until = time.monotonic() + self.timeout
        while self.rank == 0 and left < self.world_size and time.monotonic() < until:
            time.sleep(0.02)
            left = self._store.add("left", 0)

    def _tell(self, message: str) -> None:
        self._store.compare_set("end", "", message)

    # ---- the thread that judges --------------------------------------------------------------

    def _judge(self) -> None:
        last = time.monotonic()
        while not self._left.wait(self._interval / 2):
            now = time.monotonic()
            if now - last > 2 * self._interval + 1:  # this process was stopped, not the others
                self._store_answered = now
                self._beats = {rank: (beat, now) for rank, (beat, _) in self._beats.items()}
            last = now
            dead = None if self._leaving.is_set() else self._verdict(now)
            if dead is not None:
                self._end(dead)
                return

    def _verdict(self, now: float) -> str | None:
        """Why this process must end; None if it need not."""
        if self._ended is not None:
            message, since = self._ended
            # Its own main thread may be about to say something better of the same matter.
            return message if now - since > min(_GRACE, self.timeout) else None
        for rank, (_, since) in list(self._beats.items()):
            if self._done(rank):
                continue
            silent = now - since
            process = self._processes.get(rank)
            if process is not None and process.gone and silent > 2 * self._interval + 1:
                return f"{self._name(rank)} is gone"
            if silent > self.timeout:
                self._accused = process
                return f"{self._name(rank)} has given no sign of life for {silent:.0f} s"
        silent = now - self._store_answered
        if silent > self.timeout and not (0 in self._beats and self._done(0)):
            return f"the store of the process group, kept by rank 0 or its launcher, has been silent for {silent:.0f} s"
        return None

    def _end(self, message: str) -> None:
        self._print(
            f"{message}; ending this process, and so the job (watchdog.peer_timeout={self.timeout:g} s)"
        )
        teller = threading.Thread(target=self._pass_on, args=(message,), daemon=True)
        teller.start()
        teller.join(2.0)  # the store may not answer
        if self._accused is not None:
            self._accused.end()  # perhaps it is stopped: it cannot end itself
        self._exit(1)

    def _pass_on(self, message: str) -> None:
        with contextlib.suppress(RuntimeError):
            self._connect().compare_set("end", "", message)  # the other thread's may be stuck
            time.sleep(2 * self._interval if self.rank == 0 else 0)  # while the store still lives

    def _done(self, rank: int) -> bool:
        return self._beats[rank][0] == b"done"

    def _name(self, rank: int) -> str:
        process = self._processes.get(rank)
        return f"rank {rank}" + ("" if process is None else f" ({process})")

    def _print(self, message: str) -> None:
        print(f"lit_lm: rank {self.rank}: {message}", file=sys.stderr, flush=True)
