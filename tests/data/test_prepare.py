"""Preparation: once, complete or not at all, exact counts, small types, constant memory."""

from __future__ import annotations

import copy
import json
import os
import pickle
import resource
from collections.abc import Callable
from pathlib import Path

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from lit_lm.data import (
    ParallelFiles,
    TextFiles,
    TokenizerConfig,
    TokenStore,
    TsvPairs,
    cache_folder,
)
from lit_lm.data.prepare import prepare
from lit_lm.data.store import StoreWriter, smallest_dtype
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError
from tests import forks

Write = Callable[[str, str | bytes], str]

BYTE = TokenizerConfig("byte")


@pytest.fixture(autouse=True)
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


def test_round_trip_and_exact_bytes(write: Write) -> None:
    train = write("a.txt", "One dôcument.\nTwo lines.\n\nAnother 🙂.\n")
    prepared = prepare(TextFiles(train, val=train), BYTE)
    store = prepared.store("train", "text")
    texts = [prepared.tokenizer.decode(store.doc(i)) for i in range(len(store))]
    assert texts == ["One dôcument.\nTwo lines.", "Another 🙂."]
    assert store.num_bytes == os.path.getsize(train) - 1, "all bytes but the blank line between"
    assert store.tokens[store.offsets[1:] - 1].tolist() == [2, 2]
    assert prepared.report.splits["train"].documents == 2
    assert "test       the same as val" in str(prepared.report)


def test_empty_pairs_are_skipped_and_counted(write: Write) -> None:
    path = write("p.tsv", "a\tA\n\tB\nc\t \n\t\nd\tD\n")
    report = prepare(TsvPairs(path, val=path), BYTE).report
    assert (report.splits["train"].documents, report.splits["train"].skipped) == (2, 3)
    assert "2 pairs; src 4 tokens, 4 bytes; tgt 4 tokens, 4 bytes; 3 empty ones skipped" in str(
        report
    )
    with pytest.raises(InputError, match=r"`train` holds no text .2 empty ones skipped"):
        prepare(TsvPairs(write("q.tsv", "\tB\nc\t\n"), val=path), BYTE)


def test_raw_texts_of_pairs(write: Write) -> None:
    src, tgt = write("s", "Ä b\n\nc\n"), write("t", "1\n2\n🙂 3 \n")
    prepared = prepare(
        ParallelFiles((src, tgt), val=(src, tgt)), TokenizerConfig("word", lowercase=True)
    )
    assert [prepared.store("val", "src").text(i) for i in range(2)] == ["Ä b", "c"]
    assert [prepared.store("val", "tgt").text(i) for i in range(2)] == ["1", "🙂 3 "]
    text = prepare(TextFiles(src, val=src), BYTE)
    with pytest.raises(InputError, match="was not kept"):
        text.store("val", "text").text(0)


@pytest.mark.parametrize(
    ("size", "dtype"), [(256, "uint8"), (257, "uint16"), (65536, "uint16"), (65537, "uint32")]
)
def test_smallest_type(size: int, dtype: str) -> None:
    assert smallest_dtype(size) == dtype


def test_stores_are_memory_mapped_and_cheap_to_send(write: Write) -> None:
    path = write("a.txt", "abc " * 10_000)
    store = prepare(TextFiles(path, val=path), TokenizerConfig("char")).store("train", "text")
    assert isinstance(store.tokens, np.memmap)
    assert store.tokens.dtype == np.uint8
    assert len(pickle.dumps(store)) < 1000
    assert np.array_equal(copy.copy(store).tokens, store.tokens)  # by what is pickled


@given(st.lists(st.text("aé🙂", max_size=9), min_size=1, max_size=8), st.data())
def test_interpolated_bytes(tmp_path_factory, texts, data) -> None:
    tokenizer = Tokenizer.train(TokenizerConfig("char"), ["aé🙂"])
    stem = tmp_path_factory.mktemp("store") / "x"
    with StoreWriter(stem, np.dtype(np.uint8), tokenizer, keep_text=True) as writer:
        writer.write(texts)
    store = TokenStore(stem, "uint8")
    assert store.bytes_before(store.offsets).tolist() == store.byte_offsets.tolist()
    cuts = data.draw(st.lists(st.integers(0, store.num_tokens), max_size=5))
    borders = store.bytes_before([0, *sorted(cuts), store.num_tokens])
    assert (np.diff(borders) >= 0).all()
    assert np.diff(borders).sum() == store.num_bytes == sum(len(t.encode()) + 1 for t in texts)
    assert [store.text(i) for i in range(len(store))] == texts


def test_reused_by_content(write: Write) -> None:
    a, b = write("a.txt", "x y\n"), write("b.txt", "x y\n")
    first = prepare(TextFiles(a, val=a), BYTE)
    second = prepare(TextFiles(b, val=b), BYTE)
    assert (first.report.reused, second.report.reused) == (False, True)
    assert first.folder == second.folder
    Path(b).write_text("x z\n")
    assert prepare(TextFiles(b, val=b), BYTE).folder != first.folder
    assert prepare(TextFiles(a, val=a), TokenizerConfig("word")).folder != first.folder


