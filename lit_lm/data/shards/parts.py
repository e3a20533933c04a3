"""Writing the parts of a text: each a shard, by any process of any machine, in parallel."""

from __future__ import annotations

import json
import logging
import multiprocessing
import os
import shutil
import threading
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor, as_completed
from concurrent.futures.process import BrokenProcessPool
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from filelock import FileLock

from lit_lm.data.account import Account, is_empty
from lit_lm.data.prepare import cache_folder, chunks
from lit_lm.data.shards.address import Address
from lit_lm.data.shards.manifest import ENDINGS, Entry, Shard, digest_of, digest_of_files
from lit_lm.data.sources import TextSource
from lit_lm.data.store import StoreWriter, smallest_dtype
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.data.word_ids import WordIds
from lit_lm.errors import InputError

_BETWEEN_WORDS = 10.0  # seconds
_log = logging.getLogger("lightning.pytorch.lit_lm")


@dataclass(frozen=True)
class Part:
    """Part `index` (from 0) of `count` parts of a split's own text."""

    split: str
    index: int
    count: int

    def name(self, split: str) -> str:
        """What its shard for a split is called."""
        return f"{split}-{self.index + 1:05}-of-{self.count:05}"

    @property
    def entry(self) -> str:
        """The file that says that it is done."""
        return f"{self.name(self.split)}.json"


@dataclass(frozen=True)
class Job:
    """What all parts share.

    Args:
        source: where the text comes from.
        address: where shards go.
        tokenizer: as JSON.
    """

    source: TextSource
    address: Address
    tokenizer: bytes


def write_parts(job: Job, parts: Sequence[Part], jobs: int) -> None:
    """Writes parts with so many processes, and says how it goes."""
    begin, said, tokens, size = time.perf_counter(), 0.0, 0, 0

    def say(entry: Entry, done: int) -> None:
        nonlocal said, tokens, size
        tokens += sum(shard.tokens for shard in entry.shards.values())
        size += sum(shard.bytes for shard in entry.shards.values())
        now = time.perf_counter()
        if now - said < _BETWEEN_WORDS and done < len(parts):
            return
        said = now
        _log.info(
            "%d of %d shards: %s tokens, %s a second (%.1f MB/s of text)",
            done, len(parts), f"{tokens:,}", f"{tokens / (now - begin):,.0f}", size / (now - begin) / 1e6,
        )  # fmt: skip

    if min(jobs, len(parts)) <= 1:
        encoder = _Encoder(job.tokenizer)
        for done, part in enumerate(parts, start=1):
            say(_write(job, encoder, part), done)
        return
    # Threads, which file systems and tokenizers start, do not survive a fork of this process.
    context = multiprocessing.get_context("forkserver")
    context.set_forkserver_preload([__name__])
    threads = str(max((os.cpu_count() or 1) // jobs, 1))
    with (
        _environment("RAYON_NUM_THREADS", threads),
        ProcessPoolExecutor(min(jobs, len(parts)), context, _begin_worker, (job,)) as pool,
    ):
        work = [pool.submit(_work, part) for part in parts]
        try:
            for done, future in enumerate(as_completed(work), start=1):
                say(future.result(), done)
        except BrokenProcessPool:
            raise InputError(
                "a process that wrote shards was killed (out of memory?): run again, with fewer --jobs."
            ) from None
        except BaseException:
            pool.shutdown(wait=False, cancel_futures=True)
            raise


@contextmanager
def _environment(name: str, value: str) -> Iterator[None]:
    """An environment variable for processes that are started inside, if the user has not set it."""
    given = name in os.environ
    os.environ.setdefault(name, value)
    try:
        yield
    finally:
        if not given:
            del os.environ[name]


class _Encoder:
    """The tokenizer, and the words that it has encoded so far: the ids of none depend on them."""

    def __init__(self, tokenizer: bytes) -> None:
        self.tokenizer = Tokenizer.from_state(json.loads(tokenizer))
        self.by_word = WordIds(self.tokenizer) if self.tokenizer.has_words else None


_worker: tuple[Job, _Encoder]


def _begin_worker(job: Job) -> None:
    global _worker
    _worker = job, _Encoder(job.tokenizer)
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for work for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)


def _work(part: Part) -> Entry:
    return _write(*_worker, part)


def _write(job: Job, encoder: _Encoder, part: Part) -> Entry:
    """Writes a part's shards and its entry, unless another process of this machine does so first."""
    key = digest_of([job.address.url.encode(), job.tokenizer])
    folder = cache_folder() / "writing" / f"{key}-{part.name(part.split)}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with FileLock(f"{folder}.lock"):
        if job.address.has(part.entry):
            return Entry.of(json.loads(job.address.read(part.entry)))
        try:
            entry = job.address.insist(
                f"the text of {part.name(part.split)}",
                lambda: _make(job, encoder, part, folder),
                long=True,
            )
            for shard in entry.shards.values():
                for ending in ENDINGS:
                    job.address.put(folder / f"{shard.name}{ending}", f"{shard.name}{ending}")
            job.address.put_json(asdict(entry), part.entry)
        finally:
            shutil.rmtree(folder, ignore_errors=True)
    return entry


def _make(job: Job, encoder: _Encoder, part: Part, folder: Path) -> Entry:
    """Writes a part's files into a folder of its own."""
    shutil.rmtree(folder, ignore_errors=True)  # we hold the lock: its maker is dead
    folder.mkdir()
    source = job.source
    tokenizer = encoder.tokenizer
    dtype = smallest_dtype(tokenizer.vocab_size)
    counts = Account(source, part.split, by_sentence=False)
    skipped = 0
    writers: dict[str, StoreWriter] = {}
    with ExitStack() as stack:

        def kept() -> Iterator[tuple[str, str]]:
            nonlocal skipped
            for text in counts.over(source.part(part.split, part.index, part.count)):
                if is_empty(text):
                    skipped += 1
                else:
                    yield (source.split_of(text) if part.split == "train" else part.split, text)

        for chunk in chunks(kept()):
            for split in dict.fromkeys(split for split, _ in chunk):
                if split not in writers:
                    stem = folder / part.name(split)
                    writer = StoreWriter(
                        stem, dtype, tokenizer, keep_text=False, by_word=encoder.by_word
                    )
                    writers[split] = stack.enter_context(writer)
                writers[split].write([text for its, text in chunk if its == split])
    shards = {s: _shard(folder, part.name(s), writers[s]) for s in sorted(writers)}
    return Entry(shards, skipped, counts.used, counts.left)


def _shard(folder: Path, name: str, writer: StoreWriter) -> Shard:
    files = [folder / f"{name}{ending}" for ending in ENDINGS]
    size = sum(file.stat().st_size for file in files)
    digest = digest_of_files(files)
    return Shard(name, writer.documents, writer.tokens, writer.bytes, writer.unknown, size, digest)
