"""Runs contenders step by step in turn, so that whatever the machine does meets all of them alike."""

from __future__ import annotations

import ctypes
import gc
import math
import statistics
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import NamedTuple

import torch


class Entrant(NamedTuple):
    """One side of a comparison, built and ready.

    Args:
        step: does the work once; gives a number that all sides must agree on (a loss), or NaN for none.
        units: how much work a step is (tokens, sentences).
        restart: undoes what steps did, where a step is not the same each time.
    """

    step: Callable[[], float]
    units: float


@dataclass(frozen=True)
class Work:
    """What is done, and by whom.

    Args:
        name: for the command line.
        title: for the table.
        entrants: makes each side; the first is ours, the others are compared with it.
        bars: how many times as fast as a peer ours must be.
        unit: what is counted.
        agree: largest relative difference between the sides' first numbers; NaN where they are not comparable.
        memory: also measure peak memory, each side in a process of its own.
        memory_bars: the most that ours may take, as a share of a peer's.
        flops: model FLOPs of a unit, for the share of the machine's matrix-product rate; 0 for none.
        dtype: the precision whose rate that is.
        rounds: fewest rounds; each side steps once a round.
        missing: why no side can run here, empty where they can.
    """

    name: str
    title: str
    entrants: dict[str, Callable[[], Entrant]]
    bars: dict[str, float] = field(default_factory=dict)
    unit: str = "tokens"
    agree: dict[str, float] = field(default_factory=dict)
    memory: bool = False
    memory_bars: dict[str, float] = field(default_factory=dict)
    flops: float = 0.0
    dtype: torch.dtype = torch.float32
    rounds: int = 7
    missing: str = ""


class Timing(NamedTuple):
    """How fast one side was.

    Args:
        rate: units per CPU-second (per second on a GPU), the median of all rounds.
        wall: units per second.
        ratio: how many times as fast ours was, the median over rounds; 1 for ours.
        low: a quarter of the rounds had a smaller ratio; high: or a larger one.
        rounds: how many there were.
        first: the number that the first step gave.
    """

    rate: float
    wall: float
    ratio: float
    low: float
    high: float
    rounds: int
    first: float


def race(entrants: dict[str, Entrant], *, seconds: float, rounds: int) -> dict[str, Timing]:
    """Steps of all sides in turn, for at least so many seconds and rounds, after two rounds of warming up.

    The order is turned round every round. Of a round, each side's time is that of one step: processor time of the whole
    process, all threads together; on a GPU the time between two events.
    """
    clock = _Clock()
    names = list(entrants)
    firsts = {name: entrants[name].step() for name in names}
    for name in names:
        entrants[name].step()
    used: dict[str, list[tuple[float, float]]] = {name: [] for name in names}
    begin = time.perf_counter()
    gc.collect()
    gc.disable()
    try:
        while len(used[names[0]]) < rounds or time.perf_counter() - begin < seconds:
            for name in names if len(used[names[0]]) % 2 else names[::-1]:
                used[name].append(clock.time(entrants[name].step))
    finally:
        gc.enable()
    ours = entrants[names[0]].units
    out = {}
    for name in names:
        units = entrants[name].units
        cpu = [c for c, _ in used[name]]
        ratios = [
            (ours / a) / (units / b)
            for (a, _), (b, _) in zip(used[names[0]], used[name], strict=True)
        ]
        low, _, high = statistics.quantiles(ratios, n=4)
        out[name] = Timing(
            rate=units / statistics.median(cpu),
            wall=units / statistics.median(w for _, w in used[name]),
            ratio=statistics.median(ratios),
            low=low,
            high=high,
            rounds=len(ratios),
            first=firsts[name],
        )
    return out


class _Clock:
    """Times one call: (seconds of processor, or of the GPU; seconds)."""

    def __init__(self) -> None:
        self.gpu = torch.cuda.is_available()

    def time(self, call: Callable[[], float]) -> tuple[float, float]:
        if self.gpu:
            start, end = (torch.cuda.Event(enable_timing=True) for _ in range(2))
            torch.cuda.synchronize()
            begin = time.perf_counter()
            start.record()
            call()
            end.record()
            torch.cuda.synchronize()
            return start.elapsed_time(end) / 1000, time.perf_counter() - begin
        begin, cpu = time.perf_counter(), time.process_time()
        call()
        return time.process_time() - cpu, time.perf_counter() - begin


def peak_memory(make: Callable[[], Entrant], steps: int = 3) -> int:
    """Bytes that one side takes at its peak beyond what this process held before it was made."""
    gc.collect()
    if torch.cuda.is_available():
        torch.cuda.reset_peak_memory_stats()
        before = torch.cuda.memory_allocated()
    else:
        ctypes.CDLL(None).malloc_trim(0)
        Path("/proc/self/clear_refs").write_text("5")
        before = status("VmRSS")
    entrant = make()
    for _ in range(steps):
        entrant.step()
    if torch.cuda.is_available():
        return torch.cuda.max_memory_allocated() - before
    return status("VmHWM") - before


def status(key: str) -> int:
    """Bytes that the kernel counts for this process under a name such as VmHWM."""
    lines = Path("/proc/self/status").read_text().splitlines()
    return next(int(line.split()[1]) * 1024 for line in lines if line.startswith(key))


def agreed(work: Work, timings: dict[str, Timing]) -> dict[str, float]:
    """Relative difference of each peer's first number from ours, where they are comparable.

    Raises:
        AssertionError: one is larger than the work allows: the sides did not do the same.
    """
    ours = next(iter(timings.values())).first
    out = {}
    for name, most in work.agree.items():
        if name not in timings or math.isnan(most):
            continue
        out[name] = abs(timings[name].first - ours) / abs(ours)
        assert out[name] <= most, f"{work.name}: {name} has {timings[name].first}, ours {ours}"
    return out


def checksum(rows: list[list[int]]) -> float:
    """A number that another token anywhere in outputs changes: what sides that decode agree on."""
    total = 0
    for row in rows:
        for token in [*row, -7]:
            total = (total * 1_000_003 + token + 11) % (2**52)
    return float(total)
