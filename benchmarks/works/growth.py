"""What a token costs as data, batches, contexts and workers grow. Written to growth.json and growth.svg as well."""

from __future__ import annotations

import json
import os
import shutil
import statistics
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.report import Finding
from benchmarks.works import data as preparing
from benchmarks.works import gpt
from lit_lm.data import TextData, TextFiles, TokenizerConfig

LARGE = "LIT_LM_BENCH_LARGE"
"""Environment variable: also 1000 MB of text."""

OUT = Path("docs/results")
BATCHES = (1, 4, 16, 64)
CONTEXTS = (128, 256, 512, 1024, 2048, 4096)
WORKERS = (0, 1, 2)
TOKENS = 4096
"""Tokens of a step where contexts grow."""

Points = dict[float, float]


def findings() -> dict[str, Callable[[float], list[Finding]]]:
    """All of it."""
    return {"growth": growth}


def growth(seconds: float) -> list[Finding]:
    """Measures, and says what grows."""
    found = {**by_data(seconds), **by_batch(seconds), **by_context(seconds), **by_workers(seconds)}
    OUT.mkdir(parents=True, exist_ok=True)
    (OUT / "growth.json").write_text(json.dumps(found, indent=1) + "\n")
    draw(found, OUT / "growth.svg")
    out = []
    for name, (title, unit, least) in CURVES.items():
        points = found[name]
        first, last = next(iter(points.values())), list(points.values())[-1]
        ratio = last / first
        out.append(
            Finding(
                "growth",
                f"{title}, at {list(points)[-1]:,g} over {next(iter(points)):,g}",
                ratio,
                "x",
                "" if least is None else f"<= {least:g} x",
                None if least is None else ratio <= least,
                ", ".join(f"{size:,g}: {value:.3g}" for size, value in points.items()) + f" {unit}",
            )
        )
    return out


CURVES: dict[str, tuple[str, str, float | None]] = {
    "prepare": ("Processor time of preparing a byte, by MB of text", "ns", 1.1),
    "open": ("Time to open prepared data, the text being hashed, by MB of text", "ms", None),
    "plan": ("Time until the first batch of an epoch, per row, by MB of text", "us", 1.5),
    "batch": ("Time for a batch of the loader, by MB of text", "ms", 1.5),
    "token_by_batch": ("Processor time of training on a token, by rows of a batch", "us", 1.1),
    "token_by_context": ("Processor time of training on a token, by context", "us", None),
    "flops_by_context": ("FLOPs of training on a token, by context", "MFLOP", None),
    "loader_by_workers": ("Time for a batch of the loader, by workers", "ms", None),
}
"""Title, unit and how many times the first point the last may be."""


def by_data(seconds: float) -> dict[str, Points]:
    """Preparing, opening, planning an epoch, and batches."""
    out: dict[str, Points] = {name: {} for name in ("prepare", "open", "plan", "batch")}
    model = preparing.tokenizer()
    for megabytes in (1, 10, 100, *((1000,) if os.environ.get(LARGE) else ())):
        file = corpus.write(preparing.folder() / f"growth_{megabytes}.txt", megabytes * 1_000_000)
        cache = preparing.folder() / "growth"
        begin = time.process_time()
        preparing.prepared(file, model, cache)
        used = time.process_time() - begin
        out["prepare"][megabytes] = 1e9 * used / file.stat().st_size
        opened, planned, batch = loading(file)
        out["open"][megabytes] = 1e3 * opened
        out["plan"][megabytes] = 1e6 * planned
        out["batch"][megabytes] = 1e3 * batch
        shutil.rmtree(cache)
        file.unlink()
    return out


def text_data(file: Path, **settings: Any) -> TextData:
    """Windows of 256 tokens of a prepared file."""
    source = TextFiles(str(file), val=str(file.parent / "val.txt"), documents="line")
    config = TokenizerConfig(path=str(preparing.tokenizer()))
    return TextData(source, config, length=preparing.ROW, batch_size=16, **settings)


def loading(file: Path) -> tuple[float, float, float]:
    """Seconds to open the files (which hashes the text: that tells that they are its), to plan an epoch and
    make its first batch, for each row, and for a batch after that.
    """
    module = text_data(file)
    begin = time.process_time()
    module.store("train", "text")
    opened = time.process_time() - begin
    loader = module.train_dataloader()
    begin = time.process_time()
    batches = iter(loader)
    next(batches)
    planned = (time.process_time() - begin) / len(module.rows("train"))
    begin, count = time.process_time(), 0
    for _ in zip(batches, range(200), strict=False):
        count += 1
    return opened, planned, (time.process_time() - begin) / max(count, 1)


def by_batch(seconds: float) -> dict[str, Points]:
    """Training steps of a small GPT on 1 to 64 rows of 128 tokens."""
    return {"token_by_batch": {rows: step_time(rows, 128) for rows in BATCHES}}


def by_context(seconds: float) -> dict[str, Points]:
    """Steps on as many tokens, in ever longer rows; and what the FLOPs say."""
    out: dict[str, Points] = {"token_by_context": {}, "flops_by_context": {}}
    for length in CONTEXTS:
        out["token_by_context"][length] = step_time(TOKENS // length, length)
        own = gpt.task(sizes(1, length))
        out["flops_by_context"][length] = 3 * own.net.row_flops(length) / length / 1e6
    return out


def sizes(rows: int, length: int) -> gpt.Sizes:
    """A GPT with 2 layers of width 128."""
    return gpt.Sizes(layers=2, heads=4, width=128, vocab=2048, rows=rows, length=length)


def step_time(rows: int, length: int) -> float:
    """Microseconds of the processor for a token."""
    entrant = gpt.ours(sizes(rows, length))
    entrant.step()
    entrant.step()
    times = []
    begin = time.perf_counter()
    while len(times) < 3 or (time.perf_counter() - begin < 2 and len(times) < 50):
        start = time.process_time()
        entrant.step()
        times.append(time.process_time() - start)
    return 1e6 * statistics.median(times) / entrant.units


def by_workers(seconds: float) -> dict[str, Points]:
    """Milliseconds that the loop waits for a batch, once workers are there."""
    file = corpus.write(preparing.folder() / "workers.txt", 4_000_000)
    preparing.prepared(file, preparing.tokenizer(), preparing.folder() / "workers")
    out: Points = {}
    for workers in WORKERS:
        batches = iter(text_data(file, num_workers=workers).train_dataloader())
        for _ in range(2 * workers + 1):
            next(batches)
        begin, count = time.perf_counter(), 0
        for _ in zip(batches, range(150), strict=False):
            count += 1
        out[workers] = 1e3 * (time.perf_counter() - begin) / count
        del batches
    return {"loader_by_workers": out}


def draw(found: dict[str, Points], path: Path) -> None:
    """One panel for each curve."""
    import matplotlib as mpl

    mpl.use("svg")
    from matplotlib import pyplot

    figure, panels = pyplot.subplots(2, 4, figsize=(16, 7), layout="constrained")
    for panel, (name, (title, unit, _)) in zip(panels.flat, CURVES.items(), strict=True):
        what, _, by = title.rpartition(", by ")
        panel.plot(list(found[name]), list(found[name].values()), marker="o")
        panel.set(xlabel=by, ylabel=unit, ylim=(0, None))
        panel.set_title(what, fontsize=9)
        if 0 not in found[name]:
            panel.set_xscale("log")
        panel.set_xticks(list(found[name]), labels=[f"{size:,g}" for size in found[name]])
        panel.minorticks_off()
    figure.savefig(path)
    pyplot.close(figure)
