"""What a run ran on: memory, processor, versions."""

from __future__ import annotations

import os
import platform
import sys
from pathlib import Path
from typing import Any

import lightning
import torch

from lit_lm.compare.identity import package_version


def peak_memory() -> tuple[int | None, str]:
    """Most memory in use so far, in bytes, and of what: the GPU's, or else the process's."""
    if torch.cuda.is_available() and torch.cuda.max_memory_allocated() > 0:
        return torch.cuda.max_memory_allocated(), "GPU"
    try:
        import resource
    except ImportError:  # no such thing on Windows
        return None, "process"
    peak = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return peak * (1 if sys.platform == "darwin" else 1024), "process"


def hardware(trainer: Any) -> str:
    """The machine in one line."""
    cores = len(os.sched_getaffinity(0)) if hasattr(os, "sched_getaffinity") else os.cpu_count()
    cpu = (
        f"{_cpu_name()}, {cores} core{'s' if cores != 1 else ''}, {torch.get_num_threads()} threads"
    )
    devices = trainer.num_devices * trainer.num_nodes
    if trainer.strategy.root_device.type == "cuda":
        return f"{devices} × {torch.cuda.get_device_name()}; {cpu}; precision {trainer.precision}"
    processes = f"{devices} processes on " if devices > 1 else ""
    return f"{processes}{trainer.strategy.root_device.type}: {cpu}; precision {trainer.precision}"


def versions() -> dict[str, str]:
    """Versions of what numbers can depend on."""
    return {
        "lit_lm": package_version(),
        "torch": str(torch.__version__),
        "lightning": str(lightning.__version__),
        "python": platform.python_version(),
        "system": platform.platform(terse=True),
    }


def _cpu_name() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text(encoding="utf-8").splitlines()
        return next(
            line.split(":", 1)[1].strip() for line in lines if line.startswith("model name")
        )
    except (OSError, StopIteration):
        return platform.processor() or platform.machine()
