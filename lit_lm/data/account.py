"""What became of every line of a source's files: lines read are lines used and lines left out, by reason."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from lit_lm.data.sources import Source
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


def account(source: Source[Any], split: str, *, by_sentence: bool) -> InputReport | None:
    """Reads a given split once more and counts; None for sources that are not made of lines.

    Args:
        source: where the text comes from.
        split: one that has text of its own.
        by_sentence: blank lines inside a document are not used, as no sentence is made of them.

    Raises:
        InputError: the files have changed meanwhile, or hold what cannot be read.
    """
    found = source.lines(split)
    if found is None:
        return None
    used, left = 0, Counter[str]()
    for size, item, reason in found:
        if item is None or is_empty(item):
            left[reason or "empty"] += size
            continue
        blank = 0
        if by_sentence and size > 1:
            inside = item.removesuffix("\n").split("\n")
            blank = sum(not line.strip() for line in inside)
            left["blank"] += blank
        used += size - blank
    lines = source.num_lines(split)
    if lines != used + left.total():
        raise InputError(
            f"{type(source).__name__}: `{split}` has {lines} lines now, and had {used + left.total()} when it was "
            "read: wait until nobody writes to it, and run again."
        )
    return InputReport(lines, used, {reason: n for reason, n in left.items() if n})


def is_empty(item: str | tuple[str, ...]) -> bool:
    """Whether a document, or a side of a pair, has no text but white space: it is left out."""
    return not item.strip() if isinstance(item, str) else not all(map(str.strip, item))