def test_a_loaded_tokenizer_counts_by_content(write: Write, tmp_path: Path) -> None:
    a = write("a.txt", "x y\n")
    Tokenizer.train(TokenizerConfig("word"), ["x"]).save(tmp_path / "t1")
    Tokenizer.train(TokenizerConfig("word"), ["x y"]).save(tmp_path / "t2")
    made = [
        prepare(TextFiles(a, val=a), TokenizerConfig(path=str(tmp_path / t))) for t in ("t1", "t2")
    ]
    assert made[0].folder != made[1].folder
    assert [m.report.splits["train"].unknown["text"] for m in made] == [1, 0]
    assert "1 tokens unknown" in str(made[0].report)


def test_errors_leave_nothing_behind(write: Write, own_cache: Path) -> None:
    good, bad = write("a.txt", "x\n"), write("b.txt", b"x\n\xff\n")
    with pytest.raises(InputError, match=r"b.txt, line 2"):
        prepare(TextFiles(good, val=bad), BYTE)
    assert [p.name for p in own_cache.iterdir() if not p.name.endswith(".lock")] == []


def test_damaged_files_are_named(write: Write) -> None:
    path = write("a.txt", "abc\n")
    prepared = prepare(TextFiles(path, val=path), BYTE)
    with (prepared.folder / "train.text.ids").open("ab") as stream:
        stream.write(b"123456")
    with pytest.raises(InputError, match=r"Delete .* and run again"):
        prepared.store("train", "text")
    (prepared.folder / "train.text.ids").unlink()
    with pytest.raises(InputError, match=r"Delete .* and run again"):
        prepared.store("train", "text")


def test_an_unwritable_cache(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.txt", "abc\n")
    monkeypatch.setenv("LIT_LM_CACHE", path)
    with pytest.raises(InputError, match="set LIT_LM_CACHE"):
        prepare(TextFiles(path, val=path), BYTE)
    monkeypatch.delenv("LIT_LM_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "lit_lm"


def _in_child(work: Callable[[], object]) -> int:
    """Runs something in a forked process, ended without any clean-up; gives its id."""
    if (child := os.fork()) == 0:
        status = 1
        try:
            status = int(work())  # type: ignore[call-overload]
        finally:
            os._exit(status)
    return child


def test_two_processes_at_once(write: Write, tmp_path: Path) -> None:
    path = write("a.txt", "some words\n\n" * 20_000)
    start = tmp_path / "start"

    def work() -> int:
        while not start.exists():
            pass
        prepared = prepare(TextFiles(path, val=path), TokenizerConfig("word"))
        assert prepared.store("train", "text").num_tokens == 60_000
        return 10 + prepared.report.reused

    children = [_in_child(work) for _ in range(2)]
    start.touch()
    ends = sorted(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]) for child in children)
    assert ends == [10, 11], "one worked, one reused"


def test_killed_in_the_middle(
    write: Write, own_cache: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    path = write("a.txt", "some words\n\n" * 1000)

    def work() -> None:
        monkeypatch.setattr("lit_lm.data.prepare.smallest_dtype", lambda size: os._exit(9))
        prepare(TextFiles(path, val=path), TokenizerConfig("word"))

    assert os.waitstatus_to_exitcode(os.waitpid(_in_child(work), 0)[1]) == 9
    left = [p for p in own_cache.iterdir() if p.is_dir()]
    assert len(left) == 1
    assert left[0].name.startswith(".")
    prepared = prepare(TextFiles(path, val=path), TokenizerConfig("word"))
    assert not prepared.report.reused
    assert [p.name for p in own_cache.iterdir() if p.is_dir()] == [prepared.folder.name]
    meta = json.loads((prepared.folder / "meta.json").read_text())
    assert meta["splits"]["train"]["documents"] == 1000


def prepare_each(paths: list[str]) -> int:
    for path in paths:
        prepare(TextFiles(path, val=paths[0]), TokenizerConfig("char"))
        print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024)
    return 0


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    paths = []
    for lines in (40_000, 400_000):  # 2 MB and 21 MB
        path = tmp_path / f"{lines}.txt"
        with path.open("w") as stream:
            for i in range(lines):
                end = "\n\n" if i % 10 == 9 else "\n"
                stream.write(f"The quick brown fox jumps over the lazy dog, {i % 100} times.{end}")
        paths.append(str(path))
    command = forks.Command(paths, tmp_path / "said", main=prepare_each)
    assert command.wait() == 0, command.stderr
    small, large = map(int, command.stdout.split())
    assert large - small < 16, f"peaks of {small} and {large} MB"
