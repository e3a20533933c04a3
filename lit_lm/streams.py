"""Lines in and lines out, a window at a time, in memory that does not grow with their number. Knows no torch."""

from __future__ import annotations

import codecs
import json
import os
import stat
import sys
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from itertools import islice
from types import TracebackType
from typing import Any, BinaryIO, Self

from lit_lm.errors import InputError

_LINES, _BYTES = 2048, 1 << 22
"""A window has so many lines, or fewer of so many bytes: neither depends on what ran before, so that a run that goes on
has the windows, and the batches, of one that never stopped.
"""
_WAITING = 1 << 16


@contextmanager
def opened(file: str) -> Iterator[BinaryIO]:
    """A file's bytes, or standard input's for "-".

    Raises:
        InputError: it cannot be read.
    """
    if file == "-":
        yield sys.stdin.buffer
        return
    try:
        stream = open(file, "rb")  # noqa: SIM115 (closed below)
    except OSError as error:
        raise InputError(f"cannot read {file!r}: {error.strerror}") from error
    with stream:
        yield stream


def name_of(file: str) -> str:
    """An input as messages name it."""
    return "standard input" if file == "-" else file


def size_of(stream: BinaryIO) -> int | None:
    """Bytes of a regular file; None for terminals, pipes and whatever else gives its text by and by."""
    try:
        found = os.fstat(stream.fileno())
    except OSError:
        return None
    return found.st_size if stat.S_ISREG(found.st_mode) else None


def windows(stream: BinaryIO, *, waiting: bool) -> Iterator[tuple[int, list[bytes]]]:
    """Lines with their ends, in order, some at a time; only ``\\n`` ends a line.

    Args:
        stream: the input.
        waiting: take what has come so far, however little, for those who wait for outputs before they go on;
            else windows of fixed size.

    Yields:
        The number of the first line, from 1, and the lines.
    """
    number = 1
    for lines in _arrived(stream) if waiting else _fixed(stream):
        yield number, lines
        number += len(lines)


def _fixed(stream: BinaryIO) -> Iterator[list[bytes]]:
    lines, size = [], 0
    for line in stream:
        lines.append(line)
        size += len(line)
        if len(lines) == _LINES or size >= _BYTES:
            yield lines
            lines, size = [], 0
    if lines:
        yield lines


def _arrived(stream: Any) -> Iterator[list[bytes]]:
    begun: list[bytes] = []  # of a line whose end has not come yet
    while piece := stream.read1(_WAITING):
        *ended, rest = piece.split(b"\n")
        if ended:
            ended[0] = b"".join((*begun, ended[0]))
            yield [line + b"\n" for line in ended]
            begun = []
        if rest:
            begun.append(rest)
    if begun:
        yield [b"".join(begun)]


def decoded(line: bytes, name: str, number: int) -> str:
    """A line's text, without its end, and of the first one without a byte order mark.

    Raises:
        InputError: it is not UTF-8.
    """
    if number == 1:
        line = line.removeprefix(codecs.BOM_UTF8)
    try:
        return line.decode("utf-8").removesuffix("\n").removesuffix("\r")
    except UnicodeDecodeError as error:
        raise InputError(
            f"{name}, line {number}: byte {error.start + 1} (0x{line[error.start]:02x}) is not UTF-8: "
            "convert the file, for example with iconv -t utf-8"
        ) from error


def one_line(text: str) -> str:
    """A text in which nothing ends a line, for whoever reads it: what does becomes a space."""
    return " ".join(text.splitlines())


def json_line(content: dict[str, Any]) -> str:
    """A JSON object in which nothing ends a line, for whoever reads it."""
    text = json.dumps(content, ensure_ascii=False)
    for char in "\x85\u2028\u2029":
        text = text.replace(char, f"\\u{ord(char):04x}")
    return text


class Output:
    """Where outputs go: standard output, or a file.

    Args:
        path: the file; None for standard output.
        resume: the file may hold outputs already: go on behind them.
        inputs: paths of what is read, which must not be written over.

    Raises:
        InputError: the file holds something and is not to be gone on with, or cannot be written.
    """

    def __init__(self, path: str | None, *, resume: bool, inputs: Sequence[str]) -> None:
        if resume and path is None:
            raise InputError("--resume goes on with a file: name it with --output")
        self.path = path
        self.resuming = path is not None and resume and os.path.exists(path)
        self._cuts = self.resuming  # what is behind, once there is something to put there
        try:
            if path is not None and os.path.exists(path):
                self._check(path, inputs)
            self._file: Any = (
                sys.stdout.buffer if path is None else open(path, "r+b" if self.resuming else "wb")  # noqa: SIM115 (closed in __exit__)
            )
        except OSError as error:
            raise self._unwritable(error) from error

    def _check(self, path: str, inputs: Sequence[str]) -> None:
        if any(os.path.exists(file) and os.path.samefile(file, path) for file in inputs):
            raise InputError(f"--output {path} is an input itself: name another file")
        if not self.resuming and os.path.getsize(path):
            raise InputError(
                f"--output {path} holds something already: go on with it (--resume), or name another file"
            )

    def holds(self, count: int) -> bool:
        """Whether the next lines are there already and whole. Where some are missing, the next ones that are written
        take the place of what there is of them, and of all behind it.
        """
        if not self.resuming:
            return False
        start = self._file.tell()
        if sum(line.endswith(b"\n") for line in islice(self._file, count)) == count:
            return True
        self._file.seek(start)
        self.resuming = False
        return False

    def finish(self, count: int) -> None:
        """Raises InputError if the file holds more lines than the input has."""
        if self.resuming and self._file.read(1):
            raise InputError(
                f"--output {self.path} holds more than the {count:,} lines of this input: it is of another one"
            )

    def write(self, lines: list[str]) -> None:
        """Writes lines, and sees to it that they are there."""
        try:
            if self._cuts:
                self._file.truncate()
                self._cuts = False
            self._file.write("".join(f"{line}\n" for line in lines).encode())
            self._file.flush()
        except BrokenPipeError:  # no fault of the file
            raise
        except OSError as error:
            raise self._unwritable(error) from error

    def _unwritable(self, error: OSError) -> InputError:
        return InputError(f"cannot write {self.path or 'standard output'}: {error.strerror}")

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.path is not None:
            self._file.close()
