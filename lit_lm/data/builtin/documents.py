"""Documents of the built-in language: unlimited, reproducible, each with its exact surprisal."""

from __future__ import annotations

import functools
import itertools
import math
import random
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from lit_lm.data.builtin.frames import Frame
from lit_lm.data.builtin.grammar import Entity, Grammar, Told
from lit_lm.data.builtin.lexicon import LEXICON
from lit_lm.data.builtin.tellers import Reader, Sampler
from lit_lm.data.builtin.translation import translate

SPLITS = ("train", "val", "test")
"""The disjoint parts of the language."""

OPTIMAL_EXACT_MATCH = 1.0
"""The best possible share of exactly translated sentences: a sentence alone determines its translation."""

_SHARES = {0: "val", 1: "test"}  # of 8 parts; the others are "train"
_GRAMMAR = Grammar(LEXICON)


def join(words: Sequence[str]) -> str:
    """Writes words as text: a space between them, none before punctuation or around a newline."""
    text = " ".join(words)
    return text.replace(" ,", ",").replace(" .", ".").replace(" \n ", "\n")


def split_words(text: str) -> list[str]:
    """Undoes `join`: words, punctuation and newlines, each on its own."""
    return text.replace(",", " ,").replace(".", " .").replace("\n", " \n ").split(" ")


@dataclass(frozen=True, slots=True)
class Sentence:
    """A sentence with everything known about it.

    Attributes:
        words: Its words and punctuation marks.
        entities: Named things in it: label, first word, word after the last.
        label: Index into `LABELS` where the sentence tells an event, else None.
        frame: What it says.
    """

    words: tuple[str, ...]
    entities: tuple[Entity, ...]
    label: int | None
    frame: Frame

    @property
    def text(self) -> str:
        """The sentence as a reader wants it."""
        return join(self.words)

    @property
    def translation_words(self) -> tuple[str, ...]:
        """The words of its translation."""
        return translate(self.frame)

    @property
    def translation(self) -> str:
        """Its one correct translation."""
        return join(self.translation_words)


@dataclass(frozen=True, slots=True)
class Document:
    """A story.

    Attributes:
        sentences: Its sentences, one a line.
        costs: Minus the log-probability (nats) of each word given all words before it: sentence by sentence, newlines
            between them, and last the end of the document.
    """

    sentences: tuple[Sentence, ...]
    costs: tuple[float, ...]

    @property
    def text(self) -> str:
        """The document, a sentence a line."""
        return "\n".join(sentence.text for sentence in self.sentences)

    @property
    def num_tokens(self) -> int:
        """Words, punctuation marks and newlines; the end of the document is not counted."""
        return len(self.costs) - 1

    @property
    def surprisal(self) -> float:
        """Minus the log-probability of the document and its end, in nats."""
        return math.fsum(self.costs)


def _document(told: Sequence[Told], costs: Sequence[float]) -> Document:
    sentences = (Sentence(t.words, t.entities, t.label, t.frame) for t in told)
    return Document(tuple(sentences), tuple(costs))


def split_of(opening: str) -> str:
    """The split of all documents that open with this sentence (val and test: an eighth of the openings each)."""
    return _SHARES.get(zlib.crc32(opening.encode()) % 8, "train")


def document(seed: int, split: str, index: int) -> Document:
    """The document at a place of a split: always the same one.

    Args:
        seed: Picks one of the endless sequences of documents.
        split: "train", "val" or "test".
        index: Place in the sequence, from 0.

    Raises:
        ValueError: For an unknown split.
    """
    if split not in SPLITS:
        raise ValueError(f"split={split!r} is unknown: choose one of {', '.join(SPLITS)}")
    rng = random.Random(f"{seed}/{split}/{index}")
    while True:
        sampler = Sampler(rng)
        story = _GRAMMAR.open(sampler)
        if split_of(join(story.told[0].words)) == split:
            return _document(story.go_on(), sampler.costs)


def generate(seed: int, split: str, n: int | None = None) -> Iterator[Document]:
    """The first `n` documents of a split, or without `n` endlessly many."""
    indices = itertools.count() if n is None else range(n)
    return map(functools.partial(document, seed, split), indices)


def read(text: str) -> Document:
    """Finds the one derivation of a text, and with it the exact surprisal of every word.

    Args:
        text: A whole document, a sentence a line.

    Raises:
        ValueError: If the text is not a document of this language; names the word where it leaves it.
    """
    reader = Reader(split_words(text))
    return _document(_GRAMMAR.tell(reader), reader.costs)
