"""Raw text to token ids on disk, once: content-hashed, locked, and moved into place only when
complete.
"""

from __future__ import annotations

import hashlib
import json
import logging
import os
import re
import shutil
import time
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict, dataclass, field, replace
from functools import cached_property
from pathlib import Path
from typing import Any, Literal

from filelock import FileLock, Timeout

from lit_lm.data.account import Account, InputReport, account, is_empty
from lit_lm.data.sources import SPLITS, PairSource, TextSource
from lit_lm.data.store import StoreWriter, TokenStore, smallest_dtype
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError

_FORMAT = 4
_CHUNK_CHARS, _CHUNK_ITEMS = 1 << 20, 8192
_log = logging.getLogger("lightning.pytorch.lit_lm")  # Lightning shows what its own loggers say

AnySource = TextSource | PairSource
Sentences = Literal["lines", "punctuation"]
_SENTENCE_END = re.compile(r"(?<=[.!?])\s+(?=[\"'“‘(]?[^\W\d_a-z])")


def cache_folder() -> Path:
    """Where prepared data goes: LIT_LM_CACHE, or `~/.cache/lit_lm`."""
    return Path(os.environ.get("LIT_LM_CACHE") or "~/.cache/lit_lm").expanduser()


@dataclass(frozen=True)
class SplitReport:
    """What became of one split.

    Args:
        documents: documents, or pairs, that are used.
        skipped: empty ones (of pairs: either side) that were left out.
        tokens: tokens of each text, one eos per document included.
        bytes: raw UTF-8 bytes of each text, one separator per document included.
        unknown: tokens of each text that the vocabulary does not hold.
        words: distinct ones among them that are read by their characters, where characters are read.
        dropped: tokens that are read as unk all the same, because there are too many distinct ones.
    """

    documents: int
    skipped: int
    tokens: dict[str, int]
    bytes: dict[str, int]
    unknown: dict[str, int]
    words: dict[str, int] = field(default_factory=dict)
    dropped: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.documents:,} {'documents' if 'text' in self.tokens else 'pairs'}"]
        for stream, count in self.tokens.items():
            part = f"{stream} {count:,} tokens, {self.bytes[stream]:,} bytes"
            if unknown := self.unknown[stream]:
                part += f", {unknown:,} tokens unknown"
                if words := self.words.get(stream):
                    part += f" ({words:,} different words, read by their characters"
                    dropped = self.dropped[stream]
                    part += f"; {dropped:,} tokens beyond them are not)" if dropped else ")"
            parts.append(part)
        if self.skipped:
            parts.append(f"{self.skipped:,} empty ones skipped")
        return "; ".join(parts)


@dataclass(frozen=True)
class PrepareReport:
    """What a preparation read, made and left out.

    Args:
        source: the source's class.
        tokenizer: the tokenizer's kind.
        vocab_size: ids, special tokens included.
        dtype: type of an id on disk.
        characters: characters that are kept of unknown words; 0 for none.
        folder: where the prepared files are.
        seconds: time that preparing took, when it was done.
        reused: an earlier preparation was found.
        splits: by name; "test" is missing when "val" stands in for it.
        inputs: what became of the lines of each split's own files; none for sources without lines.
    """

    source: str
    tokenizer: str
    vocab_size: int
    dtype: str
    folder: str
    seconds: float
    reused: bool
    splits: dict[str, SplitReport]
    characters: int = 0
    inputs: dict[str, InputReport] = field(default_factory=dict)

    def __str__(self) -> str:
        took = f"{'reused, ' if self.reused else ''}made in {self.seconds:.1f} s"
        lines = [
            f"source     {self.source}",
            f"tokenizer  {self.tokenizer}, {self.vocab_size:,} ids, stored as {self.dtype}",
            f"folder     {self.folder} ({took})",
            *(f"{name:<10} {lines}" for name, lines in self.inputs.items()),
            *(f"{name:<10} {split}" for name, split in self.splits.items()),
        ]
        if "test" not in self.splits:
            lines.append("test       the same as val: no test text is given")
        return "\n".join(lines)


