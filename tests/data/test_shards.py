"""Shards: written in parts by anybody."""

from __future__ import annotations

import json
from dataclasses import replace
from itertools import chain
from pathlib import Path

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from lit_lm.cli import main
from lit_lm.data import (
    BuiltinText,
    Holdout,
    HubText,
    JsonLinesText,
    Shards,
    TextFiles,
    TokenizerConfig,
    write_shards,
)
from lit_lm.data.prepare import prepare
from lit_lm.data.shards import writing
from lit_lm.data.shards.address import Address
from lit_lm.errors import InputError
from tests.data.shards import BPE, Write, text

pytestmark = pytest.mark.usefixtures("own_cache")


def content(folder: Path) -> dict[str, bytes]:
    return {path.name: path.read_bytes() for path in folder.iterdir()}


# ---- parts of a text -------------------------------------------------------------------------

LINES = st.lists(
    st.sampled_from(["", "a", "bé🙂", " \t", "\u3000", "x" * 3000, " " * 2500, "\u2028y", "z\r"]),
    min_size=1,
    max_size=12,
)


@settings(deadline=None, max_examples=50)
@given(st.lists(LINES, min_size=1, max_size=3), st.sampled_from(["\n", "\r\n"]), st.integers(1, 9))
def test_parts_are_the_whole(tmp_path_factory, files, end, n) -> None:
    folder = tmp_path_factory.mktemp("parts")
    for i, lines in enumerate(files):
        raw = end.join(lines).encode() + (end.encode() if i % 2 else b"")
        (folder / f"{i}.txt").write_bytes(raw or b"a")
    for documents in ("blank_line", "line", "file"):
        source = TextFiles(str(folder / "*.txt"), documents=documents)
        parts = [list(source.part("train", i, n)) for i in range(n)]
        found = [lines.item for part in parts for lines in part if lines.item is not None]
        if documents == "file":
            assert sorted(found) == sorted(source.read("train"))
            continue
        assert found == list(source.read("train"))
        assert sum(lines.size for part in parts for lines in part) == source.num_lines("train")


@settings(deadline=None, max_examples=50)
@given(st.lists(st.text("aé🙂\n ", max_size=9), min_size=1, max_size=9), st.integers(1, 9))
def test_parts_of_json_lines(tmp_path_factory, texts, n) -> None:
    path = tmp_path_factory.mktemp("parts") / "a.jsonl"
    path.write_text("".join(json.dumps({"text": text}) + "\n\n" for text in texts))
    source = JsonLinesText(str(path))
    found = chain.from_iterable(source.part("train", i, n) for i in range(n))
    assert [lines.item for lines in found if lines.item is not None] == texts


def test_parts_are_about_equal_and_name_bytes(write: Write) -> None:
    source = TextFiles([write("a.txt", text(0)), write("b.txt", text(1))])
    sizes = [sum(len(found.item or "") for found in source.part("train", i, 5)) for i in range(5)]
    assert max(sizes) < 1.1 * min(sizes)
    bad = write("bad.txt", b"good\n" * 2000 + b"ba\xffd\n")
    with pytest.raises(InputError, match=r"bad.txt, byte 10002: 0xff is not valid UTF-8"):
        list(TextFiles(bad).part("train", 1, 2))


def test_any_source_comes_in_parts() -> None:
    source = BuiltinText(train=7, val=2)
    parts = [[found.item for found in source.part("train", i, 3)] for i in range(3)]
    assert [len(part) for part in parts] == [3, 2, 2]
    assert sorted(chain.from_iterable(parts)) == sorted(source.read("train"))


# ---- writing ---------------------------------------------------------------------------------


