"""Sources read exactly what is there, and say exactly what is wrong."""

from __future__ import annotations

import json
import re
from collections.abc import Callable
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lm.data import (
    BuiltinPairs,
    BuiltinText,
    Holdout,
    JsonLinesPairs,
    JsonLinesText,
    PairSource,
    ParallelFiles,
    TextFiles,
    TextSource,
    TsvPairs,
    TsvText,
)
from lit_lm.errors import InputError

Write = Callable[[str, str | bytes], str]


def test_text_files_documents(write: Write) -> None:
    path = write("a.txt", "one\ntwo\n\n \n\nthree \n")
    assert list(TextFiles(path).items("train")) == ["one\ntwo", "three "]
    assert list(TextFiles(path, documents="line").items("train"))[:2] == ["one", "two"]
    assert list(TextFiles(path, documents="file").items("train")) == ["one\ntwo\n\n \n\nthree \n"]
    assert list(TextFiles([path, path]).items("train")) == ["one\ntwo", "three "] * 2


def test_byte_order_mark_and_windows_line_ends_vanish(write: Write) -> None:
    path = write("a.txt", b"\xef\xbb\xbfone\r\ntwo\r\n\r\nthree")
    assert list(TextFiles(path).items("train")) == ["one\ntwo", "three"]
    assert list(TextFiles(path, documents="file").items("train")) == ["one\ntwo\n\nthree"]


def test_only_newlines_end_lines(write: Write) -> None:
    path = write("a.txt", "one\u2028still\x0bone\x85\ntwo\n")
    assert list(TextFiles(path).items("train")) == ["one\u2028still\x0bone\x85\ntwo"]


def test_pairs(write: Write) -> None:
    src, tgt = write("s", "a\nb\n"), write("t", "A\nB")
    expected = [("a", "A"), ("b", "B")]
    assert list(ParallelFiles((src, tgt)).items("train")) == expected
    tsv = write("p.tsv", "a\tA\tx\nb\tB\ty\n")
    assert list(TsvPairs(tsv).items("train")) == expected
    named = write("n.tsv", "de\tid\ten\nA\t1\ta\nB\t2\tb\n")
    assert list(TsvPairs(named, source="en", target="de").items("train")) == expected
    rows = [{"id": 1, "t": {"en": s, "de": t}} for s, t in expected]
    jsonl = write("p.jsonl", "\n".join(map(json.dumps, rows)) + "\n\n")
    assert list(JsonLinesPairs(jsonl, source="t.en", target="t.de").items("train")) == expected


def test_tables_of_text(write: Write) -> None:
    assert list(TsvText(write("a.tsv", "x\ty\nu\tv\n"), column=2).items("train")) == ["y", "v"]
    assert list(TsvText(write("b.tsv", "x\ty\nu\tv\n"), column="y").items("train")) == ["v"]
    path = write("a.jsonl", '{"text": "x\\ny"}\r\n{"text": ""}\n')
    assert list(JsonLinesText(path).items("train")) == ["x\ny", ""]


@pytest.mark.parametrize(
    ("make", "message"),
    [
        (lambda w, p: TextFiles(f"{p}/no/train.txt"), "no such file .*already the folder .*no is"),
        (lambda w, p: TextFiles(str(p)), "is a folder"),
        (lambda w, p: TextFiles(w("e.txt", "")), "e.txt is empty"),
        (lambda w, p: TextFiles(w("l.txt", b"ok\nab\xff\n")), r"l.txt, line 2, byte 3: 0xff"),
        (
            lambda w, p: TextFiles(w("l.txt", b"ok\nab\xff\n"), documents="file"),
            r"l.txt, line 2, byte 3: 0xff",
        ),
        (
            lambda w, p: ParallelFiles((w("s", "a\nb\n"), w("t", "A\n"))),
            "s has 2 lines and .*t has 1",
        ),
        (lambda w, p: TsvPairs(w("t.tsv", "a\tA\nb\n")), "t.tsv, line 2: 1 columns, .* has 2: 'b'"),
        (
            lambda w, p: TsvPairs(w("t.tsv", "a\tA\n"), target=3),
            "no column 3; columns count from 1",
        ),
        (
            lambda w, p: TsvPairs(w("t.tsv", "a\tA\n"), source=0),
            "no column 0; columns count from 1",
        ),
        (lambda w, p: TsvText(w("t.tsv", "a\tA\n"), column="en"), "no column 'en' in the header"),
        (
            lambda w, p: JsonLinesText(w("j", '{"text": "a"}\n{"te')),
            "j, line 2: not JSON .* '{\"te",
        ),
        (lambda w, p: JsonLinesText(w("j", '{"body": "a"}\n')), "line 1: no field 'text'; .*body"),
        (lambda w, p: JsonLinesText(w("j", '{"text": 3}\n')), "field 'text' is 3"),
        (lambda w, p: JsonLinesText(w("j", "[1]\n")), "a JSON object is wanted"),
        (lambda w, p: JsonLinesText(w("j", '{"text": "\\ud800"}\n')), "half a character"),
    ],
)
def test_errors_say_where(make, message: str, write: Write, tmp_path: Path) -> None:
    source = make(write, tmp_path)
    with pytest.raises(InputError, match=message):
        list(source.items("train"))


