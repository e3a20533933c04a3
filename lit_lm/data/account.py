"""What became of every line of a source's files: lines read are lines used and lines left out, by reason."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from lit_lm.data.sources import Lines, Source
from lit_lm.errors import InputError


@dataclass(frozen=True)
class InputReport:
    """The lines of a split's own files (of parallel files, of each of the two): `lines` is `used` and all of
    `left` together, counted from the files' bytes and not from what was made of them.

    Args:
        lines: lines that were read.
        used: lines of the documents or pairs that are used, in this split or in one held out of it.
        left: the others, by reason: "blank" (between documents), "header", "empty" (a document, or a side
            of a pair, without text).
    """

    lines: int
    used: int
    left: dict[str, int] = field(default_factory=dict)

    def __str__(self) -> str:
        parts = [f"{self.used:,} used", *(f"{n:,} {reason}" for reason, n in self.left.items())]
        return f"{self.lines:,} lines read: {', '.join(parts)}"


class Account:
    """Counts a given split's lines as they go by.

    Args:
        source: where the text comes from, made of lines.
        split: one that has text of its own.
        by_sentence: blank lines inside a document are not used, as no sentence is made of them.

    Attributes:
        used: lines that were used so far.
    """

    def __init__(self, source: Source[Any], split: str, *, by_sentence: bool) -> None:
        self._source, self._split, self._by_sentence = source, split, by_sentence
        self.used, self._left = 0, Counter[str]()

    def over(self, lines: Iterable[Lines]) -> Iterator[Any]:
        """The items of lines, empty ones included."""
        for size, item, reason in lines:
            if item is None or is_empty(item):
                self._left[reason or "empty"] += size
            else:
                blank = 0
                if self._by_sentence and size > 1:
                    inside = item.removesuffix("\n").split("\n")
                    blank = sum(not line.strip() for line in inside)
                    self._left["blank"] += blank
                self.used += size - blank
            if item is not None:
                yield item

    @property
    def left(self) -> dict[str, int]:
        """Lines that are not used, by reason."""
        return {reason: n for reason, n in self._left.items() if n}

    def report(self) -> InputReport:
        """What has been counted.

        Raises:
            InputError: the files have changed meanwhile.
        """
        lines, counted = self._source.num_lines(self._split), self.used + self._left.total()
        if lines != counted:
            raise InputError(
                f"{type(self._source).__name__}: `{self._split}` has {lines} lines now, and had {counted} when it was "
                "read: wait until nobody writes to it, and run again."
            )
        return InputReport(lines, self.used, self.left)


def account(source: Source[Any], split: str, *, by_sentence: bool) -> InputReport | None:
    """Reads a given split and counts; None for sources that are not made of lines. See `Account`.

    Raises:
        InputError: the files have changed meanwhile, or hold what cannot be read.
    """
    found = source.lines(split)
    if found is None:
        return None
    counts = Account(source, split, by_sentence=by_sentence)
    for _ in counts.over(found):
        pass
    return counts.report()


def is_empty(item: str | tuple[str, ...]) -> bool:
    """Whether a document, or a side of a pair, has no text but white space: it is left out."""
    return not item.strip() if isinstance(item, str) else not all(map(str.strip, item))