def test_the_same_whoever_writes_what(write: Write, tmp_path: Path) -> None:
    source = TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 20)))
    whole, shared = tmp_path / "whole", tmp_path / "shared"
    report = write_shards(source, BPE, str(whole), shards=5)
    assert report is not None
    assert not report.reused
    for i in (3, 1):
        assert write_shards(source, BPE, str(shared), shards=5, share=(i, 3)) is None
        assert not (shared / "index.json").exists()
    assert write_shards(source, BPE, str(shared), shards=5, share=(2, 3)) is not None
    assert content(whole) == content(shared)
    again = write_shards(source, BPE, str(whole), shards=5)
    assert again is not None
    assert again.reused
    flat = prepare(source, BPE).report
    assert again.splits == flat.splits
    assert again.inputs == flat.inputs
    assert (again.vocab_size, again.dtype) == (flat.vocab_size, flat.dtype)
    assert not [p for p in tmp_path.rglob("writing/*") if p.suffix != ".lock"]


def test_interrupted_at_every_file(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """After any number of files the same bytes come of going on."""
    source = TextFiles(write("a.txt", text(0, 40)), holdout=Holdout(0.2, by="random"))
    whole, broken = tmp_path / "whole", tmp_path / "broken"
    write_shards(source, BPE, str(whole), shards=3)
    put = Address.put
    left = 0

    def put_some(self: Address, what: Path | bytes, name: str) -> None:
        nonlocal left
        if left == 0:
            raise KeyboardInterrupt
        left -= 1
        put(self, what, name)

    monkeypatch.setattr(Address, "put", put_some)
    stops = 0
    for left in (1, 1, 2, 5, 3, 8, 6, 10, 99):  # noqa: B007
        try:
            write_shards(source, BPE, str(broken), shards=3)
            break
        except KeyboardInterrupt:
            stops += 1
    assert stops > 5
    assert content(whole) == content(broken)


@pytest.mark.slow
def test_several_processes(write: Write, tmp_path: Path) -> None:
    source = TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 20)))
    for jobs in (1, 2):
        write_shards(source, BPE, str(tmp_path / f"{jobs}"), shards=3, jobs=jobs)
    assert content(tmp_path / "1") == content(tmp_path / "2")


def test_held_out_at_random(write: Write, tmp_path: Path) -> None:
    source = TextFiles(write("a.txt", text()), holdout=Holdout(0.1, 0.1, by="random"))
    report = write_shards(source, BPE, str(tmp_path / "out"), shards=4)
    assert report is not None
    assert set(report.splits) == {"train", "val", "test"}
    stores = Shards(str(tmp_path / "out")).open(TokenizerConfig())
    for split in ("train", "val", "test"):
        store = stores.store(split, "text")
        found = [stores.tokenizer.decode(store.doc(i)) for i in range(len(store))]
        assert found == list(source.items(split))


def test_what_lies_there_is_not_mixed(write: Write, tmp_path: Path) -> None:
    a, v, out = write("a.txt", text()), write("v.txt", text(1, 20)), str(tmp_path / "out")
    write_shards(TextFiles(a, val=v), BPE, out, shards=2)
    for source, config, shards, key in (
        (TextFiles(v, val=v), BPE, 2, "text"),
        (TextFiles(a, val=v, documents="line"), BPE, 2, "source"),
        (TextFiles(a, val=v), BPE, 3, "shards"),
        (TextFiles(a, val=v), replace(BPE, vocab_size=299), 2, "tokenizer"),
    ):
        with pytest.raises(InputError, match=rf"another preparation \({key} differ"):
            write_shards(source, config, out, shards=shards)


def test_what_cannot_be_written(write: Write, tmp_path: Path) -> None:
    a, out = write("a.txt", text()), str(tmp_path / "out")
    with pytest.raises(InputError, match="for shards use `random`"):
        write_shards(TextFiles(a, holdout=Holdout(0.1)), BPE, out)
    with pytest.raises(InputError, match="no `val` text"):
        write_shards(TextFiles(a), BPE, out)
    with pytest.raises(InputError, match="shard=4/3"):
        write_shards(TextFiles(a, val=a), BPE, out, share=(4, 3))
    with pytest.raises(InputError, match=r"`val` holds no text \(2 empty ones"):
        write_shards(TextFiles(a, val=write("e.txt", " \n \n"), documents="line"), BPE, out)
    with pytest.raises(InputError, match="Protocol not known"):
        write_shards(TextFiles(a, val=a), BPE, "nowhere://x")
    assert main(["prepare", "--jobs=2"]) == 2


