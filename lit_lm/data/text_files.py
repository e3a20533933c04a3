"""Sources that are plain files, lines of text: `TextFiles` and `ParallelFiles`."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Any, Literal

from lit_lm.data.files import (
    byte_ranges,
    count_lines,
    expand,
    hash_files,
    lines_from,
    read_lines,
    read_text,
    signature,
    size_of,
)
from lit_lm.data.sources import SPLITS, Lines, PairSource, TextSource
from lit_lm.errors import InputError


class LineFiles(ABC):
    """What sources that read files share: an attribute for each split, with the paths of its files."""

    def paths(self, split: str) -> list[str]:
        """The files of a split."""
        return expand(getattr(self, split))

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def content(self, split: str) -> str:
        return hash_files(self.paths(split))

    def num_parts(self, split: str, size: int) -> int:
        return -(-sum(map(size_of, self.paths(split))) // size)

    def inputs(self, split: str) -> list[Any]:
        return list(map(signature, self.paths(split)))

    @abstractmethod
    def lines(self, split: str) -> Iterator[Lines]:
        """See `Source`."""

    def num_lines(self, split: str) -> int:
        return sum(map(count_lines, self.paths(split)))

    def read(self, split: str) -> Iterator[Any]:
        return (found.item for found in self.lines(split) if found.item is not None)


@dataclass(frozen=True)
class TextFiles(LineFiles, TextSource):
    """Plain text files: a paragraph a line, a blank line between documents.

    Args:
        train: file or files to train on, UTF-8; paths, patterns such as `text/*.txt`, or addresses (`s3://...`).
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
        for path in self.paths(split):
            if self.documents == "file":
                yield Lines(count_lines(path), read_text(path))
            elif self.documents == "line":
                yield from (Lines(1, line) for line in read_lines(path))
            else:
                yield from _between_blank_lines(path)

    def part(self, split: str, i: int, n: int) -> Iterator[Lines]:
        if self.documents == "file":
            yield from super().part(split, i, n)
            return
        for path, start, stop in byte_ranges(self.paths(split), i, n):
            if self.documents == "line":
                yield from (Lines(1, line) for _, line in lines_within(path, start, stop))
            else:
                yield from _documents_within(path, start, stop)


def lines_within(path: str, start: int, stop: int) -> Iterator[tuple[int, str]]:
    """The lines of a file that start at bytes from `start` to before `stop`."""
    for at, line in lines_from(path, max(start - 1, 0)):
        if at >= stop:
            return
        if at >= start:
            yield at, line


def _documents_within(path: str, start: int, stop: int) -> Iterator[Lines]:
    """The documents that start there, to their ends, and the blank lines."""
    lines: list[str] = []
    inside = False  # a document that started before
    for at, line in lines_from(path, max(start - 1, 0)):
        blank = not line.strip()
        if at < start or inside:
            inside = not blank
            if at < start or inside:
                continue
        if lines and blank:
            yield Lines(len(lines), "\n".join(lines))
            lines = []
        if at >= stop and not lines:
            return
        if blank:
            yield Lines(1, None, "blank")
        else:
            lines.append(line)
    if lines:
        yield Lines(len(lines), "\n".join(lines))


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
