"""The best guess of a masked word: its exact distribution given all other words of the document.

Each text has one derivation, so the probability of a word given all others is in proportion to the probability of the whole
document with that word in its place: zero where the text leaves the language. Only words that the grammar could say after the
words before need to be tried.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Collection, Sequence
from typing import NamedTuple

from lit_lm.data.builtin.documents import _GRAMMAR, Document, generate, split_words
from lit_lm.data.builtin.tellers import Reader

_TIE = 1e-9  # probabilities that differ by less, relative to the larger, are equal but for rounding


class Cloze(NamedTuple):
    """How well each word of a document can be guessed from all others. Each has one entry a word, newlines included.

    Attributes:
        costs: Minus the log-probability (nats) of the word, given all others.
        best: The most likely word; among equally likely ones the first in the alphabet.
        max_probability: The probability of `best`: how often the best guess is right, whatever breaks the ties.
    """

    costs: tuple[float, ...]
    best: tuple[str, ...]
    max_probability: tuple[float, ...]


class ClozeTotals(NamedTuple):
    """What the best guesser of single masked words reaches on a set of documents.

    Attributes:
        cost: The sum of all `Cloze.costs`, in nats: minus the best pseudo-log-likelihood.
        positions: Number of words, newlines included.
        accuracy: The mean of all `Cloze.max_probability`: the expected accuracy of the best guess.
    """

    cost: float
    positions: int
    accuracy: float


class _Found(Exception):
    """All words that may come at the place in question are known."""


class _Scout(Reader):
    """Reads up to a place and finds out which words the grammar could say there: takes no turning, but notes how each starts.

    Raises:
        _Found: While telling, at that place.
    """

    def __init__(self, words: Sequence[str], position: int) -> None:
        super().__init__(words)
        self._position = position
        self.options: set[str] = set()

    def _note(self, words: Collection[str]) -> None:
        self.options.update(w[0].upper() + w[1:] if self._start else w for w in words)

    def _pick(self, options: Sequence[str], used: Collection[str]) -> str:
        if len(self.words) == self._position:
            self._note(set(options).difference(used))
            raise _Found
        return super()._pick(options, used)

    def _maybe(self, probability: float, starts: Collection[str]) -> bool:
        if len(self.words) == self._position:
            self._note(starts)
            return False
        return super()._maybe(probability, starts)

    def _utter(self, word: str) -> None:
        if len(self.words) == self._position:
            self._note((word,))
            raise _Found
        super()._utter(word)


def _options(words: Sequence[str], position: int) -> list[str]:
    """All words that the grammar could say at a place after the words before it, and perhaps a few more."""
    scout = _Scout(words, position)
    try:
        _GRAMMAR.tell(scout)
    except _Found:
        return sorted(scout.options)
    raise AssertionError("the place is within the document")


def _surprisal(words: Sequence[str]) -> float:
    """Minus the log-probability of a document; infinite outside of the language."""
    reader = Reader(words)
    try:
        _GRAMMAR.tell(reader)
    except ValueError:
        return math.inf
    return math.fsum(reader.costs)


def _posterior(words: Sequence[str], position: int) -> dict[str, float]:
    options = _options(words, position)
    if len(options) == 1:
        return {options[0]: 1.0}
    before, after = words[:position], words[position + 1 :]
    surprisals = {word: _surprisal([*before, word, *after]) for word in options}
    least = min(surprisals.values())
    weights = {w: math.exp(least - s) for w, s in surprisals.items() if s < math.inf}
    total = math.fsum(weights.values())
    return {word: weight / total for word, weight in weights.items()}


def posterior(document: Document, position: int) -> dict[str, float]:
    """The exact distribution of a word given all other words of its document, on both sides.

    Args:
        document: A document of the language.
        position: Place of the word in ``split_words(document.text)``. The end of the document has no place of its own: after
            all words nothing else can come.

    Returns:
        The probability of each possible word, written as it would stand there, in alphabetical order. All others have none.

    Raises:
        IndexError: If there is no such place.
    """
    words = split_words(document.text)
    if not 0 <= position < len(words):
        raise IndexError(f"position={position} is not in a document of {len(words)} words")
    return _posterior(words, position)


def cloze(document: Document) -> Cloze:
    """Masks each word of a document in turn, and guesses it from all others as well as anybody can."""
    words = split_words(document.text)
    costs, best, highest = [], [], []
    for position, word in enumerate(words):
        chances = _posterior(words, position)
        most = max(chances.values())
        costs.append(abs(math.log(chances[word])))  # abs: no -0.0
        best.append(next(w for w, chance in chances.items() if chance >= most * (1.0 - _TIE)))
        highest.append(most)
    return Cloze(tuple(costs), tuple(best), tuple(highest))


@functools.lru_cache(maxsize=16)
def cloze_totals(seed: int, split: str, count: int) -> ClozeTotals:
    """Sums up `cloze` over the first documents of a split; remembers the answer.

    Args:
        seed: As for `generate`.
        split: As for `generate`.
        count: How many documents, at least one.

    Raises:
        ValueError: For an unknown split, or without documents.
    """
    if count < 1:
        raise ValueError(f"count={count}: at least one document is needed")
    told = [cloze(document) for document in generate(seed, split, count)]
    positions = sum(len(t.costs) for t in told)
    cost = math.fsum(cost for t in told for cost in t.costs)
    right = math.fsum(chance for t in told for chance in t.max_probability)
    return ClozeTotals(cost, positions, right / positions)