def test_the_tokenizer_is_trained_on_a_sample_or_given(write: Write, tmp_path: Path) -> None:
    a, b = write("a.txt", text(0)), write("b.txt", text(5))
    source = TextFiles([a, b], val=a)
    write_shards(source, BPE, str(tmp_path / "all"), shards=4)
    prepared = prepare(source, BPE)
    assert Shards(str(tmp_path / "all")).open(BPE).tokenizer.state() == prepared.tokenizer.state()
    write_shards(source, BPE, str(tmp_path / "some"), shards=4, sample=400)
    state = Shards(str(tmp_path / "some")).open(BPE).tokenizer.state()
    assert state != prepared.tokenizer.state()
    given = TokenizerConfig(path=str(tmp_path / "some" / "tokenizer.json"))
    write_shards(source, given, str(tmp_path / "given"), shards=4)
    assert Shards(str(tmp_path / "given")).open(given).tokenizer.state() == state
    with pytest.raises(InputError, match=r"data\.tokenizer asks for"):
        Shards(str(tmp_path / "all")).open(given)
    with pytest.raises(InputError, match="shards of another tokenizer"):
        write_shards(source, given, str(tmp_path / "all"), shards=4)


def test_who_is_stopped_before_the_plan_stands_leaves_no_tokenizer(
    write: Write, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    source, out = (
        TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 40))),
        tmp_path / "out",
    )
    monkeypatch.setattr(writing, "_plan", lambda *args: 1 / 0)
    with pytest.raises(ZeroDivisionError):
        write_shards(source, BPE, str(out))
    assert not out.exists()
    monkeypatch.undo()
    with pytest.raises(InputError, match="--sample=0 must be at least 1"):
        write_shards(source, BPE, str(out), sample=0)


def test_a_streamed_dataset(tmp_path: Path) -> None:
    pytest.importorskip("datasets", reason="needs the extra `hub`")
    for i in range(3):
        rows = ({"text": f"file {i} row {k}"} for k in range(5 + i))
        (tmp_path / f"{i}.jsonl").write_text("".join(json.dumps(row) + "\n" for row in rows))
    files = {"train": str(tmp_path / "*.jsonl"), "held": str(tmp_path / "0.jsonl")}
    source = HubText("json", val="held", test=None, files=files, streaming=True)
    assert not hasattr(source.table("train"), "cache_files"), "nothing is loaded"
    for shards, count in ((None, 3), (2, 2), (7, 7)):
        out = tmp_path / f"out{shards}"
        report = write_shards(source, BPE, str(out), shards=shards)
        assert report is not None
        opened = Shards(str(out))
        assert len(opened.manifest.splits["train"]) == count
        stores = opened.open(BPE)
        store = stores.store("train", "text")
        found = [stores.tokenizer.decode(store.doc(i)) for i in range(len(store))]
        assert sorted(found) == sorted(source.read("train"))
    before = source.content("train")
    (tmp_path / "2.jsonl").write_text('{"text": "changed"}\n')
    assert source.content("train") != before


def test_on_the_command_line(
    made: tuple[TextFiles, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = made
    config = tmp_path / "data.yaml"
    files = {"train": source.train, "val": source.val}
    tokenizer = {"kind": "bpe", "vocab_size": 300}
    init = {"source": {"class_path": "lit_lm.data.TextFiles", "init_args": files}}
    init |= {"tokenizer": tokenizer, "batch_size": 4}
    config.write_text(
        json.dumps({"data": {"class_path": "lit_lm.data.TextData", "init_args": init}})
    )
    to = tmp_path / "typed"
    typed = ["prepare", "--config", str(config), "--to", str(to), "--shards", "7"]
    assert main([*typed, "--shard=1/2"]) == 0
    assert "this share is written" in capsys.readouterr().out
    assert main([*typed, "--shard=2/2"]) == 0
    assert "documents; text" in capsys.readouterr().out
    assert content(to) == content(Path(out))
    assert writing.SAMPLE_BYTES == 1 << 27, "what --help says"
