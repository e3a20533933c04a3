"""A process that is killed, or stopped, ends the whole job: no process is left waiting."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import time
from pathlib import Path
from signal import SIGKILL, SIGSTOP

import pytest
from lightning.fabric.plugins.environments.lightning import find_free_network_port

from tests.cli import COMMAND, QUICK

TIMEOUT = 6.0


class Job:
    """``lit-lm fit`` on two processes, started by Lightning or as ``torchrun`` starts them."""

    def __init__(self, folder: Path, work: Path, launcher: str, steps: int = 400) -> None:
        self.log = work / "log"
        command = [
            *COMMAND, "fit", "--config", str(folder / "gpt.yaml"), f"--run.dir={work}", *QUICK, "--config=trainer/ddp",
            "--trainer.devices=2", f"--trainer.max_steps={steps}", "--trainer.callbacks+=tests.cli.phases.Phases",
            f"--watchdog.peer_timeout={TIMEOUT}",
        ]  # fmt: skip
        environments: list[dict[str, str]] = [{}]
        if launcher == "torchrun":
            shared = {
                "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(find_free_network_port()), "GROUP_RANK": "0",
                "WORLD_SIZE": "2", "LOCAL_WORLD_SIZE": "2", "TORCHELASTIC_RUN_ID": "test",
            }  # fmt: skip
            environments = [{**shared, "RANK": str(r), "LOCAL_RANK": str(r)} for r in range(2)]
        with self.log.open("w") as log:
            self.processes = [
                subprocess.Popen(
                    command,
                    env={**os.environ, "OMP_NUM_THREADS": "1", **its},
                    stdout=log,
                    stderr=log,
                    start_new_session=True,
                )
                for its in environments
            ]

    def pids(self, phase: str) -> dict[int, int]:
        """Process numbers by rank, of those that were seen in the phase."""
        found = re.findall(rf"PHASE {phase} (\d) (\d+)", self.log.read_text())
        return {int(rank): int(pid) for rank, pid in found}

    def wait_for(self, phase: str) -> dict[int, int]:
        until = time.monotonic() + 120
        while len(self.pids(phase)) < 2:
            assert time.monotonic() < until, self.log.read_text()[-3000:]
            time.sleep(0.05)
        return self.pids(phase)

    def running(self, pids: dict[int, int]) -> list[int]:
        """Ranks that run or are stopped; who has ended and was not waited for is neither."""
        for process in self.processes:
            process.poll()
        return [rank for rank, pid in pids.items() if _state(pid) not in ("", "Z", "X")]

    def end(self) -> None:
        for process in self.processes:
            for number in (signal.SIGCONT, SIGKILL):
                try:
                    os.killpg(process.pid, number)
                except ProcessLookupError:
                    break
            process.wait()


def _state(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except OSError:
        return ""


def slow(*case: object) -> object:
    return pytest.param(*case, marks=pytest.mark.slow)


@pytest.mark.skipif(not Path("/proc/self/stat").exists(), reason="looks at processes in /proc")
@pytest.mark.parametrize(
    ("phase", "victim", "number", "launcher"),
    [
        *(
            slow(phase, victim, number, launcher)
            for launcher in ("lightning", "torchrun")
            for phase in ("setup", "train", "val")
            for victim in (0, 1)
            for number in (SIGKILL, SIGSTOP)
        ),
    ],
)
def test_a_dead_process_ends_the_job(
    phase: str, victim: int, number: signal.Signals, launcher: str, folder: Path, tmp_path: Path
) -> None:
    job = Job(folder, tmp_path, launcher)
    try:
        pids = job.wait_for(phase)
        os.kill(pids[victim], number)
        start = time.monotonic()
        while job.running(pids) and time.monotonic() < start + 60:
            time.sleep(0.05)
        said = job.log.read_text()
        assert not job.running(pids), said[-3000:]
        assert all(process.wait() != 0 for process in job.processes)
        if number is SIGSTOP:
            assert re.search(
                rf"lit_lm: rank {1 - victim}: rank {victim} .*has given no sign of life", said
            )
    finally:
        job.end()


@pytest.mark.slow
@pytest.mark.parametrize("launcher", ["lightning", "torchrun"])
def test_a_job_that_does_well_is_left_alone(launcher: str, folder: Path, tmp_path: Path) -> None:
    """Stopped as a whole for longer than the timeout, too, as by Ctrl-Z."""
    job = Job(folder, tmp_path, launcher, steps=12)
    try:
        pids = job.wait_for("train")
        for _ in range(3):
            for number, pause in ((SIGSTOP, TIMEOUT + 2), (signal.SIGCONT, 1.7)):
                for pid in pids.values():
                    os.kill(pid, number)
                time.sleep(pause)
        ends = [process.wait(200) for process in job.processes]
        said = job.log.read_text()
        assert "lit_lm: rank" not in said, said[-3000:]
        assert ends == [0] * len(ends), said[-3000:]
    finally:
        job.end()
