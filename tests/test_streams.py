"""Lines in and lines out."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from lit_lm import streams
from lit_lm.errors import InputError
from lit_lm.streams import Output, json_line, one_line, windows
from tests.odd_lines import SEPARATORS


class Pieces(io.BytesIO):
    """A pipe into which somebody writes now and then."""

    def __init__(self, pieces: list[bytes]) -> None:
        super().__init__()
        self.pieces: Iterator[bytes] = iter(pieces)

    def read1(self, size: int | None = -1) -> bytes:
        return next(self.pieces, b"")


def test_windows_hold_every_line(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams, "_LINES", 3)
    monkeypatch.setattr(streams, "_BYTES", 20)
    text = b"a\nb\n\nc\r\n" + b"x" * 30 + b"\nd\ne"
    found = list(windows(io.BytesIO(text), waiting=False))
    assert found == [
        (1, [b"a\n", b"b\n", b"\n"]),
        (4, [b"c\r\n", b"x" * 30 + b"\n"]),
        (6, [b"d\n", b"e"]),
    ]
    assert list(windows(io.BytesIO(), waiting=False)) == []


def test_what_has_come_is_a_window() -> None:
    pieces = [b"a\n", b"b", b"", b"never"]
    assert list(windows(Pieces(pieces), waiting=True)) == [(1, [b"a\n"]), (2, [b"b"])]
    pieces = [b"a\nb", b"c", b"d\n", b"\n\ne\nf"]
    assert list(windows(Pieces(pieces), waiting=True)) == [
        (1, [b"a\n"]),
        (2, [b"bcd\n"]),
        (3, [b"\n", b"\n", b"e\n"]),
        (6, [b"f"]),
    ]


def test_no_output_holds_a_line_end() -> None:
    ends = [c for c in map(chr, range(sys.maxunicode + 1)) if len(f"a{c}b".splitlines()) > 1]
    assert set(ends) == {*SEPARATORS, "\n"}
    text = "a".join(ends) + "\r\n\n"
    assert len(one_line(text).splitlines()) == 1
    line = json_line({"output": text})
    assert len(line.splitlines()) == 1
    assert json.loads(line) == {"output": text}


def test_a_file_that_holds_something_is_not_overwritten(tmp_path: Path) -> None:
    path, source = tmp_path / "out.txt", tmp_path / "in.txt"
    source.write_text("a\n")
    path.write_text("old\n")
    with pytest.raises(InputError, match=r"holds something already: .*--resume.*another file"):
        Output(str(path), resume=False, inputs=[str(source)])
    with pytest.raises(InputError, match="name it with --output"):
        Output(None, resume=True, inputs=[str(source)])
    with pytest.raises(InputError, match="is an input itself"):
        Output(str(source), resume=True, inputs=[str(source)])
    with pytest.raises(InputError, match=r"cannot write .*nowhere"):
        Output(str(tmp_path / "nowhere" / "x"), resume=False, inputs=["-"])
    assert path.read_text() == "old\n"


@pytest.mark.parametrize("kept", ["", "1", "1\n", "1\n2\n", "1\n2\n3", "1\n2\n3\n", "1\n2\n3\n4\n"])
def test_going_on_keeps_whole_windows(kept: str, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text(kept)
    missing = []
    with Output(str(path), resume=True, inputs=["-"]) as out:
        for window in (["1", "2"], ["3", "4"], ["5"]):
            if not out.holds(len(window)):
                missing.append(window)
                out.write(window)
        out.finish(5)
    assert path.read_text() == "1\n2\n3\n4\n5\n"
    assert len(missing) == 3 - kept.count("\n") // 2


@pytest.mark.parametrize("more", ["3\n", "3"])
def test_outputs_of_another_input_are_left_alone(more: str, tmp_path: Path) -> None:
    path = tmp_path / "out.txt"
    path.write_text("1\n2\n" + more)
    with Output(str(path), resume=True, inputs=["-"]) as out:
        assert out.holds(2)
        with pytest.raises(InputError, match="more than the 2 lines"):
            out.finish(2)
    assert path.read_text() == "1\n2\n" + more
