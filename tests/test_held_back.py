"""What is kept back of a training text for choosing settings: nothing of it is trained on."""

from __future__ import annotations

from pathlib import Path

import pytest

from benchmarks import held_back


def test_the_last_tenth_of_the_documents_is_kept_back(tmp_path: Path) -> None:
    documents = [f"-DOCSTART- -X- O O\n\nword{i} NNP O O\n\n" for i in range(25)]
    train = tmp_path / "train"
    train.write_text("".join(documents))
    left, kept = held_back.conll(train, tmp_path / "out")
    assert left.read_text() == "".join(documents[:23])
    assert kept.read_text() == "".join(documents[23:])


def test_no_phrase_of_what_is_kept_back_is_trained_on(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    long = " ".join(f"w{i}" for i in range(14))
    rows = [
        f"before {long} behind\t1\n",  # holds a sentence that is kept back
        "something else of a film\t0\n",
        "w3 w4 w5\t1\n",  # a phrase of it
        "w5 w4 w3\t1\n",
        f"{long}\t1\n",
    ]
    train = tmp_path / "train.tsv"
    train.write_text("sentence\tlabel\n" + "".join(rows))
    left, kept = held_back.phrases(train, tmp_path / "out")
    assert kept.read_text().splitlines() == ["sentence\tlabel", rows[0].strip(), rows[4].strip()]
    assert left.read_text() == "sentence\tlabel\n" + rows[1] + rows[3]
    monkeypatch.setattr(held_back, "_SENTENCES", 1)
    left, kept = held_back.phrases(train, tmp_path / "one")
    assert kept.read_text() == "sentence\tlabel\n" + rows[4]
    assert left.read_text() == "sentence\tlabel\n" + rows[1] + rows[3]
