"""Runs a list of jobs, each in a process of its own, and runs only what is missing.

Knows nothing of comparisons: a job is a name, a folder and what its process is to be told. The
process writes ``result.json`` into the folder; a result with the job's identity is not made twice.
"""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
import threading
import time
from collections import deque
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout
from rich.console import Console

from lit_lm.compare.cluster import LOST, Cluster, Submitted, find
from lit_lm.compare.display import Display, State
from lit_lm.compare.files import read_json, write_json, write_text
from lit_lm.compare.forks import Forked, Forks
from lit_lm.errors import InputError

Process = subprocess.Popen[bytes] | Forked | Submitted
MEMBER_COMMAND = (sys.executable, "-m", "lit_lm.compare.member")
FAILED = "failed.txt"
"""Stands in the folder of a job that failed, and says why: it is not gone on with."""
_GRACE_SECONDS = 10.0
_TELL_SECONDS = 10.0
"""What has become of jobs so far is told no more often, so that tables of many runs cost no time."""
_COLOUR = re.compile(r"\x1b\[[0-9;]*m")
# A traceback's last line, a message of ours or of argparse's, or a signal that Lightning caught.
_ERROR = re.compile(r"([\w.]+(Error|Exception|Interrupt|Exit)\b|.*\berror: |.*Received SIGTERM)")


@dataclass(frozen=True)
class Job:
    """One thing to do.

    Args:
        name: how it is shown.
        folder: where it writes; belongs to this job alone.
        identity: what its result is made from, as one text.
        payload: what its process is told, in plain types; stands in ``job.json``.
    """

    name: str
    folder: Path
    identity: str
    payload: dict[str, Any] = field(default_factory=dict)

    def result(self) -> dict[str, Any] | None:
        """Its result, if it is there and made from the same."""
        result = read_json(self.folder / "result.json")
        return result if result is not None and result.get("identity") == self.identity else None


@dataclass(frozen=True)
class Outcome:
    """What became of a job.

    Args:
        job: the job.
        status: "done" now, "kept" from an earlier time, or "failed".
        result: what it found; None when it failed.
        reason: the failure in one line.
    """

    job: Job
    status: Literal["done", "kept", "failed"]
    result: dict[str, Any] | None = None
    reason: str | None = None


def run_jobs(
    jobs: Sequence[Job],
    display: Display,
    *,
    command: Sequence[str] = MEMBER_COMMAND,
    forks: Forks | None = None,
    cluster: Cluster | None = None,
    parallel: int = 1,
    fresh: bool = False,
    tell: Callable[[list[Outcome]], None] = lambda outcomes: None,
) -> list[Outcome]:
    """Runs the jobs whose results are missing; one that fails does not stop the others.

    Args:
        jobs: what to do, in order.
        display: shows how it goes.
        command: starts a job's process; the path of its ``job.json`` is appended.
        forks: starts the processes in its place.
        cluster: starts them elsewhere, also in place of ``forks``; those that were sent off before and still run are watched
            again, and lost ones sent again.
        parallel: most processes at a time.
        fresh: run all of them, also those whose results are there.
        tell: is given what became of the jobs that have ended so far, in order: at first, every few seconds when more have ended,
            and when the rest is stopped.

    Returns:
        What became of each job, in the same order.

    Raises:
        KeyboardInterrupt: after all processes have been stopped.
    """
    if parallel < 1:
        raise InputError(f"jobs is {parallel}: at least one must run at a time")
    outcomes = {} if fresh else {outcome.job.name: outcome for outcome in kept(jobs)}
    states = {job.name: State(job.name) for job in jobs}
    for name in outcomes:
        states[name].finish("kept")
    waiting = deque(job for job in jobs if job.name not in outcomes)
    for job in waiting:
        _check_folder(job)
    told, told_at = -1, -_TELL_SECONDS

    def so_far() -> list[Outcome]:
        return [outcomes[job.name] for job in jobs if job.name in outcomes]

    running: list[tuple[Job, Process]] = []
    retries = dict.fromkeys(states, cluster.retries if cluster else 0)
    # Jobs on a cluster go on when their watcher is killed.
    with display, nullcontext() if cluster else _terminated():
        display.show(list(states.values()))
        try:
            while waiting or running:
                while waiting and len(running) < parallel:
                    job = waiting.popleft()
                    found = _sent_before(job, cluster, display)
                    if found is None:
                        _clear(job, display)
                    running.append((job, found or _start(job, command, forks, cluster, parallel)))
                    states[job.name].start()
                time.sleep(0.1)
                for job, process in list(running):
                    states[job.name].read(job.folder / "progress.json")
                    if isinstance(process, Submitted) and not states[job.name].progress:
                        states[job.name].progress = {"stage": process.stage}
                    code = process.poll()
                    if code is not None:
                        running.remove((job, process))
                        if code == LOST and retries[job.name] and job.result() is None:
                            retries[job.name] -= 1
                            display.say(f"{job.name}: was lost, and is sent again")
                            running.append((job, _start(job, command, forks, cluster, parallel)))
                            continue
                        outcomes[job.name] = outcome = _outcome(job, code)
                        states[job.name].finish(outcome.status)
                        if outcome.status == "failed":
                            _report(outcome, display)
                display.show(list(states.values()))
                if len(outcomes) > told and time.monotonic() - told_at >= _TELL_SECONDS:
                    tell(so_far())
                    told, told_at = len(outcomes), time.monotonic()
        except BaseException:
            try:  # first: whoever stops us may not wait until the processes have saved
                outcomes |= {each.job.name: each for each in kept([job for job, _ in running])}
                if len(outcomes) > told:
                    tell(so_far())
            finally:
                _stop([process for _, process in running])
            raise
    return so_far()


