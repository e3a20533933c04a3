"""Sources that are generated: the built-in language, whose entropy is known exactly."""

from __future__ import annotations

import hashlib
import math
from collections.abc import Iterator
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path

from lit_lm.data import builtin
from lit_lm.data.builtin import Document, cloze_totals, generate
from lit_lm.data.sources import SPLITS, Cloze, PairSource, TextSource
from lit_lm.errors import check_counts


@dataclass(frozen=True)
class _Generated:
    """Numbers of documents, and where they come from."""

    train: int = 10_000
    val: int = 500
    test: int = 500
    seed: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "train", "val", "test", least=0, most=1 << 40)
        check_counts(self, "seed", least=0, most=1 << 62)
        super().__post_init__()  # type: ignore[misc]

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split) > 0)

    def content(self, split: str) -> str:
        """The number of documents, and a digest of the code that writes them."""
        return f"{getattr(self, split)} {_code()}"

    def documents(self, split: str) -> Iterator[Document]:
        """The documents of a split."""
        return generate(self.seed, split, getattr(self, split))


@lru_cache(maxsize=1)
def _code() -> str:
    files = sorted(Path(next(iter(builtin.__path__))).glob("*.py"))
    return hashlib.blake2b(b"".join(file.read_bytes() for file in files), digest_size=8).hexdigest()


@dataclass(frozen=True)
class BuiltinText(_Generated, TextSource):
    """Documents of the built-in language: no files, no network, and the least possible loss is
    known.

    Args:
        train: documents to train on.
        val: documents to validate on; they open with sentences that no training document opens
            with.
        test: documents to test on, likewise.
        seed: which of the endless sequences of documents.
    """

    def read(self, split: str) -> Iterator[str]:
        return (document.text for document in self.documents(split))

    def surprisal(self, split: str) -> float | None:
        return _surprisal(self.seed, split, getattr(self, split))

    def cloze(self, split: str, documents: int) -> Cloze | None:
        totals = cloze_totals(self.seed, split, min(documents, getattr(self, split)))
        return Cloze(totals.cost, totals.positions, totals.accuracy)


@lru_cache(maxsize=16)
def _surprisal(seed: int, split: str, count: int) -> float:
    return math.fsum(document.surprisal for document in generate(seed, split, count))


@dataclass(frozen=True)
class BuiltinPairs(_Generated, PairSource):
    """Sentences of the built-in language with their one correct translation: no files, no network.

    Args:
        train: documents whose sentences are trained on; one has about ten.
        val: documents to validate on; they open with sentences that no training document opens
            with.
        test: documents to test on, likewise.
        seed: which of the endless sequences of documents.
    """

    def read(self, split: str) -> Iterator[tuple[str, str]]:
        for document in self.documents(split):
            for sentence in document.sentences:
                yield sentence.text, sentence.translation

    def surprisal(self, split: str) -> float | None:
        """0: a sentence alone determines its translation."""
        return 0.0
