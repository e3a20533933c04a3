"""Data-parallel training by two processes of one thread each beside one: how much of twice the speed is there.

Each process has the batch that one has alone. Needs two idle cores: on a busy machine the two share what the one has.
"""

from __future__ import annotations

import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable
from typing import Any

import torch
from lightning.pytorch import Callback, Trainer, seed_everything
from torch.utils.data import DataLoader

from benchmarks.report import Finding
from benchmarks.works import gpt
from lit_lm import Watchdog
from lit_lm.data.batches import BatchSize, TextBatch

STEPS, WARM, ROUNDS = 12, 3, 3
BAR = 90.0


def findings() -> dict[str, Callable[[float], list[Finding]]]:
    """The efficiency of two processes."""
    return {"scaling": efficiency}


def efficiency(seconds: float) -> list[Finding]:
    """One and two processes by turns, for as long as is given and three times at least."""
    begin = time.perf_counter()
    shares: list[float] = []
    rates: list[tuple[float, float]] = []
    while len(shares) < ROUNDS or time.perf_counter() < begin + seconds:
        one, two = measure(1), measure(2)
        rates.append((one, two))
        shares.append(100 * two / (2 * one))
    one, two = (statistics.median(column) for column in zip(*rates, strict=True))
    note = (
        f"{one:,.0f} tokens/s by one process, {two:,.0f} by two of one thread each (DDP, gloo); {min(shares):.0f} to "
        f"{max(shares):.0f} % in {len(shares)} tries by turns on {os.cpu_count()} cores"
    )
    title = "training by two processes beside twice one, GPT of the first table"
    value = statistics.median(shares)
    return [Finding("scaling", title, value, "%", f">= {BAR:.0f} %", value >= BAR, note)]


def measure(processes: int) -> float:
    """Tokens a second, by a run of its own."""
    command = [sys.executable, "-m", __name__, str(processes)]
    env = {**os.environ, "OMP_NUM_THREADS": "1", "MKL_NUM_THREADS": "1"}
    out = subprocess.run(command, capture_output=True, text=True, check=True, env=env).stdout
    return float(json.loads(out.splitlines()[-1])["tokens_per_second"])


class Clock(Callback):
    """When each step has ended."""

    def __init__(self) -> None:
        self.ends: list[float] = []

    def on_train_batch_end(self, trainer: Trainer, *args: Any) -> None:
        self.ends.append(time.perf_counter())


def run(processes: int, sizes: gpt.Sizes) -> None:
    """Trains as ``lit-lm fit`` does, and prints how fast from the first process."""
    torch.set_num_threads(1)
    seed_everything(0)
    ids = gpt.tokens(sizes).cpu()
    size = BatchSize(sizes.rows, sizes.tokens, sizes.tokens, 0, sizes.tokens, sizes.tokens)
    mask = torch.ones_like(ids[:, 1:], dtype=torch.bool)
    batch = TextBatch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), mask, size)
    clock = Clock()
    with tempfile.TemporaryDirectory() as folder:
        trainer = Trainer(
            accelerator="cpu",
            devices=processes,
            strategy="auto" if processes == 1 else "ddp",
            max_steps=STEPS,
            logger=False,
            enable_progress_bar=False,
            enable_model_summary=False,
            enable_checkpointing=False,
            use_distributed_sampler=False,
            gradient_clip_val=1.0,
            default_root_dir=folder,
            callbacks=[clock, Watchdog()],
        )
        batches: Any = [batch] * STEPS
        trainer.fit(gpt.task(sizes), DataLoader(batches, batch_size=None))
    passed = clock.ends[-1] - clock.ends[WARM - 1]
    rate = processes * sizes.tokens * (STEPS - WARM) / passed
    if trainer.is_global_zero:
        print(json.dumps({"tokens_per_second": rate}), flush=True)


if __name__ == "__main__":
    run(int(sys.argv[1]), gpt.Sizes(*map(int, sys.argv[2:])))
