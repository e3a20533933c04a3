"""Sources that are tables, one record a line: JSON lines and tab-separated values, for text and for
pairs.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any

from lit_lm.data.files import byte_ranges, read_lines
from lit_lm.data.sources import Lines, PairSource, TextSource
from lit_lm.data.text_files import LineFiles, lines_within
from lit_lm.errors import InputError
from lit_lm.json_lines import member, record_of

Paths = str | list[str]


@dataclass(frozen=True)
class _Table(LineFiles, ABC):
    """Files of records, and the cells of a record that are wanted."""

    train: Paths
    val: Paths | None = None
    test: Paths | None = None

    @abstractmethod
    def wanted(self) -> list[Any]:
        """Fields or columns to read, in order."""

    @abstractmethod
    def records(self, path: str) -> Iterator[Lines]:
        """Every line of a file, the item being the list of wanted cells."""

    def lines(self, split: str) -> Iterator[Lines]:
        for path in self.paths(split):
            yield from map(_as_item, self.records(path))


def _as_item(found: Lines) -> Lines:
    """Wanted cells as what they stand for: a text, or a pair."""
    if (cells := found.item) is None:
        return found
    return found._replace(item=cells[0] if len(cells) == 1 else tuple(cells))


class _JsonLines(_Table, ABC):
    def records(self, path: str) -> Iterator[Lines]:
        for number, line in enumerate(read_lines(path), start=1):
            yield self._record(line, f"{path}, line {number}")

    def part(self, split: str, i: int, n: int) -> Iterator[Lines]:
        for path, start, stop in byte_ranges(self.paths(split), i, n):
            for at, line in lines_within(path, start, stop):
                yield _as_item(self._record(line, f"{path}, byte {at}"))

    def _record(self, line: str, where: str) -> Lines:
        if not line.strip():
            return Lines(1, None, "blank")
        record = record_of(line, where)
        return Lines(1, [member(record, name, where) for name in self.wanted()])


class _Tsv(_Table, ABC):
    def records(self, path: str) -> Iterator[Lines]:
        columns: list[int] = []
        width = 0
        by_name = any(isinstance(column, str) for column in self.wanted())
        for number, line in enumerate(read_lines(path), start=1):
            row = line.split("\t")
            if not columns:
                width = len(row)
                columns = [_position(column, row, path) for column in self.wanted()]
                if by_name:
                    yield Lines(1, None, "header")
                    continue
            if len(row) != width:
                raise InputError(
                    f"{path}, line {number}: {len(row)} columns, where line 1 has {width}: "
                    f"{line[:60]!r}. Columns are separated by one tab; quotes mean nothing."
                )
            yield Lines(1, [row[column] for column in columns])


def _position(column: int | str, first: list[str], path: str) -> int:
    """Index of a column, given by name in the header or by number from 1."""
    if isinstance(column, str):
        if column not in first:
            raise InputError(f"{path}: no column {column!r} in the header {first}.")
        return first.index(column)
    if not 1 <= column <= len(first):
        raise InputError(
            f"{path}: no column {column}; columns count from 1 and the file has {len(first)}."
        )
    return column - 1


@dataclass(frozen=True)
class JsonLinesText(_JsonLines, TextSource):
    """Files with one JSON object a line, a document in one of its fields.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        field: name of the field that holds the text; dots lead into nested objects.
    """

    field: str = "text"

    def wanted(self) -> list[Any]:
        return [self.field]


@dataclass(frozen=True)
class JsonLinesPairs(_JsonLines, PairSource):
    """Files with one JSON object a line, a pair in two of its fields.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        source: name of the field that holds the source text; dots lead into nested objects.
        target: name of the field that holds the target text.
    """

    source: str = "source"
    target: str = "target"

    def wanted(self) -> list[Any]:
        return [self.source, self.target]


@dataclass(frozen=True)
class TsvText(_Tsv, TextSource):
    """Tab-separated files, a document in one column.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        column: the text's column: its name (the first line is then a header), or its number from 1.
    """

    column: int | str = 1

    def wanted(self) -> list[Any]:
        return [self.column]


@dataclass(frozen=True)
class TsvPairs(_Tsv, PairSource):
    """Tab-separated files, a pair in two columns.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        source: the source's column: its name (the first line is then a header), or its number from
            1.
        target: the target's column, likewise.
    """

    source: int | str = 1
    target: int | str = 2

    def wanted(self) -> list[Any]:
        return [self.source, self.target]
