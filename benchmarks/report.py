"""What was measured, as JSON and as a page."""

from __future__ import annotations

import json
import math
import os
import platform
import time
from dataclasses import asdict, dataclass, field
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import torch

from benchmarks.harness import Timing, Work

PACKAGES = (
    *(
        "torch",
        "lightning",
        "transformers",
        "litgpt",
        "x-transformers",
        "ctranslate2",
        "datasets",
        "tokenizers",
    ),
)


@dataclass(frozen=True)
class Side:
    """One side's figures in a race, see :class:`Timing`.

    Args:
        bar: how many times as fast as this one ours must be; None for no bar.
        difference: of the first losses, relative; None where they are not compared.
        memory: bytes at the peak; None where it was not measured.
        memory_bar: the most of it that ours may take, as a share; None for no bar.
        failed: why it did not run.
    """

    name: str
    rate: float = math.nan
    wall: float = math.nan
    ratio: float = math.nan
    low: float = math.nan
    high: float = math.nan
    rounds: int = 0
    bar: float | None = None
    difference: float | None = None
    memory: int | None = None
    memory_bar: float | None = None
    failed: str = ""


@dataclass(frozen=True)
class Race:
    """A work and how fast each side did it; ours first.

    Args:
        utilisation: our model FLOPs a second, as a share of the measured rate of matrix products; None for none.
        missing: why nobody ran.
    """

    name: str
    title: str
    unit: str
    sides: list[Side] = field(default_factory=list)
    utilisation: float | None = None
    missing: str = ""


@dataclass(frozen=True)
class Finding:
    """A measurement that is no race.

    Args:
        name: for the command line.
        title: what was measured.
        value: how much.
        unit: of what.
        bar: in words; empty for none.
        reached: whether it was; None where there is no bar.
        note: in a sentence.
    """

    name: str
    title: str
    value: float
    unit: str
    bar: str = ""
    reached: bool | None = None
    note: str = ""


def race(
    work: Work,
    timings: dict[str, Timing],
    differences: dict[str, float],
    memory: dict[str, int],
    failed: dict[str, str],
    rate: float,
) -> Race:
    """Puts a race's figures together; ``rate``: FLOPs a second of matrix products on all that is used."""
    sides = [
        Side(
            name,
            *t[:-1],
            bar=work.bars.get(name),
            difference=differences.get(name),
            memory=memory.get(name),
            memory_bar=work.memory_bars.get(name),
        )
        for name, t in timings.items()
    ]
    sides += [Side(name, failed=why) for name, why in failed.items()]
    utilisation = None
    if work.flops and timings:
        utilisation = work.flops * next(iter(timings.values())).rate / rate
    return Race(work.name, work.title, work.unit, sides, utilisation)


def machine(rates: dict[str, float]) -> dict[str, Any]:
    """What it was measured on. ``rates``: FLOPs a second by precision."""
    versions = {}
    for package in PACKAGES:
        try:
            versions[package] = version(package)
        except PackageNotFoundError:
            versions[package] = "not installed"
    gpu = torch.cuda.get_device_name() if torch.cuda.is_available() else None
    return {
        "processor": _processor(),
        "instructions": torch.backends.cpu.get_cpu_capability(),
        "cores": os.cpu_count(),
        "threads": torch.get_num_threads(),
        "gpu": gpu,
        "python": platform.python_version(),
        "versions": versions,
        "matrix_products": rates,
        "date": time.strftime("%Y-%m-%d"),
    }


def _processor() -> str:
    try:
        lines = Path("/proc/cpuinfo").read_text().splitlines()
    except OSError:
        return platform.processor()
    return next((line.split(":")[1].strip() for line in lines if line.startswith("model name")), "")


def save(path: Path, about: dict[str, Any], races: list[Race], findings: list[Finding]) -> None:
    """Writes ``path`` with the ending .json, and the page beside it."""
    data = {
        "machine": about,
        "races": [asdict(r) for r in races],
        "findings": [asdict(f) for f in findings],
    }
    path.parent.mkdir(parents=True, exist_ok=True)
    path.with_suffix(".json").write_text(json.dumps(data, indent=1) + "\n")
    path.with_suffix(".md").write_text(page(data))


