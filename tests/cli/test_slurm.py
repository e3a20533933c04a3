"""A job of SLURM that is told to make room saves, goes back into the queue, and goes on exactly. SLURM is not here: its
variables are set, and ``scontrol`` is a script that writes down what it is asked for.
"""

from __future__ import annotations

import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.fabric.plugins.environments.lightning import find_free_network_port
from lightning.pytorch import Callback

from lit_lm.cli import main
from tests.cli import COMMAND, QUICK
from tests.conftest import ROOT
from tests.tasks.test_exact_resume import assert_equal

SCRIPT = ROOT / "configs" / "slurm" / "train.sbatch"
STEPS = 9


class Interrupt(Callback):
    """Sends this process SLURM's signal in the middle of a batch: where a handler that saves at once would not be exact."""

    step = -1

    def on_before_optimizer_step(self, trainer: Any, *args: Any) -> None:
        if trainer.global_step == self.step:
            os.kill(os.getpid(), signal.SIGUSR1)


def job(work: Path, rank: int = 0, tasks: int = 1) -> dict[str, str]:
    """SLURM's variables for a task of a job on one host."""
    return {
        "SLURM_JOB_ID": "4711", "SLURM_JOB_NAME": "train", "SLURM_NTASKS": str(tasks), "SLURM_NNODES": "1",
        "SLURM_NTASKS_PER_NODE": str(tasks), "SLURM_PROCID": str(rank), "SLURM_LOCALID": str(rank), "SLURM_NODEID": "0",
        "SLURM_NODELIST": "127.0.0.1", "PATH": f"{work}/bin:{os.environ['PATH']}",
    }  # fmt: skip


@pytest.fixture
def work(tmp_path: Path) -> Path:
    """A folder with a stand-in for scontrol."""
    (tmp_path / "bin").mkdir()
    scontrol = tmp_path / "bin" / "scontrol"
    scontrol.write_text(f'#!/bin/sh\necho "$@" >> {tmp_path}/asked\n')
    scontrol.chmod(0o755)
    return tmp_path


def last(work: Path, name: str) -> dict[str, Any]:
    out: dict[str, Any] = torch.load(
        work / name / "gpt" / "checkpoints" / "last.ckpt", weights_only=True
    )
    return out


def fit(folder: Path, out: Path, *flags: str) -> int:
    args = [
        "fit",
        f"--config={folder}/gpt.yaml",
        f"--run.dir={out}",
        *QUICK,
        f"--trainer.max_steps={STEPS}",
    ]
    return main([*args, "--trainer.callbacks+=tests.cli.test_slurm.Interrupt", *flags])