def kept(jobs: Sequence[Job]) -> list[Outcome]:
    """Of the jobs whose results are there."""
    results = [(job, job.result()) for job in jobs]
    return [Outcome(job, "kept", result) for job, result in results if result is not None]


@contextmanager
def alone_in(folder: Path, console: Console) -> Iterator[None]:
    """Keeps others out of a folder of jobs, and says what Ctrl-C leaves.

    Raises:
        InputError: someone else runs jobs in it.
    """
    folder.mkdir(parents=True, exist_ok=True)
    try:
        with FileLock(folder / ".lock", timeout=0):
            yield
    except Timeout:
        raise InputError(
            f"another command is running in {folder}: wait for it, or change the name"
        ) from None
    except KeyboardInterrupt:
        console.print(
            "\nStopped. What is finished is kept: "
            "start the same command again and it goes on with the rest.",
            highlight=False,
        )
        raise


@contextmanager
def _terminated() -> Iterator[None]:
    """SIGTERM stops as Ctrl-C does: members save what they have."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: Any) -> None:
        raise KeyboardInterrupt

    before = signal.signal(signal.SIGTERM, stop)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def _check_folder(job: Job) -> None:
    folder = job.folder
    if folder.exists() and any(folder.iterdir()) and not (folder / "job.json").exists():
        raise InputError(f"{folder} holds something else: move it, or give {job.name} another name")


def _clear(job: Job, display: Display) -> None:
    """Makes the folder empty. What was finished is moved aside, never deleted."""
    if (job.folder / "result.json").exists():
        stamp = datetime.now().strftime("%Y%m%d-%H%M%S-%f")
        target = job.folder.parent / "replaced" / f"{job.folder.name}-{stamp}"
        target.parent.mkdir(exist_ok=True)
        job.folder.rename(target)
        display.say(f"{job.name}: is run again; the earlier result is now in {target}")
    elif _can_go_on(job):
        display.say(f"{job.name}: was stopped before, and goes on")
    elif job.folder.exists() and any(job.folder.iterdir()):
        shutil.rmtree(job.folder)
        display.say(f"{job.name}: was not finished before, and starts again")
    job.folder.mkdir(parents=True, exist_ok=True)


def _can_go_on(job: Job) -> bool:
    """Whether the job was stopped, has not failed, was the same, and left a checkpoint to go on from."""
    last = any((job.folder / "checkpoints").glob("last*.ckpt"))
    return _same(job) and last and not (job.folder / FAILED).exists()


def _same(job: Job) -> bool:
    """Whether the folder is of the same job, made by the same code."""
    before = read_json(job.folder / "job.json") or {}
    return (before.get("identity"), before.get("code")) == (job.identity, job.payload.get("code"))


def _sent_before(job: Job, cluster: Cluster | None, display: Display) -> Submitted | None:
    """The same job where it was sent off before and has not ended.

    Raises:
        InputError: another one runs in the folder of this.
    """
    found = find(job.folder / "job.json")
    if found is None:
        return None
    if cluster is None or not _same(job):
        raise InputError(
            f"{job.folder}: job {found.name} still runs there, sent off to a cluster before: start with the same settings and "
            f"--executor to watch it, or take it back (on SLURM: scancel {found.name})"
        )
    display.say(f"{job.name}: was sent off before as {found.name}, and is watched again")
    return found


def _start(
    job: Job,
    command: Sequence[str],
    forks: Forks | None,
    cluster: Cluster | None,
    parallel: int,
) -> Process:
    path = job.folder / "job.json"
    write_json(path, {"name": job.name, "identity": job.identity, **job.payload})
    if cluster is not None:
        return cluster.start(path, job.folder / "log.txt", command)
    environment = dict(os.environ, PYTHONUNBUFFERED="1")
    if parallel > 1:  # processes that each use every core slow each other down
        environment.setdefault("OMP_NUM_THREADS", str(max(1, (os.cpu_count() or 1) // parallel)))
    with (job.folder / "log.txt").open("ab") as log:
        if forks is not None:
            return forks.start(path, log, environment)
        # A session of its own: Ctrl-C reaches this process only, which then stops all of theirs.
        return subprocess.Popen(
            [*command, str(path)],
            stdin=subprocess.DEVNULL,
            stdout=log,
            stderr=subprocess.STDOUT,
            env=environment,
            start_new_session=True,
        )


def _outcome(job: Job, code: int) -> Outcome:
    result = job.result()
    if result is not None:
        return Outcome(job, "done", result)
    reason = _reason(_log_lines(job))
    if code < 0:
        hint = " (often: out of memory)" if -code == signal.SIGKILL else ""
        reason = f"killed by {signal.Signals(-code).name}{hint}"
    elif code == 0:
        reason = f"ended without a result: {reason}"
    write_text(job.folder / FAILED, f"{reason}\n")
    return Outcome(job, "failed", reason=reason)


def _reason(lines: list[str]) -> str:
    """The line of a log that says what went wrong, as far as can be told."""
    told = [line for line in lines if _ERROR.match(line)]
    return (told or lines or ["it said nothing"])[-1]


def _report(outcome: Outcome, display: Display) -> None:
    tail = "\n".join(f"    {line}" for line in _log_lines(outcome.job)[-12:])
    log = outcome.job.folder / "log.txt"
    display.say(
        f"{outcome.job.name}: failed, the others go on. {outcome.reason}\n{tail}\n  log: {log}"
    )


def _log_lines(job: Job) -> list[str]:
    if not (job.folder / "log.txt").exists():  # it never came to run on its cluster
        return []
    with (job.folder / "log.txt").open("rb") as log:
        log.seek(max(0, log.seek(0, os.SEEK_END) - 16384))
        text = log.read().decode(errors="replace")
    return [line.rstrip() for line in _COLOUR.sub("", text).splitlines() if line.strip()]


def _stop(processes: list[Process]) -> None:
    """Asks the processes and all that they have started to end; makes them, after a while."""
    for process in processes:
        _signal(process, signal.SIGTERM)
    processes = [process for process in processes if not isinstance(process, Submitted)]
    end = time.monotonic() + _GRACE_SECONDS
    for process in processes:
        with suppress(subprocess.TimeoutExpired):
            process.wait(max(0.0, end - time.monotonic()))
        _signal(process, signal.SIGKILL)
        process.wait()


def _signal(process: Process, number: signal.Signals) -> None:
    if isinstance(process, Submitted):
        process.cancel()
        return
    with suppress(ProcessLookupError):
        if process.pid:
            os.killpg(process.pid, number)
