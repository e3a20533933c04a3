"""How far a long run over lines has come, on standard error where that is a terminal."""

from __future__ import annotations

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Protocol


class Advance(Protocol):
    """What is called with the number of lines that are done, and their bytes in the input."""

    def __call__(self, lines: int, size: int) -> None: ...


@contextmanager
def bar(size: int | None, *, shown: bool) -> Iterator[Advance]:
    """A bar with lines and lines a second; its length is in bytes, which are known ahead where lines are not.

    Args:
        size: bytes of the input; None where nobody knows.
        shown: False for no bar.

    Yields:
        What moves it.
    """
    if not (shown and sys.stderr.isatty()):
        yield lambda lines, size: None
        return
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeRemainingColumn

    columns = (
        BarColumn(),
        TextColumn("{task.fields[lines]:,} lines, {task.fields[rate]:,.1f} a second"),
        TimeRemainingColumn(),
    )
    with Progress(*columns, console=Console(stderr=True)) as progress:
        task = progress.add_task("", total=size, lines=0, rate=0.0)
        begin, done = time.monotonic(), 0

        def advance(lines: int, size: int) -> None:
            nonlocal done
            done += lines
            rate = done / max(time.monotonic() - begin, 1e-9)
            progress.update(task, advance=size, lines=done, rate=rate)

        yield advance
