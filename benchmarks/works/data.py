"""Text to ids that are ready for training, beside ``datasets`` and beside the tokenizer alone."""

from __future__ import annotations

import atexit
import functools
import os
import shutil
import subprocess
import sys
import tempfile
from functools import lru_cache
from pathlib import Path
from typing import Any

from benchmarks import corpus
from benchmarks.harness import Entrant, Work, status
from benchmarks.report import Finding
from lit_lm.data import TextFiles, Tokenizer, TokenizerConfig
from lit_lm.data.prepare import PrepareReport, prepare

SIZE = 32_000_000
"""Bytes of a race's text."""

ROW = 256
MEMORY = (10, 40, 160)
"""Megabytes of the texts that peak memory is measured on."""

ONE_THREAD = {"TOKENIZERS_PARALLELISM": "false", "RAYON_NUM_THREADS": "1"}


def works() -> list[Work]:
    """Byte-level BPE with 8,000 ids."""
    return [
        Work(
            "prepare",
            f"Text to training-ready ids: {SIZE / 1e6:g} MB, byte-level BPE, one thread",
            {
                "ours": functools.partial(ours, SIZE),
                "datasets.map": functools.partial(datasets_map, SIZE),
                "tokenizers, in memory": functools.partial(tokenizer_alone, SIZE),
            },
            bars={"datasets.map": 4.0, "tokenizers, in memory": 0.8},
            agree={"datasets.map": 0.0, "tokenizers, in memory": 0.0},
            unit="bytes",
            rounds=3,
        )
    ]


def findings() -> dict[str, Any]:
    """Peak memory."""
    return {"prepare-memory": memory}


@lru_cache(maxsize=1)
def folder() -> Path:
    """Where what is measured is written; removed at the end."""
    os.environ.update(ONE_THREAD)
    path = Path(tempfile.mkdtemp(prefix="lit_lm_bench_"))
    atexit.register(shutil.rmtree, path, ignore_errors=True)
    return path


@lru_cache(maxsize=4)
def text(size: int) -> Path:
    """The corpus."""
    return corpus.write(folder() / f"{size}.txt", size)


@lru_cache(maxsize=1)
def tokenizer() -> Path:
    """Trained once, on text of its own: the training is no part of what is measured."""
    path = folder() / "tokenizer.json"
    Tokenizer.train(TokenizerConfig("bpe", vocab_size=8000), corpus.lines(2_000_000, 7)).save(path)
    return path


def core() -> Any:
    """The same tokenizer, as the library has it."""
    import tokenizers

    path = folder() / "library.json"
    Tokenizer.load(tokenizer()).export(path)
    return tokenizers.Tokenizer.from_file(str(path))


def prepared(file: Path, model: Path, cache: Path) -> PrepareReport:
    """Prepares a file from nothing."""
    (file.parent / "val.txt").write_text("a b c\n")
    os.environ["LIT_LM_CACHE"] = str(cache)
    source = TextFiles(str(file), val=str(file.parent / "val.txt"), documents="line")
    return prepare(source, TokenizerConfig(path=str(model))).report


def ours(size: int) -> Entrant:
    """``lit-lm prepare``: hashes, counts and encodes the file, and writes ids, borders and bytes."""
    file, model, cache = text(size), tokenizer(), folder() / "ours"

    def step() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        return float(prepared(file, model, cache).splits["train"].tokens["text"])

    return Entrant(step, file.stat().st_size)


def datasets_map(size: int) -> Entrant:
    """The usual two maps: encode, then join and cut into rows (as in transformers' run_clm.py), cached on disk."""
    import datasets

    datasets.disable_progress_bars()
    file, encoder, cache = text(size), core(), folder() / "datasets"
    eos = encoder.token_to_id("<eos>")

    def encode(batch: dict[str, Any]) -> dict[str, Any]:
        found = encoder.encode_batch_fast(batch["text"], add_special_tokens=False)
        return {"input_ids": [[*one.ids, eos] for one in found]}

    def rows(batch: dict[str, Any]) -> dict[str, Any]:
        ids = [i for one in batch["input_ids"] for i in one]
        return {"input_ids": [ids[at : at + ROW] for at in range(0, len(ids), ROW)]}

    def step() -> float:
        shutil.rmtree(cache, ignore_errors=True)
        raw = datasets.load_dataset(
            "text", data_files=str(file), split="train", cache_dir=str(cache)
        )
        done = raw.map(encode, batched=True, remove_columns=["text"]).map(rows, batched=True)
        return float(sum(len(part.values) for part in done.data.column("input_ids").chunks))

    return Entrant(step, file.stat().st_size)


def tokenizer_alone(size: int) -> Entrant:
    """``encode_batch_fast`` over texts that are in memory already; what it finds is thrown away."""
    file, encoder = text(size), core()
    texts = file.read_text(encoding="utf-8").splitlines()

    def step() -> float:
        tokens = 0
        for at in range(0, len(texts), 1000):
            found = encoder.encode_batch_fast(texts[at : at + 1000], add_special_tokens=False)
            tokens += sum(map(len, found)) + len(found)
        return float(tokens)

    return Entrant(step, file.stat().st_size)


def memory(seconds: float) -> list[Finding]:
    """Peak memory of preparing texts of several sizes, each in a process of its own."""
    peaks = [_peak(megabytes * 1_000_000) for megabytes in MEMORY]
    return [
        Finding(
            "prepare-memory",
            f"Peak memory of preparing {MEMORY[-1]} MB over that of {MEMORY[0]} MB",
            peaks[-1] / peaks[0],
            "x",
            "<= 1.05",
            peaks[-1] <= 1.05 * peaks[0],
            ", ".join(
                f"{size} MB: {peak / 2**20:.0f} MiB"
                for size, peak in zip(MEMORY, peaks, strict=True)
            ),
        )
    ]


def _peak(size: int) -> int:
    file = text(size)
    command = [sys.executable, "-m", __name__, str(file), str(tokenizer()), str(folder() / "peak")]
    done = subprocess.run(command, check=True, capture_output=True, text=True)
    file.unlink()
    text.cache_clear()
    return int(done.stdout.split()[-1])


if __name__ == "__main__":
    prepared(*map(Path, sys.argv[1:]))
    print(status("VmHWM"))  # ru_maxrss would be the parent's, where that is larger
