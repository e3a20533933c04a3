"""A job of several processes ends within the timeout when one of them dies, and never otherwise."""

from __future__ import annotations

import subprocess
import sys
import threading
import time
from collections.abc import Iterator
from types import SimpleNamespace
from typing import Any

import pytest
from torch.distributed import HashStore, PrefixStore

from lit_lm.callbacks.peers import Peers, Process


class Job:
    """Several watchers in one process; each notes its end instead of ending it."""

    def __init__(self, world_size: int, timeout: float) -> None:
        self.store, self.ended = HashStore(), dict[int, float]()
        self.start = time.monotonic()
        self.peers = [
            Peers(self._connect, rank, world_size, timeout, self._exit(rank))
            for rank in range(world_size)
        ]

    def _connect(self) -> Any:
        return PrefixStore("job", self.store)

    def _exit(self, rank: int) -> Any:
        def note(status: int) -> None:
            assert status != 0
            self.ended[rank] = time.monotonic() - self.start

        return note

    def run(self) -> None:
        for its in self.peers:
            its.run()

    def silence(self, rank: int) -> None:
        """Stops a watcher without a word, as SIGSTOP does."""
        self.peers[rank]._talk = self.peers[rank]._judge = lambda: None  # type: ignore[method-assign]
        self.peers[rank]._left.set()

    def wait_for(self, *ranks: int) -> None:
        """Until these have ended, or for ten seconds."""
        while not self.ended.keys() >= set(ranks) and time.monotonic() < self.start + 10:
            time.sleep(0.02)


@pytest.fixture
def job(monkeypatch: pytest.MonkeyPatch) -> Iterator[Any]:
    """Makes jobs, whose watchers are at rest when the test is over."""
    jobs: list[Job] = []
    monkeypatch.setattr(Process, "end", lambda self: None)  # it would be this very process

    def make(world_size: int, timeout: float) -> Job:
        jobs.append(Job(world_size, timeout))
        return jobs[-1]

    yield make
    for its in (p for j in jobs for p in j.peers):
        threading.Thread(target=its.leave, args=(None,)).start()
        its._left.wait(2)
        its._left.set()


@pytest.fixture
def other() -> Iterator[subprocess.Popen[bytes]]:
    process = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(100)"])
    yield process
    process.kill()
    process.wait()


def record(process: Process, pid: int) -> Process:
    from lit_lm.callbacks.peers import _stat

    return Process(process.host, process.system, pid, _stat(pid)[1])


@pytest.mark.parametrize("silent", [0, 2])
def test_silence_ends_all_others(silent: int, job: Any, capfd: pytest.CaptureFixture[str]) -> None:
    its = job(4, timeout=1.0)
    its.silence(silent)
    its.peers[silent]._connect = HashStore
    its.run()
    others = [r for r in range(4) if r != silent]
    its.wait_for(*others)
    assert sorted(its.ended) == others
    assert min(its.ended.values()) > 0.9
    assert f"rank {silent} has given no sign of life for 1 s" in capfd.readouterr().err


def test_living_processes_are_left_alone(job: Any) -> None:
    its = job(3, timeout=0.5)
    its.run()
    time.sleep(2)
    assert not its.ended
    leaving = [threading.Thread(target=each.leave) for each in its.peers]
    for thread, pause in zip(leaving, (0, 0.1, 0.2), strict=True):
        time.sleep(pause)
        thread.start()
    for thread in leaving:
        thread.join(2)
        assert not thread.is_alive()
    time.sleep(1)
    assert not its.ended


def test_who_said_goodbye_is_not_missed(job: Any) -> None:
    its = job(3, timeout=0.4)
    its.run()
    its.peers[1].leave()
    time.sleep(1.5)
    assert not its.ended


def test_an_error_in_one_ends_the_others(job: Any, capfd: pytest.CaptureFixture[str]) -> None:
    its = job(3, timeout=0.5)
    its.run()
    its.peers[1].leave(ValueError("a reason\nand its details"))
    its.wait_for(0, 2)
    assert sorted(its.ended) == [0, 2]
    assert capfd.readouterr().err.count("rank 1 stopped with ValueError: a reason;") == 2


def test_a_connection_that_breaks_is_made_anew(job: Any) -> None:
    its = job(2, timeout=0.5)
    its.run()
    time.sleep(0.3)

    def broken(*args: Any) -> None:
        raise RuntimeError("broken pipe")

    for each in its.peers:
        each._store = SimpleNamespace(set=broken, check=broken, get=broken)
    time.sleep(1.5)
    assert not its.ended


def test_an_unreachable_store_ends_the_process(job: Any, capfd: pytest.CaptureFixture[str]) -> None:
    its = job(3, timeout=0.5)
    its.run()
    time.sleep(0.3)

    def refuse(*args: Any) -> None:
        raise RuntimeError("connection refused")

    its.peers[2]._listen = refuse  # type: ignore[method-assign]
    its.peers[2]._beats.clear()
    its.wait_for(2)
    assert 2 in its.ended
    assert "the store of the process group" in capfd.readouterr().err


def test_a_process_that_was_stopped_itself_accuses_nobody() -> None:
    """After Ctrl-Z and fg, or a machine that slept, all have been silent for everybody."""
    peers = Peers(HashStore, 0, 2, 0.5, lambda status: pytest.fail("ended"))
    peers._interval = 0.1
    peers._beats, peers._store_answered = {1: (b"5", 0.0)}, 0.0
    clock = [0.0]
    real, waits = peers._left.wait, iter(range(3))

    def stopped(timeout: float) -> bool:
        clock[0] += 100
        return next(waits) == 2

    peers._left.wait = stopped  # type: ignore[method-assign]
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(time, "monotonic", lambda: clock[0])
        peers._judge()
    assert real(0) is False


def test_processes_are_found_again(other: subprocess.Popen[bytes]) -> None:
    me = Process.this()
    assert me.here
    assert not me.gone
    it = record(me, other.pid)
    assert not it.gone
    assert Process(it.host, it.system, it.pid, "1").gone  # the number was given to another process
    assert not Process("elsewhere", "another system", it.pid, "1").gone  # cannot be known
    it.end()
    other.wait(5)
    assert it.gone
    it.end()  # nothing happens
