"""Runs a function on several ranks, each a process: for what must not depend on their number."""

from __future__ import annotations

import os
import socket
import tempfile
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import torch
from lightning.pytorch.strategies import DDPStrategy
from torch import multiprocessing

from tests import forks


def run(world_size: int, function: Callable[..., Any], *args: Any) -> list[Any]:
    """What ``function(world_size, *args)`` returns on each rank; it stands in a module and returns plain types."""
    if world_size == 1:
        return [function(1, *args)]
    with socket.socket() as free, tempfile.TemporaryDirectory() as folder:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
        free.close()
        multiprocessing.start_processes(
            _rank,
            (world_size, port, folder, dict(os.environ), function, args),
            nprocs=world_size,
            start_method=forks.METHOD,
        )
        files = [Path(folder) / f"{rank}.pt" for rank in range(world_size)]
        return [torch.load(file, weights_only=True) for file in files]


def settings(world_size: int) -> dict[str, Any]:
    """A trainer's, for such a function. Ranks that wait for each other in vain fail after a minute."""
    if world_size == 1:
        return {}
    return {"devices": world_size, "strategy": DDPStrategy(timeout=timedelta(seconds=60))}


def _rank(
    rank: int,
    world_size: int,
    port: int,
    folder: str,
    environment: dict[str, str],
    function: Callable[..., Any],
    args: Any,
) -> None:
    forks.adopt(environment)
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank)}
    torch.set_num_threads(1)
    torch.save(function(world_size, *args), Path(folder) / f"{rank}.pt")
