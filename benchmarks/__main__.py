"""``make bench``: races and measurements, written to docs/results/speed.json and speed.md.

python -m benchmarks [--only gpt,elmo] [--seconds 30] [--threads 2] [--out docs/results/speed] [--list]
"""

from __future__ import annotations

import argparse
import importlib
import pkgutil
import subprocess
import sys
import time
from pathlib import Path

import torch

from benchmarks import report, training, works
from benchmarks.harness import Entrant, Work, agreed, peak_memory, race


def main() -> None:
    """Reads the command line and measures."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks", description=__doc__)
    parser.add_argument("--only", default="", help="names, separated by commas; all when empty")
    parser.add_argument("--seconds", type=float, default=30.0, help="least time for each race")
    parser.add_argument("--threads", type=int, default=torch.get_num_threads())
    parser.add_argument(
        "--out", type=Path, default=Path("docs/results/speed"), help="without ending"
    )
    parser.add_argument("--list", action="store_true", help="print the names")
    parser.add_argument(
        "--memory", nargs=2, metavar=("WORK", "SIDE"), help="print bytes at the peak of one side"
    )
    args = parser.parse_args()
    torch.set_num_threads(args.threads)
    modules = [
        importlib.import_module(f"{works.__name__}.{m.name}")
        for m in pkgutil.iter_modules(works.__path__)
    ]
    races = {w.name: w for m in modules if hasattr(m, "works") for w in m.works()}
    others = {
        name: f for m in modules if hasattr(m, "findings") for name, f in m.findings().items()
    }
    known = [*races, *others]
    if args.list:
        print("\n".join(known))
        return
    if args.memory:
        print(peak_memory(races[args.memory[0]].entrants[args.memory[1]]))
        return
    chosen = args.only.split(",") if args.only else known
    for name in chosen:
        if name not in known:
            parser.error(f"no work {name!r}; there are {', '.join(known)}")
    done_races, done_findings = report.load(args.out) if args.only else ([], [])
    rates = {
        str(d).removeprefix("torch."): product_rate(d)
        for d in (torch.float32, torch.bfloat16)
        if not training.missing(d)
    }
    for name in chosen:
        begin = time.perf_counter()
        if name in races:
            new = run(races[name], args.seconds, rates)
            done_races = [r for r in done_races if r.name != name] + [new]
        else:
            found = others[name](args.seconds)
            done_findings = [f for f in done_findings if f.name != name] + found
        print(f"{name}: {time.perf_counter() - begin:.0f} s", file=sys.stderr)
        done_races.sort(key=lambda r: known.index(r.name) if r.name in known else len(known))
        done_findings.sort(key=lambda f: known.index(f.name) if f.name in known else len(known))
        report.save(args.out, report.machine(rates), done_races, done_findings)
    print(args.out.with_suffix(".md").read_text())


def run(work: Work, seconds: float, rates: dict[str, float]) -> report.Race:
    """A race, with each side's peak memory where that is asked for."""
    if work.missing:
        return report.Race(work.name, work.title, work.unit, missing=work.missing)
    entrants: dict[str, Entrant] = {}
    failed: dict[str, str] = {}
    for name, make in work.entrants.items():
        try:
            entrants[name] = make()
        except ImportError as error:
            if not entrants:  # ours
                raise
            failed[name] = str(error)
    timings = race(entrants, seconds=seconds, rounds=work.rounds)
    del entrants
    memory = {name: memory_of(work.name, name) for name in timings} if work.memory else {}
    rate = rates[str(work.dtype).removeprefix("torch.")]
    return report.race(work, timings, agreed(work, timings), memory, failed, rate)


def memory_of(work: str, side: str) -> int:
    """Bytes at the peak of one side, in a process of its own."""
    command = [sys.executable, "-m", "benchmarks", "--memory", work, side]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    return int(done.stdout.split()[-1])


def product_rate(dtype: torch.dtype) -> float:
    """FLOPs a CPU-second of a thread (a second of a GPU) that products of large matrices reach: the best of many tries."""
    gpu = torch.cuda.is_available()
    size = 8192 if gpu else 1024
    place = "cuda" if gpu else "cpu"
    a, b = (torch.randn(size, size, device=place).to(dtype) for _ in range(2))

    def product() -> float:
        torch.mm(a, b)
        return 0.0

    best = race({"product": Entrant(product, 1.0)}, seconds=2.0, rounds=10)["product"]
    return 2 * size**3 * best.rate


if __name__ == "__main__":
    main()
