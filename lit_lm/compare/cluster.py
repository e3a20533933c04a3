"""Jobs on a cluster, sent there by submitit (https://github.com/facebookincubator/submitit): to SLURM, or to processes of
this host in the same way.

A job's process writes into its folder as it would here, so both hosts must see that folder under one path. What submitit itself
keeps, pickled, lies beside the jobs in ``submitit/``; nothing of it is read but how a job ended.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from collections.abc import Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from lit_lm import configs
from lit_lm.compare.files import read_json, write_json
from lit_lm.compare.keys import mapping, read
from lit_lm.errors import InputError

CLUSTERS = ("slurm", "local")
LOST = -int(signal.SIGKILL)
"""Exit status of a job that ended and did not say how: its host failed, or it was killed."""
SUBMITTED = "submitted.json"
"""Stands in the folder of a job that was sent off, and says where it is."""
_GRACE_SECONDS = 25.0
_TICK = 0.2
_FORGOTTEN_SECONDS = 300.0
"""How long SLURM may say nothing of a job before it counts as lost: right after it was sent, it does not know it yet."""
# Lightning would take the member for one of a job's own ranks; it starts its ranks itself.
_NOT_INHERITED = ("SLURM_NTASKS", "SLURM_NTASKS_PER_NODE")


@dataclass(frozen=True)
class Executor:
    """Where jobs run, as a YAML says it.

    Args:
        cluster: "slurm", or "local": processes of this host, to try out what will go to a cluster.
        parameters: of each job, as submitit's ``AutoExecutor.update_parameters`` takes them: ``timeout_min``, which must be
            there, ``gpus_per_node``, ``cpus_per_task``, ``mem_gb``, ``slurm_partition`` and so on.
        retries: how often a job is sent again that was lost: preempted, killed, out of time, its host gone. It goes on
            from its last checkpoint. One that fails by an error of its own is not.
    """

    cluster: str
    parameters: Mapping[str, Any] = field(default_factory=dict)
    retries: int = 2


def load(path: Path) -> Executor:
    """Reads an executor's YAML.

    Raises:
        InputError: the file is missing, is no YAML, or says something that is not understood.
    """
    values = mapping(read(path), Executor, str(path), required=("cluster",))
    if values["cluster"] not in CLUSTERS:
        raise InputError(
            f"{path}: cluster is {values['cluster']!r}: choose one of {', '.join(CLUSTERS)}"
        )
    parameters = values.get("parameters") or {}
    if not isinstance(parameters, dict) or not parameters.get("timeout_min"):
        raise InputError(
            f"{path}: parameters is {parameters!r}: give at least timeout_min, the minutes that a job may take, such as "
            "{timeout_min: 600, gpus_per_node: 1}"
        )
    retries = values.get("retries", Executor.retries)
    if not isinstance(retries, int) or isinstance(retries, bool) or retries < 0:
        raise InputError(f"{path}: retries is {retries!r}: it must be a whole number, at least 0")
    return Executor(values["cluster"], parameters, retries)


def named(name: str | None) -> Cluster | None:
    """The cluster that a YAML describes, by path or by the name of a shipped one; None for this host."""
    return None if name is None else Cluster(load(configs.find(name)))


class Remote:
    """What runs on the cluster: a job's own process, which is told to save when its time there is over.

    Args:
        command: starts the process.
        log: takes what it says.
    """

    def __init__(self, command: Sequence[str], log: str) -> None:
        self.command, self.log = list(command), log
        self._process: subprocess.Popen[bytes] | None = None

    def __call__(self) -> int:
        """Runs it; returns its exit status."""
        environment = {k: v for k, v in os.environ.items() if k not in _NOT_INHERITED}
        with Path(self.log).open("ab") as log:
            self._process = subprocess.Popen(
                self.command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env={**environment, "PYTHONUNBUFFERED": "1"},
                start_new_session=True,
            )
        return self._process.wait()

    def checkpoint(self) -> Any:
        """submitit's hook, when a job is preempted or runs out of time: saves, and asks to be sent again."""
        from submitit.helpers import DelayedSubmission

        if self._process is not None:
            with suppress(ProcessLookupError):
                os.killpg(self._process.pid, signal.SIGTERM)
            with suppress(subprocess.TimeoutExpired):
                self._process.wait(_GRACE_SECONDS)
        return DelayedSubmission(Remote(self.command, self.log))


