"""Sources that are plain files, lines of text: `TextFiles` and `ParallelFiles`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from lit_lm.data.files import count_lines, hash_files, read_lines, read_text
from lit_lm.data.sources import SPLITS, Lines, PairSource, TextSource
from lit_lm.errors import InputError


def as_list(paths: str | list[str]) -> list[str]:
    """One path or several, as a list."""
    return [paths] if isinstance(paths, str) else list(paths)


class LineFiles(ABC):
    """What sources that read files share: an attribute for each split, with the paths of its files."""

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def content(self, split: str) -> str:
        return hash_files(as_list(getattr(self, split)))

    @abstractmethod
    def lines(self, split: str) -> Iterator[Lines]:
        """See `Source`."""

    def num_lines(self, split: str) -> int:
        return sum(map(count_lines, as_list(getattr(self, split))))

    def read(self, split: str) -> Iterator[Any]:
        return (found.item for found in self.lines(split) if found.item is not None)


@dataclass(frozen=True)
class TextFiles(LineFiles, TextSource):
    """Plain text files: a paragraph a line, a blank line between documents.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        documents: what a document is: the paragraphs between blank lines ("blank_line"), every line
            ("line"), or the whole file as it stands, blank lines included ("file"; held in memory).
    """

    train: str | list[str]
    val: str | list[str] | None = None
    test: str | list[str] | None = None
    documents: Literal["blank_line", "line", "file"] = "blank_line"

    def lines(self, split: str) -> Iterator[Lines]:
        for path in as_list(getattr(self, split)):
            if self.documents == "file":
                yield Lines(count_lines(path), read_text(path))
            elif self.documents == "line":
                yield from (Lines(1, line) for line in read_lines(path))
            else:
                yield from _between_blank_lines(path)


def _between_blank_lines(path: str) -> Iterator[Lines]:
    lines: list[str] = []
    for line in read_lines(path):
        if line.strip():
            lines.append(line)
            continue
        if lines:
            yield Lines(len(lines), "\n".join(lines))
            lines = []
        yield Lines(1, None, "blank")
    if lines:
        yield Lines(len(lines), "\n".join(lines))


@dataclass(frozen=True)
class ParallelFiles(LineFiles, PairSource):
    """Two files per split, whose lines with equal numbers belong together.

    Args:
        train: source file and target file to train on, UTF-8, one sentence a line.
        val: source file and target file to validate on; or use `holdout`.
        test: source file and target file to test on; `val` when not given.
    """

    train: tuple[str, str]
    val: tuple[str, str] | None = None
    test: tuple[str, str] | None = None

    def num_lines(self, split: str) -> int:
        """Of each of the two files."""
        return count_lines(getattr(self, split)[0])

    def lines(self, split: str) -> Iterator[Lines]:
        source, target = getattr(self, split)
        for src, tgt in zip_longest(read_lines(source), read_lines(target)):
            if src is None or tgt is None:
                raise InputError(
                    f"{source} has {count_lines(source)} lines and {target} has {count_lines(target)}: "
                    "parallel files need equally many, as line N belongs to line N."
                )
            yield Lines(1, (src, tgt))
