"""Sources that are plain files, lines of text: `TextFiles` and `ParallelFiles`."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from itertools import zip_longest
from typing import Literal

from lit_lm.data.files import hash_files, read_lines, read_text
from lit_lm.data.sources import SPLITS, PairSource, TextSource
from lit_lm.errors import InputError


def as_list(paths: str | list[str]) -> list[str]:
    """One path or several, as a list."""
    return [paths] if isinstance(paths, str) else list(paths)


@dataclass(frozen=True)
class TextFiles(TextSource):
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

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def content(self, split: str) -> str:
        return hash_files(as_list(getattr(self, split)))

    def read(self, split: str) -> Iterator[str]:
        for path in as_list(getattr(self, split)):
            if self.documents == "file":
                yield read_text(path)
            elif self.documents == "line":
                yield from read_lines(path)
            else:
                yield from _between_blank_lines(path)


def _between_blank_lines(path: str) -> Iterator[str]:
    lines: list[str] = []
    for line in read_lines(path):
        if line.strip():
            lines.append(line)
        elif lines:
            yield "\n".join(lines)
            lines = []
    if lines:
        yield "\n".join(lines)


@dataclass(frozen=True)
class ParallelFiles(PairSource):
    """Two files per split, whose lines with equal numbers belong together.

    Args:
        train: source file and target file to train on, UTF-8, one sentence a line.
        val: source file and target file to validate on; or use `holdout`.
        test: source file and target file to test on; `val` when not given.
    """

    train: tuple[str, str]
    val: tuple[str, str] | None = None
    test: tuple[str, str] | None = None

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def content(self, split: str) -> str:
        return hash_files(getattr(self, split))

    def read(self, split: str) -> Iterator[tuple[str, str]]:
        source, target = getattr(self, split)
        for src, tgt in zip_longest(read_lines(source), read_lines(target)):
            if src is None or tgt is None:
                raise InputError(
                    f"{source} has {_count(source)} lines and {target} has {_count(target)}: "
                    "parallel files need equally many, as line N belongs to line N."
                )
            yield src, tgt


def _count(path: str) -> int:
    return sum(1 for _ in read_lines(path))