class Prepared:
    """Reader of a preparation."""

    def __init__(self, folder: Path, *, reused: bool) -> None:
        self.folder = folder
        self._meta: dict[str, Any] = json.loads((folder / "meta.json").read_text())
        splits = {name: SplitReport(**split) for name, split in self._meta["splits"].items()}
        inputs = {name: InputReport(**its) for name, its in self._meta["inputs"].items()}
        self.report = PrepareReport(
            **{**self._meta["report"], "splits": splits, "inputs": inputs},
            folder=str(folder),
            reused=reused,
        )

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was trained or loaded."""
        return Tokenizer.load(self.folder / "tokenizer.json")

    def store(self, split: str, stream: str) -> TokenStore:
        """Ids of a text ("text"; of pairs "src" and "tgt") of a split."""
        report = self.report
        return TokenStore(self.folder / f"{split}.{stream}", report.dtype, report.characters)


def prepare(
    source: AnySource,
    config: TokenizerConfig,
    sentences: Sentences | None = None,
    characters: int = 0,
) -> Prepared:
    """Train (or load) the tokenizer and write every split's ids, unless that was done before.

    Safe to call from any number of processes: one works, the others wait and reuse. Memory does
    not grow with the corpus.

    Args:
        source: where the text comes from.
        config: which tokenizer to train or load.
        sentences: write documents sentence by sentence: "lines" (a sentence is a line) or
            "punctuation" (it also ends at `.`, `!` or `?` before a space and a capital); None writes
            them whole.
        characters: keep so many characters of words that the vocabulary does not hold, two marks included;
            0 to keep none.

    Raises:
        InputError: something about the text, the tokenizer or the cache folder is wrong.
    """
    if config.path is None and config.kind in ("byte", "bpe", "unigram"):
        characters = 0  # these know every text: nothing to keep, and files that others can use
    config = with_symbols(config, source.symbols)
    folder = cache_folder() / _name(source, config, sentences, characters)
    with _locked(folder):
        reused = (folder / "meta.json").is_file()
        if not reused:
            _make(source, config, sentences, characters, folder)
    return Prepared(folder, reused=reused)


def with_symbols(config: TokenizerConfig, symbols: tuple[str, ...]) -> TokenizerConfig:
    """A tokenizer to train gets ids for them; one to load must have them."""
    if config.path is None:
        return replace(config, symbols=(*config.symbols, *symbols)) if symbols else config
    tokenizer = Tokenizer.load(config.path) if symbols else None
    for symbol in symbols:
        assert tokenizer is not None
        if len(tokenizer.encode(symbol)) != 1 or tokenizer.encode(symbol) == [tokenizer.unk_id]:
            raise InputError(
                f"tokenizer {config.path} has no id of its own for {symbol}, which the data's source texts begin with: "
                "load one that was trained with tokenizer.symbols, or drop data.tokenizer.path to train."
            )
    return config


def _name(
    source: AnySource, config: TokenizerConfig, sentences: Sentences | None, characters: int
) -> str:
    """A readable name that ends in a digest of all that decides the content."""
    loaded = None if config.path is None else Tokenizer.load(config.path).state()
    settings = config.settings() if loaded is None else loaded
    parts = [_FORMAT, source.fingerprint(), settings, sentences]
    parts += [characters] if characters else []
    digest = hashlib.blake2b(json.dumps(parts, sort_keys=True).encode(), digest_size=8).hexdigest()
    return f"{type(source).__name__}-{config.kind if loaded is None else 'loaded'}-{digest}"


@contextmanager
def _locked(folder: Path) -> Iterator[None]:
    try:
        folder.parent.mkdir(parents=True, exist_ok=True)
        lock = FileLock(folder.with_name(folder.name + ".lock"))
        try:
            lock.acquire(timeout=2)
        except Timeout:
            _log.info("Another process prepares %s: waiting for it.", folder)
            lock.acquire()
    except OSError as error:
        raise InputError(
            f"the cache {folder.parent} cannot be written ({error}): set LIT_LM_CACHE to a folder "
            "that can."
        ) from None
    try:
        yield
    finally:
        lock.release()


def _make(
    source: AnySource,
    config: TokenizerConfig,
    sentences: Sentences | None,
    characters: int,
    folder: Path,
) -> None:
    begin = time.perf_counter()
    for leftover in folder.parent.glob(f".{folder.name}.*"):  # we hold the lock: its maker is dead
        shutil.rmtree(leftover)
    work = folder.with_name(f".{folder.name}.{os.getpid()}")
    work.mkdir()
    try:
        by_sentence = sentences is not None
        tokenizer = Tokenizer.train(config, _TrainingTexts(source))
        tokenizer.save(work / "tokenizer.json")
        names = [split for split in SPLITS if source.actual(split) == split]
        splits: dict[str, Any] = {}
        lines: dict[str, InputReport | None] = {}
        for split in names:
            # What is read whole is counted as it is written, and read no second time.
            found = source.lines(split) if source.holdout is None else None
            counts = Account(source, split, by_sentence=by_sentence)
            items = source.items(split) if found is None else counts.over(found)
            written = _write_split(source, split, items, tokenizer, sentences, characters, work)
            splits[split] = asdict(written)
            if found is not None:
                lines[split] = counts.report()
        for given in source.given():
            if given not in lines:
                lines[given] = account(source, given, by_sentence=by_sentence)
        report = {
            "source": type(source).__name__,
            "tokenizer": tokenizer.config.kind,
            "vocab_size": tokenizer.vocab_size,
            "dtype": smallest_dtype(tokenizer.vocab_size).name,
            "characters": characters,
            "seconds": time.perf_counter() - begin,
        }
        meta = {
            "format": _FORMAT,
            "fingerprint": source.fingerprint(),
            "report": report,
            "splits": splits,
            "inputs": {split: asdict(its) for split, its in lines.items() if its is not None},
        }
        (work / "meta.json").write_text(json.dumps(meta, indent=1))
        work.rename(folder)
    except BaseException:
        shutil.rmtree(work, ignore_errors=True)
        raise


class _TrainingTexts:
    """All texts of the training split, as often as asked for."""

    def __init__(self, source: AnySource) -> None:
        self._source = source

    def __iter__(self) -> Iterator[str]:
        for item in self._source.items("train"):
            yield from _texts(item)


def _texts(item: str | tuple[str, str]) -> tuple[str, ...]:
    return (item,) if isinstance(item, str) else item


def _write_split(
    source: AnySource,
    split: str,
    items: Iterator[Any],
    tokenizer: Tokenizer,
    sentences: Sentences | None,
    characters: int,
    folder: Path,
) -> SplitReport:
    dtype = smallest_dtype(tokenizer.vocab_size)
    keep_text = isinstance(source, PairSource)
    skipped = documents = 0

    def kept() -> Iterator[tuple[str, ...]]:
        nonlocal skipped, documents
        written = 0
        for item in items:
            texts = _texts(item)
            if is_empty(texts):
                skipped += 1
                continue
            documents += 1
            if sentences is None:
                yield texts
                continue
            for sentence in split_sentences(texts[0], sentences):
                written += 1
                yield (sentence,)
            ends.write(written.to_bytes(8, "little"))

    with ExitStack() as stack:
        if sentences is not None:
            ends = stack.enter_context((folder / f"{split}.text.sentences").open("wb"))
            ends.write((0).to_bytes(8, "little"))
        writers = {
            stream: stack.enter_context(
                StoreWriter(
                    folder / f"{split}.{stream}",
                    dtype,
                    tokenizer,
                    keep_text=keep_text,
                    characters=characters,
                )
            )
            for stream in source.streams
        }
        for chunk in chunks(kept()):
            for texts, writer in zip(zip(*chunk, strict=True), writers.values(), strict=True):
                writer.write(texts)
    first = next(iter(writers.values()))
    if first.documents == 0:
        raise InputError(
            f"{type(source).__name__}: `{split}` holds no text ({skipped} empty ones skipped)."
        )
    return SplitReport(
        documents=documents,
        skipped=skipped,
        tokens={stream: writer.tokens for stream, writer in writers.items()},
        bytes={stream: writer.bytes for stream, writer in writers.items()},
        unknown={stream: writer.unknown for stream, writer in writers.items()},
        words={s: len(w.words) for s, w in writers.items() if w.words is not None},
        dropped={s: w.words.dropped for s, w in writers.items() if w.words is not None},
    )


def split_sentences(text: str, rule: Sentences) -> list[str]:
    """The sentences of a document, without the white space between them."""
    lines = (line.strip() for line in text.split("\n"))
    parts = (_SENTENCE_END.split(line) if rule == "punctuation" else [line] for line in lines)
    return [sentence for line in parts for sentence in line if sentence]


def chunks(items: Iterator[tuple[str, ...]]) -> Iterator[list[tuple[str, ...]]]:
    """Items in lists of about 2^20 characters, at most 8,192 items each."""
    chunk: list[tuple[str, ...]] = []
    chars = 0
    for item in items:
        chunk.append(item)
        for text in item:
            chars += len(text)
        if chars >= _CHUNK_CHARS or len(chunk) >= _CHUNK_ITEMS:
            yield chunk
            chunk, chars = [], 0
    if chunk:
        yield chunk