class Cluster:
    """Sends jobs off, and finds those again that were sent before.

    Args:
        executor: where to, and with what.

    Raises:
        InputError: submitit is not installed, there is no such cluster here, or it does not take the parameters.
    """

    def __init__(self, executor: Executor) -> None:
        try:
            import submitit
        except ImportError:
            raise InputError("--executor needs submitit: pip install 'lit_lm[cluster]'") from None
        self.retries = executor.retries
        self._settings, self._submitit = executor, submitit
        self._made: dict[Path, Any] = {}
        self._executor(Path())  # mistakes are found before anything runs

    def start(self, job: Path, log: Path, command: Sequence[str]) -> Submitted:
        """Sends a job off.

        Args:
            job: its ``job.json``.
            log: takes what it says.
            command: starts its process; the path of ``job.json`` is appended.
        """
        folder = job.parent.parent / "submitit"
        sent = self._executor(folder).submit(Remote([*command, str(job)], str(log)))
        where = {"cluster": self._settings.cluster, "job": sent.job_id, "folder": str(folder)}
        write_json(job.with_name(SUBMITTED), where)
        return Submitted(sent, found=False)

    def _executor(self, folder: Path) -> Any:
        if folder not in self._made:
            try:
                made = self._submitit.AutoExecutor(
                    folder=str(folder / "%j"), cluster=self._settings.cluster
                )
                made.update_parameters(**self._settings.parameters)
            except (RuntimeError, NameError, TypeError, ValueError) as error:
                raise InputError(f"executor {self._settings.cluster}: {error}") from error
            self._made[folder] = made
        return self._made[folder]


def find(job: Path) -> Submitted | None:
    """A job that was sent to any cluster before and has not ended; None if there is none.

    Args:
        job: its ``job.json``.

    Raises:
        InputError: one was sent, and submitit, which could tell what became of it, is not installed.
    """
    where = read_json(job.with_name(SUBMITTED))
    if where is None:
        return None
    try:
        import submitit
    except ImportError:
        raise InputError(
            f"{job.parent} was sent to a cluster: install submitit, which knows whether it still runs, by "
            "pip install 'lit_lm[cluster]'"
        ) from None
    kind = submitit.SlurmJob if where["cluster"] == "slurm" else submitit.LocalJob
    found = Submitted(kind(f"{where['folder']}/{where['job']}", where["job"]), found=True)
    return None if found.poll() is not None else found


class Submitted:
    """A job on a cluster, as ``subprocess.Popen`` would describe it.

    Attributes:
        name: what the cluster calls it.
        returncode: its exit status; None while it waits or runs.
    """

    def __init__(self, job: Any, *, found: bool) -> None:
        self.name = str(job.job_id)
        self.returncode: int | None = None
        self._job = job
        self._unknown_since: float | None = None
        # submitit knows a local process only in the process that has started it.
        self._pid = int(job.job_id) if found and type(job).__name__ == "LocalJob" else None

    @property
    def stage(self) -> str:
        """Whether it waits for its turn, in a word."""
        return "queued" if "PENDING" in str(self._job.state).upper() else "starting"

    def poll(self) -> int | None:
        """Its exit status, ``LOST`` if it did not say; None while it waits or runs."""
        if self.returncode is None and self._ended():
            try:
                self.returncode = int(self._job.result())
            except (
                Exception
            ):  # submitit has a class for every way to be lost, and some pass on others'
                self.returncode = LOST
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        """Waits until it has ended.

        Raises:
            subprocess.TimeoutExpired: it has not, within these seconds.
        """
        end = None if timeout is None else time.monotonic() + timeout
        while (code := self.poll()) is None:
            if end is not None and time.monotonic() >= end:
                raise subprocess.TimeoutExpired(f"job {self.name}", timeout or 0.0)
            time.sleep(_TICK)
        return code

    def cancel(self) -> None:
        """Takes it out of the queue, or ends it."""
        if self._pid is None:
            self._job.cancel(check=False)
        else:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(self._pid, signal.SIGINT)

    def _ended(self) -> bool:
        if self._pid is None:
            return bool(self._job.done()) or self._forgotten()
        try:
            os.kill(self._pid, 0)
        except (ProcessLookupError, PermissionError):  # gone, or its number is somebody else's
            return True
        return bool(self._job.paths.result_pickle.exists())

    def _forgotten(self) -> bool:
        """Whether the cluster has long known nothing of it."""
        if str(self._job.state).upper() != "UNKNOWN":
            self._unknown_since = None
            return False
        now = time.monotonic()
        self._unknown_since = self._unknown_since or now
        return now - self._unknown_since >= _FORGOTTEN_SECONDS
