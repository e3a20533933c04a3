"""A job of SLURM that is told to make room: which signal says so, and how it comes back into the queue."""

from __future__ import annotations

import os
import re
import signal
import subprocess

from lightning.fabric.plugins.environments.slurm import SLURMEnvironment
from lightning.pytorch import Trainer


def requeue_signal(trainer: Trainer) -> int | None:
    """The signal behind which Lightning puts the job back into the queue (``sbatch --signal=SIGUSR1@90``); None outside of
    SLURM, and where it was told not to.
    """
    environment = trainer._accelerator_connector.cluster_environment
    if not isinstance(environment, SLURMEnvironment) or not environment.auto_requeue:
        return None
    return int(environment.requeue_signal or signal.SIGUSR1)


def requeue() -> str:
    """Asks SLURM to put this job back into the queue; what came of it, for people to read."""
    array, task = os.environ.get("SLURM_ARRAY_JOB_ID"), os.environ.get("SLURM_ARRAY_TASK_ID")
    job = os.environ.get("SLURM_JOB_ID", "") if array is None else f"{array}_{task}"
    if not re.fullmatch(r"\d+(_\d+)?", job):
        return f"SLURM_JOB_ID={job!r} is no job: submit it again"
    command = ["scontrol", "requeue", job]
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, check=False)
    except (OSError, subprocess.TimeoutExpired) as error:
        return f"`{' '.join(command)}` failed ({error}): submit the job again"
    if done.returncode:
        reason = (done.stderr.strip().splitlines() or [f"status {done.returncode}"])[-1]
        return f"`{' '.join(command)}` failed ({reason}): submit the job again"
    return f"job {job} is back in the queue"
