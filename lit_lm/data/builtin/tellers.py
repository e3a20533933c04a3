"""Who makes the grammar's choices: a sampler (at random) or a reader (as a given text made them).

The grammar is one function over a teller. It says fixed words (`say`), picks a word from a class (`pick`), and decides
whether to take a turning (`maybe`). Both kinds of choice show in the very next word: the words of a class differ, and the
words that a turning can start with never follow without it. So a text determines its choices one by one from left to right,
and each text has exactly one derivation.
"""

from __future__ import annotations

import math
import random
from abc import ABC, abstractmethod
from collections.abc import Collection, Sequence

END = ""
"""Stands for the end of the document among the words."""

NEWLINE = "\n"


class Teller(ABC):
    """Collects the words of a document and what each of them costs.

    Attributes:
        words: The words of all sentences so far, with a newline between sentences.
        costs: For each word, minus the log-probability (nats) of the choices that led to it since the word before.
    """

    def __init__(self) -> None:
        self.words: list[str] = []
        self.costs: list[float] = []
        self._pending = 0.0
        self._start = True

    def say(self, *words: str) -> None:
        """Utters words that leave no choice."""
        for word in words:
            self._utter(word)

    def pick(self, options: Sequence[str], used: Collection[str] = ()) -> str:
        """Utters one of `options` that is not `used`, all of them equally likely.

        Args:
            options: Distinct words.
            used: Some of `options`, each at most once.
        """
        word = self._pick(options, used)
        self._pending += math.log(len(options) - len(used))
        self._utter(word)
        return word

    def maybe(self, probability: float, starts: Collection[str]) -> bool:
        """Decides whether to take a turning, whose first word is one of `starts`; the other way starts otherwise."""
        taken = self._maybe(probability, starts)
        self._pending -= math.log(probability if taken else 1.0 - probability)
        return taken

    def _utter(self, word: str) -> None:
        self.words.append(word[0].upper() + word[1:] if self._start else word)
        self._start = word == NEWLINE
        self.costs.append(self._pending)
        self._pending = 0.0

    def finish(self) -> None:
        """Ends the document."""
        self.costs.append(self._pending)
        self._pending = 0.0

    @abstractmethod
    def _pick(self, options: Sequence[str], used: Collection[str]) -> str: ...

    @abstractmethod
    def _maybe(self, probability: float, starts: Collection[str]) -> bool: ...


class Sampler(Teller):
    """Chooses at random."""

    def __init__(self, rng: random.Random) -> None:
        super().__init__()
        self._random = rng.random

    def _pick(self, options: Sequence[str], used: Collection[str]) -> str:
        while True:
            word = options[int(self._random() * len(options))]
            if word not in used:
                return word

    def _maybe(self, probability: float, starts: Collection[str]) -> bool:
        return self._random() < probability


class Reader(Teller):
    """Chooses what a given text says, so that the costs are that text's.

    Args:
        words: The words of a document, with newlines between its sentences.

    Raises:
        ValueError: While telling, where the grammar cannot say the next word.
    """

    def __init__(self, words: Sequence[str]) -> None:
        super().__init__()
        self._given = words

    def _next(self) -> str:
        at = len(self.words)
        return self._given[at] if at < len(self._given) else END

    def _is(self, word: str, options: Collection[str]) -> bool:
        return word in options or (self._start and word[:1].lower() + word[1:] in options)

    def _pick(self, options: Sequence[str], used: Collection[str]) -> str:
        word = self._next()
        if not self._is(word, options) or self._is(word, used):
            self._refuse(word, f"one of {len(options)} words like {options[0]!r}")
        return word if word in options else word[:1].lower() + word[1:]

    def _maybe(self, probability: float, starts: Collection[str]) -> bool:
        return self._is(self._next(), starts)

    def _utter(self, word: str) -> None:
        given = self._next()
        super()._utter(word)
        if self.words[-1] != given:
            self._refuse(given, repr(self.words[-1]))

    def finish(self) -> None:
        """Ends the document; raises a ValueError if the text goes on."""
        super().finish()
        if len(self.words) < len(self._given):
            self._refuse(self._next(), "the end of the document")

    def _refuse(self, word: str, expected: str) -> None:
        at = min(len(self.words), len(self._given))
        before = " ".join(self._given[max(0, at - 6) : at])
        raise ValueError(
            f"text is not in the built-in language: after {before!r} comes {word!r} instead of {expected}"
        )