def load(path: Path) -> tuple[list[Race], list[Finding]]:
    """What an earlier call measured; nothing where there is no such file."""
    if not path.with_suffix(".json").is_file():
        return [], []
    data = json.loads(path.with_suffix(".json").read_text())
    races = [Race(**r | {"sides": [Side(**s) for s in r["sides"]]}) for r in data["races"]]
    return races, [Finding(**f) for f in data["findings"]]


def page(data: dict[str, Any]) -> str:
    """The page, in Markdown."""
    m = data["machine"]
    place = (
        m["gpu"]
        or f"{m['threads']} thread(s) of {m['cores']} cores of {m['processor']} ({m['instructions']})"
    )
    versions = ", ".join(f"{name} {number}" for name, number in m["versions"].items())
    rates = ", ".join(
        f"{name} {rate / 1e9:.0f} GFLOP/s" for name, rate in m["matrix_products"].items()
    )
    clock = "second" if m["gpu"] else "CPU-second"
    lines = [
        "# Speed",
        "",
        f"Made by `python -m benchmarks` on {m['date']}: {place}. Python {m['python']}, {versions}.",
        f"Rate of matrix products measured in the same run: {rates}.",
        "",
        f'All sides of a table step in turn in one process. Rates are units a {clock}; "ours is" is the median over',
        "rounds of how many times as fast ours was, with the middle half of the rounds in brackets.",
        "Differences under 5 % are noise.",
        "",
    ]
    for r in data["races"]:
        lines += [f"## {r['title']}", "", *_race(r, clock), ""]
    if data["findings"]:
        lines += ["## Beside these", "", "| what | measured | bar | |", "|---|---|---|---|"]
        lines += [
            f"| {f['title']} | {_number(f['value'])} {f['unit']} | {f['bar']} | {_mark(f['reached'])} {f['note']} |"
            for f in data["findings"]
        ]
        lines.append("")
    return "\n".join(lines)


def _race(r: dict[str, Any], clock: str) -> list[str]:
    if r["missing"]:
        return [f"Not measured here: {r['missing']}."]
    memory = any(s["memory"] is not None for s in r["sides"])
    head = f"| | {r['unit']} a {clock} | ours is | bar | |" + (
        " peak memory | ours takes | bar | |" if memory else ""
    )
    lines = [head, "|---|---|---|---|---|" + ("---|---|---|---|" if memory else "")]
    ours = r["sides"][0]
    for s in r["sides"]:
        if s["failed"]:
            lines.append(
                f"| {s['name']} | did not run: {s['failed']} | | | |"
                + (" | | | |" if memory else "")
            )
            continue
        own = s is ours
        ratio = "" if own else f"{s['ratio']:.2f} x ({s['low']:.2f} to {s['high']:.2f})"
        bar = "" if s["bar"] is None else f">= {s['bar']:g} x"
        mark = "" if s["bar"] is None else _mark(s["ratio"] >= s["bar"])
        line = f"| {s['name']} | {_number(s['rate'])} | {ratio} | {bar} | {mark} |"
        if memory:
            line += _memory(s, ours)
        lines.append(line)
    if r["utilisation"] is not None:
        lines += [
            "",
            f"Ours does its model FLOPs at {r['utilisation']:.0%} of the machine's rate of matrix products.",
        ]
    return lines


def _memory(s: dict[str, Any], ours: dict[str, Any]) -> str:
    if s["memory"] is None:
        return " | | | |"
    share = ours["memory"] / s["memory"]
    bar, mark = "", ""
    if s["memory_bar"] is not None:
        bar, mark = f"<= {s['memory_bar']:g} x", _mark(share <= s["memory_bar"])
    own = "" if s is ours else f"{share:.2f} x"
    return f" {s['memory'] / 2**20:,.0f} MiB | {own} | {bar} | {mark} |"


def _mark(reached: bool | None) -> str:
    return {True: "reached", False: "**not reached**", None: ""}[reached]


def _number(value: float) -> str:
    return f"{value:,.0f}" if abs(value) >= 100 else f"{value:.3g}"
