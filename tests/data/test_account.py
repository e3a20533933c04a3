"""Every line of a file is used or reported; and what the fuzz tests found, one example each."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path

import pytest

from lit_lm.data import (
    Holdout,
    JsonLinesText,
    PairData,
    ParallelFiles,
    TextFiles,
    Tokenizer,
    TokenizerConfig,
    TsvPairs,
    prepare_data,
)
from lit_lm.data.account import InputReport, account
from lit_lm.data.files import count_lines
from lit_lm.data.subword_training import in_fixed_order
from lit_lm.data.tokenizer_config import SPECIALS
from lit_lm.errors import InputError

Write = Callable[[str, str | bytes], str]


@pytest.mark.parametrize(
    ("content", "lines"),
    [
        (b"a", 1),
        (b"a\n", 1),
        (b"a\r\nb", 2),
        (b"\n\n", 2),
        (b"a\rb\n", 1),
        ("a\u2028b".encode(), 1),
    ],
)
def test_lines_are_those_that_an_editor_shows(write: Write, content: bytes, lines: int) -> None:
    assert count_lines(write("a.txt", content)) == lines


def test_blank_lines_headers_and_empty_records(write: Write) -> None:
    text = write("a.txt", "one\ntwo\n\n \nthree")
    found = account(TextFiles(text, val=text), "train", by_sentence=False)
    assert found == InputReport(5, 3, {"blank": 2})
    lines = account(TextFiles(text, documents="line"), "train", by_sentence=False)
    assert lines == InputReport(5, 3, {"empty": 2})
    whole = TextFiles(text, documents="file")
    assert account(whole, "train", by_sentence=False) == InputReport(5, 5, {})
    assert account(whole, "train", by_sentence=True) == InputReport(5, 3, {"blank": 2})
    rows = write("a.jsonl", '{"text": "x"}\n\n{"text": " "}\n')
    found = account(JsonLinesText(rows), "train", by_sentence=False)
    assert found == InputReport(3, 1, {"blank": 1, "empty": 1})
    table = write("a.tsv", "en\tde\nx\ty\n\tz\n")
    found = account(TsvPairs(table, source="en", target="de"), "train", by_sentence=False)
    assert found == InputReport(3, 1, {"header": 1, "empty": 1})
    assert str(found) == "3 lines read: 1 used, 1 header, 1 empty"


def test_the_report_goes_from_lines_to_rows(
    write: Write,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    files = write("s", "a b c d\na\n\nb\n"), write("t", "a\nb\nc\nd")
    data = PairData(
        ParallelFiles(files, val=files),
        TokenizerConfig("word"),
        max_length=3,
        overlong="skip",
        batch_size=2,
    )
    prepare_data(data)
    out = capsys.readouterr().out
    assert "train      4 lines read: 3 used, 1 empty" in out
    assert "train      3 pairs" in out
    assert "2 rows, the longest of 2 positions; 1 pairs longer than max_length=3 left out" in out


def test_old_line_ends_and_other_encodings_are_named(write: Write) -> None:
    with pytest.raises(InputError, match="UTF-16"):
        list(TextFiles(write("a.txt", "text".encode("utf-16"))).items("train"))
    with pytest.raises(InputError, match="carriage return"):
        list(TextFiles(write("b.txt", b"one\rtwo\rthree")).items("train"))


@pytest.mark.parametrize("line", ["[" * 100_000, "9" * 5000])
def test_json_that_cannot_be_held(write: Write, line: str) -> None:
    with pytest.raises(InputError, match="line 1"):
        list(JsonLinesText(write("a.jsonl", line)).items("train"))


@pytest.mark.parametrize("kind", ["char", "word"])
def test_a_vocabulary_of_nothing(kind: str) -> None:
    with pytest.raises(InputError, match="min_frequency=9"):
        Tokenizer.train(TokenizerConfig(kind, min_frequency=9), ["a b"])  # type: ignore[arg-type]


def test_unigram_without_pieces() -> None:
    with pytest.raises(InputError, match="another kind"):
        in_fixed_order([[name, 0.0] for name in SPECIALS] + [["a", None], ["b", None]])


@pytest.mark.parametrize("kind", ["TextFiles", "JsonLinesText", "TsvText"])
def test_every_source_holds_out_from_yaml(kind: str) -> None:
    from jsonargparse import ArgumentParser

    from lit_lm.data import TextSource

    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf")
    parser.add_argument("--source", type=TextSource)
    args = {"train": "a", "holdout": {"val": 0.5, "by": "random"}}
    found = parser.parse_object(
        {"source": {"class_path": f"lit_lm.data.{kind}", "init_args": args}}
    )
    assert parser.instantiate(found).source.holdout == Holdout(0.5, by="random")
