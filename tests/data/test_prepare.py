"""Preparation: once, complete or not at all, exact counts, small types, constant memory."""

from __future__ import annotations

import json
import os
import pickle
import subprocess
import sys
from pathlib import Path

import numpy as np
import pytest
from conftest import Write
from hypothesis import given
from hypothesis import strategies as st

from lit_lm.data import ParallelFiles, TextFiles, TokenizerConfig, TokenStore, TsvPairs, prepare
from lit_lm.data.prepare import cache_folder
from lit_lm.data.store import StoreWriter, smallest_dtype
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError

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
    with pytest.raises(InputError, match="`train` holds no text .2 empty ones skipped"):
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
    sent = pickle.dumps(store)
    assert len(sent) < 1000
    assert np.array_equal(pickle.loads(sent).tokens, store.tokens)


@given(st.lists(st.text("aé🙂", max_size=9), min_size=1, max_size=8), st.data())
def test_interpolated_bytes(tmp_path_factory, texts, data) -> None:
    tokenizer = Tokenizer.train(TokenizerConfig("char"), ["aé🙂"])
    stem = tmp_path_factory.mktemp("store") / "x"
    with StoreWriter(stem, np.dtype(np.uint8), tokenizer, keep_text=True) as writer:
        writer.write(tokenizer.encode_batch(texts), texts)
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
    with pytest.raises(InputError, match="b.txt, line 2"):
        prepare(TextFiles(good, val=bad), BYTE)
    assert [p.name for p in own_cache.iterdir() if not p.name.endswith(".lock")] == []


def test_damaged_files_are_named(write: Write) -> None:
    path = write("a.txt", "abc\n")
    prepared = prepare(TextFiles(path, val=path), BYTE)
    with (prepared.folder / "train.text.ids").open("ab") as stream:
        stream.write(b"123456")
    with pytest.raises(InputError, match="Delete .* and run again"):
        prepared.store("train", "text")
    (prepared.folder / "train.text.ids").unlink()
    with pytest.raises(InputError, match="Delete .* and run again"):
        prepared.store("train", "text")


def test_an_unwritable_cache(write: Write, monkeypatch: pytest.MonkeyPatch) -> None:
    path = write("a.txt", "abc\n")
    monkeypatch.setenv("LIT_LM_CACHE", path)
    with pytest.raises(InputError, match="set LIT_LM_CACHE"):
        prepare(TextFiles(path, val=path), BYTE)
    monkeypatch.delenv("LIT_LM_CACHE")
    assert cache_folder() == Path.home() / ".cache" / "lit_lm"


def _start(code: str, *args: str) -> subprocess.Popen[str]:
    program = f"import sys, os\nfrom lit_lm.data import *\n{code}"
    command = [sys.executable, "-c", program, *args]
    return subprocess.Popen(command, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True)


def test_two_processes_at_once(write: Write) -> None:
    path = write("a.txt", "some words\n\n" * 50_000)
    code = (
        "import time; time.sleep(max(0, float(sys.argv[2]) - time.time()))\n"
        "p = prepare(TextFiles(sys.argv[1], val=sys.argv[1]), TokenizerConfig('word'))\n"
        "print(int(p.report.reused), p.store('train', 'text').num_tokens)"
    )
    import time

    processes = [_start(code, path, str(time.time() + 6)) for _ in range(2)]
    outputs = sorted(process.communicate()[0] for process in processes)
    assert outputs == ["0 150000\n", "1 150000\n"]


def test_killed_in_the_middle(write: Write, own_cache: Path) -> None:
    path = write("a.txt", "some words\n\n" * 1000)
    code = (
        "import lit_lm.data.prepare as m\n"
        "m.smallest_dtype = lambda n: os._exit(9)\n"  # after the tokenizer, before the ids
        "prepare(TextFiles(sys.argv[1], val=sys.argv[1]), TokenizerConfig('word'))"
    )
    process = _start(code, path)
    process.communicate()
    assert process.returncode == 9
    left = [p for p in own_cache.iterdir() if p.is_dir()]
    assert len(left) == 1
    assert left[0].name.startswith(".")
    prepared = prepare(TextFiles(path, val=path), TokenizerConfig("word"))
    assert not prepared.report.reused
    assert [p.name for p in own_cache.iterdir() if p.is_dir()] == [prepared.folder.name]
    assert (
        json.loads((prepared.folder / "meta.json").read_text())["splits"]["train"]["documents"]
        == 1000
    )


def test_memory_does_not_grow_with_the_corpus(tmp_path: Path) -> None:
    line = "The quick brown fox jumps over the lazy dog number {}.\n"
    code = (
        "import resource\n"
        "prepare(TextFiles(sys.argv[1], val=sys.argv[1]), TokenizerConfig('word', vocab_size=500))\n"
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss)"
    )
    peaks = []
    for lines in (
        8_000,
        400_000,
    ):  # 0.4 MB and 21 MB, of about 3.5 and 175 MB as Python and token objects
        path = tmp_path / f"{lines}.txt"
        with path.open("w") as stream:
            for i in range(lines):
                stream.write(line.format(i % 100) + ("\n" if i % 10 == 9 else ""))
        process = _start(code, str(path))
        output = process.communicate()[0]
        assert process.returncode == 0, output
        peaks.append(int(output) / 1024)
    assert peaks[1] - peaks[0] < 60, f"MB: {peaks}"