def test_a_requeued_job_equals_one_that_was_left_alone(
    folder: Path, work: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    accumulate = "--trainer.accumulate_grad_batches=2"
    assert fit(folder, work / "whole", accumulate) == 0
    for name, value in job(work).items():
        monkeypatch.setenv(name, value)
    before = signal.getsignal(signal.SIGUSR1)
    monkeypatch.setattr(Interrupt, "step", 5)
    with pytest.raises(SystemExit) as stop:
        fit(folder, work / "cut", accumulate)
    assert stop.value.code == 128 + signal.SIGTERM
    signal.signal(signal.SIGUSR1, before)  # the process would be gone
    assert (work / "asked").read_text() == "requeue 4711\n"
    said = capsys.readouterr().out
    assert "Told to make room: saved at step 6" in said
    assert "job 4711 is back in the queue" in said
    assert last(work, "cut")["global_step"] == 6
    assert not list((work / "cut").rglob("hpc_ckpt*"))

    # The very same command, which SLURM starts again: it goes on of itself.
    monkeypatch.setattr(Interrupt, "step", -1)
    monkeypatch.setenv("SLURM_RESTART_COUNT", "1")
    assert fit(folder, work / "cut", accumulate) == 0
    assert signal.getsignal(signal.SIGUSR1) is before
    one, two = last(work, "whole"), last(work, "cut")
    assert one["global_step"] == two["global_step"] == STEPS
    for key in ("state_dict", "optimizer_states", "lr_schedulers", "loops"):
        assert_equal(one[key], two[key], key)
    assert (work / "asked").read_text() == "requeue 4711\n"


@pytest.mark.parametrize(
    ("script", "variables", "words"),
    [
        ("#!/bin/sh\necho denied >&2; exit 3\n", {}, "failed (denied): submit the job again"),
        (None, {}, "failed"),
        ("", {"SLURM_JOB_ID": "4; rm"}, "is no job"),
        (
            '#!/bin/sh\n[ "$2" = 12_7 ]\n',
            {"SLURM_ARRAY_JOB_ID": "12", "SLURM_ARRAY_TASK_ID": "7"},
            "job 12_7 is back",
        ),
    ],
)
def test_what_came_of_it_is_said(
    script: str | None,
    variables: dict[str, str],
    words: str,
    work: Path,
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    from lit_lm.callbacks.requeue import requeue

    for name, value in (job(work) | variables | {"PATH": f"{work}/bin"}).items():
        monkeypatch.setenv(name, value)
    if script is None:
        (work / "bin" / "scontrol").unlink()
    elif script:
        (work / "bin" / "scontrol").write_text(script)
    assert words in requeue()


def test_the_script_is_sound() -> None:
    """It parses, and asks for what the suite answers to."""
    text = SCRIPT.read_text()
    assert subprocess.run(["bash", "-n", str(SCRIPT)], check=False).returncode == 0
    for part in ("#SBATCH --requeue", "#SBATCH --signal=SIGUSR1@", "srun", "--ckpt_path=last"):
        assert part in text
    assert "--signal=B:" not in text  # would reach the shell alone


@pytest.mark.slow
def test_the_script_passes_on_what_it_is_given(folder: Path, work: Path) -> None:
    """With an srun that only drops its own options."""
    srun = work / "bin" / "srun"
    srun.write_text(
        '#!/bin/sh\nwhile case "$1" in -*) true;; *) false;; esac; do shift; done\nexec "$@"\n'
    )
    tool = work / "bin" / "lit-lm"
    tool.write_text(f'#!/bin/sh\nexec {COMMAND[0]} -m lit_lm "$@"\n')
    for file in (srun, tool):
        file.chmod(0o755)
    env = {**os.environ, **job(work)}
    command = ["bash", str(SCRIPT), f"--config={folder}/gpt.yaml", f"--run.dir={work}/run", *QUICK]
    out = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=280)
    assert out.returncode == 0, out.stderr[-3000:]
    assert last(work, "run")["global_step"] == 4


@pytest.mark.slow
def test_two_tasks(folder: Path, work: Path) -> None:
    """As srun starts them; the signal reaches one before the other."""
    flags = [
        "fit", f"--config={folder}/gpt.yaml", *QUICK, "--config=trainer/ddp", "--trainer.devices=2",
        "--trainer.max_steps=40", "--trainer.max_epochs=-1", "--ckpt_path=last",
        "--trainer.callbacks+=tests.cli.phases.Phases", "--trainer.val_check_interval=4",
    ]  # fmt: skip

    def start(name: str, log: Path) -> list[subprocess.Popen[bytes]]:
        port = str(find_free_network_port())
        return [
            subprocess.Popen(
                [*COMMAND, *flags, f"--run.dir={work / name}"],
                env={**os.environ, "OMP_NUM_THREADS": "1", "MASTER_PORT": port, **job(work, rank, 2)},
                stdout=log.open("a"), stderr=subprocess.STDOUT,
            )
            for rank in range(2)
        ]  # fmt: skip

    assert [p.wait(280) for p in start("whole", work / "whole.log")] == [0, 0]
    tasks = start("cut", work / "cut.log")
    until = time.monotonic() + 200
    while (work / "cut.log").read_text().count("PHASE train") < 2 and time.monotonic() < until:
        time.sleep(0.05)
    for task in tasks:
        task.send_signal(signal.SIGUSR1)
        time.sleep(0.3)
    assert [task.wait(120) for task in tasks] == [128 + signal.SIGTERM, 0]
    assert (work / "asked").read_text() == "requeue 4711\n"
    assert 2 <= last(work, "cut")["global_step"] < 40
    assert [p.wait(280) for p in start("cut", work / "cut2.log")] == [0, 0]
    assert_equal(last(work, "whole")["state_dict"], last(work, "cut")["state_dict"])
    assert_equal(last(work, "whole")["optimizer_states"], last(work, "cut")["optimizer_states"])