def test_a_missing_path_mentions_the_variable(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.delenv("LIT_LM_DATA", raising=False)
    with pytest.raises(InputError, match="set the environment variable LIT_LM_DATA"):
        list(TextFiles("data/wiki/train.txt").items("train"))
    monkeypatch.setenv("LIT_LM_DATA", "/some/where")
    with pytest.raises(InputError, match="LIT_LM_DATA is '/some/where'"):
        list(TextFiles("/some/where/wiki/train.txt").items("train"))


def test_validation_text_must_come_from_somewhere(write: Write) -> None:
    path = write("a.txt", "a\n")
    with pytest.raises(InputError, match="has no `val` text"):
        TextFiles(path).actual("test")
    with pytest.raises(InputError, match="drop one of them"):
        TextFiles(path, val=path, holdout=Holdout())
    assert TextFiles(path, val=path).actual("test") == "val"


@pytest.mark.parametrize("val", [-0.1, 1.0, 0.0])
def test_impossible_fractions(val: float) -> None:
    with pytest.raises(InputError, match="fractions"):
        Holdout(val=val)


@given(st.text("ab\n", min_size=40, max_size=60), st.floats(0.05, 0.4), st.floats(0.05, 0.4))
def test_characters_are_held_out_in_order(text: str, val: float, test: float) -> None:
    class Fixed(TextFiles):
        def read(self, split: str):
            yield from (text[:7], text[7:])

    source = Fixed("x", holdout=Holdout(val, test, by="characters"))
    parts = ["".join(source.items(split)) for split in ("train", "val", "test")]
    assert "".join(parts) == text
    assert len(parts[0]) == int(len(text) * round(1 - val - test, 12))


@pytest.mark.parametrize("by", ["last", "random"])
def test_holding_out_partitions_documents(by, write: Write) -> None:
    documents = [f"document {i % 400}" for i in range(500)]
    path = write("a.txt", "\n\n".join(documents))
    source = TextFiles(path, holdout=Holdout(0.1, 0.2, by=by))
    parts = {split: list(source.items(split)) for split in ("train", "val", "test")}
    together = list(chain.from_iterable(parts.values()))
    assert sorted(together) == sorted(documents)
    assert 30 <= len(parts["val"]) <= 75
    if by == "last":
        assert together == documents
    else:
        assert not set(parts["train"]) & set(parts["val"]), "repeated texts fall on one side only"


def test_pairs_are_not_cut_at_characters(write: Write) -> None:
    source = TsvPairs(write("a.tsv", "a\tb\n"), holdout=Holdout(by="characters"))
    with pytest.raises(InputError, match="cuts text, not pairs"):
        source.items("val")


def test_fingerprints_follow_content_not_names(write: Write) -> None:
    a, b, c = write("a", "x\n"), write("b", "x\n"), write("c", "y\n")
    assert TextFiles(a, val=c).fingerprint() == TextFiles(b, val=c).fingerprint()
    different = [
        TextFiles(a, val=c),
        TextFiles(c, val=c),
        TextFiles(a, val=a),
        TextFiles(a, val=c, documents="file"),
        TextFiles(a, holdout=Holdout()),
        TextFiles(a, holdout=Holdout(0.2)),
        JsonLinesText(a, val=c),
        BuiltinText(),
        BuiltinText(seed=1),
        BuiltinText(train=3),
        BuiltinPairs(),
    ]
    assert len({source.fingerprint() for source in different}) == len(different)


def test_builtin_sources() -> None:
    text, pairs = BuiltinText(train=5, val=2, test=2), BuiltinPairs(train=5, val=2, test=2)
    documents = list(text.items("train"))
    assert len(documents) == 5
    assert [line for d in documents for line in d.split("\n")] == [
        s for s, _ in pairs.items("train")
    ]
    assert text.surprisal("val") > 10
    assert pairs.surprisal("val") == 0.0
    assert TextFiles("x").surprisal("val") is None


def test_sources_are_chosen_by_class_path(write: Write) -> None:
    from jsonargparse import ArgumentParser
    from jsonargparse._common import subclasses_enabled_types

    import lit_lm.models  # noqa: F401 (enables subclasses of its own)

    assert {TextSource, PairSource} < subclasses_enabled_types, "calls add up"
    parser = ArgumentParser(exit_on_error=False, parser_mode="omegaconf")
    parser.add_argument("--source", type=TextSource)
    path = write("a.txt", "a\n")
    config = write(
        "c.yaml",
        "source: {class_path: lit_lm.data.TextFiles,"
        f" init_args: {{train: {path}, holdout: {{by: random}}}}}}",
    )
    parser.add_argument("--config", action="config")
    parsed = parser.parse_args([f"--config={config}", "--source.init_args.documents=line"])
    expected = TextFiles(path, documents="line", holdout=Holdout(by="random"))
    assert parser.instantiate(parsed).source == expected
    with pytest.raises(Exception, match=re.escape("chars")):
        parser.parse_args([f"--config={config}", "--source.init_args.documents=chars"])
