"""Lines through a function: a window at a time, in order, with a bar and a report. Records keep their fields."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Callable, Iterable
from typing import Any, BinaryIO, NamedTuple

from lit_lm.errors import InputError
from lit_lm.json_lines import member, record_of
from lit_lm.progress import bar
from lit_lm.streams import Output, decoded, json_line, name_of, size_of, windows

Window = tuple[int, list[bytes]]


class Item(NamedTuple):
    """A line: its text, the object that JSON lines show of it, and its file and number."""

    text: str
    record: dict[str, Any]
    where: str


def item_of(line: str, number: int, options: Namespace) -> Item:
    """A line of text, or with ``options.key`` of JSON.

    Raises:
        InputError: it is no object with that text in it.
    """
    where = f"{name_of(options.file)}, line {number}"
    if options.key is None:
        return Item(line, {"text": line}, where)
    record = record_of(line, where)
    return Item(member(record, options.key, where), record, where)


def with_found(item: Item, found: dict[str, Any], field: str | None = None) -> str:
    """A line's object with what was found for it, as JSON.

    Args:
        item: the line.
        found: what was found.
        field: which of its names the user can choose.

    Raises:
        InputError: the object has a field of such a name already.
    """
    for name in found:
        if name in item.record:
            mend = "write to another one (--field)" if name == field else "rename it"
            raise InputError(f"{item.where} has a field {name!r} already: {mend}")
    return json_line({**item.record, **found})


def pipe(
    stream: BinaryIO,
    options: Namespace,
    work: Callable[[int, list[str]], list[str]],
    *,
    grouped: Callable[[Iterable[Window]], Iterable[Window]] = lambda found: found,
    notes: Callable[[], list[str]] = list,
) -> None:
    """Writes to standard output what a function makes of the lines of a stream, and tells standard error how many there were.

    Args:
        stream: the input. Of pipes and terminals a window is what has come so far: somebody may wait for an answer.
        options: the verb, and the input's name as `file`.
        work: takes the number of the first line of a window, from 1, and the lines; gives lines.
        grouped: puts windows together anew.
        notes: what else there is to tell at the end.
    """
    begin, count, size = time.monotonic(), 0, size_of(stream)
    out = Output(None, resume=False, inputs=())
    found = grouped(windows(stream, waiting=size is None))
    with bar(size, shown=not (sys.stdout.isatty() or stream.isatty())) as advance:
        for first, raw in found:
            name = name_of(options.file)
            out.write(work(first, [decoded(line, name, i) for i, line in enumerate(raw, first)]))
            advance(len(raw), sum(map(len, raw)))
            count += len(raw)
    seconds = time.monotonic() - begin
    told = [f"{count:,} lines in {seconds:.1f} s, {count / max(seconds, 1e-9):,.1f} a second"]
    print(f"lit-lm {options.verb}: {'; '.join([*told, *notes()])}", file=sys.stderr)
