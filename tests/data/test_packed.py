"""Packed rows: a partition into few rows, and each document what it would be in a row of its own."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_lm.data import IGNORE, BatchSize, TextBatch, TextData, TextFiles, TokenizerConfig
from lit_lm.data.packed_rows import NO_DOCUMENT, pack
from lit_lm.data.tokenizers import spelled
from lit_lm.errors import InputError

Write = Callable[[str, str | bytes], str]

LENGTHS = st.integers(1, 30).flatmap(
    lambda length: st.tuples(st.just(length), st.lists(st.integers(1, length), max_size=50))
)


def _one_by_one(sizes: list[int], length: int) -> list[int]:
    """Best-fit decreasing as in a textbook: the fill of each row."""
    fills: list[int] = []
    for size in sorted(sizes, reverse=True):
        fitting = [fill for fill in fills if fill + size <= length]
        if fitting:
            fills.remove(max(fitting))
        fills.append(max(fitting, default=0) + size)
    return fills


@settings(max_examples=300, deadline=None)
@given(LENGTHS)
def test_pack_is_best_fit_decreasing(case: tuple[int, list[int]]) -> None:
    length, sizes = case
    rows = pack(sizes, length)
    fills = np.bincount(rows, weights=sizes)
    assert sorted(fills) == sorted(_one_by_one(sizes, length))
    assert (fills > 0).all()
    assert (fills <= length).all()
    # No row without need: what opened it fits into none that was open by then.
    longest = [max(np.array(sizes)[rows == row]) for row in range(len(fills))]
    assert longest == sorted(longest, reverse=True)
    for row in range(len(fills)):
        assert all(fill + longest[row] > length for fill in fills[:row])
    assert np.array_equal(pack(sizes, length), rows)


def test_pack_is_quick_and_wastes_little() -> None:
    draw = np.random.default_rng(0)
    sizes = np.clip(draw.lognormal(5, 1, 1_000_000), 1, 1024).astype(int)
    rows = pack(sizes, 1024).max() + 1
    least = sizes.sum() / 1024
    assert least <= rows <= 11 / 9 * least + 1
    assert sizes.sum() / (rows * 1024) > 0.99  # and a row each would be 0.21


def _data(write: Write, documents: list[str], kind: str, **settings: object) -> TextData:
    path = write("a.txt", "\n\n".join(documents))
    settings = {"batch_size": 3, "length": 8, **settings}
    return TextData(TextFiles(path, val=path), TokenizerConfig("byte"), rows=kind, **settings)


def _texts(batch: TextBatch) -> list[tuple[list[int], ...]]:
    """Inputs and labels of each document of a batch, and the characters read of both."""
    docs_BL = torch.zeros_like(batch.ids_BL) if batch.docs_BL is None else batch.docs_BL
    sides = [batch.ids_BL, batch.labels_BL]
    if batch.chars is not None:
        chars_UW, words_BL = batch.chars
        L = docs_BL.size(1)
        sides += [chars_UW[words_BL[:, :L]], chars_UW[words_BL[:, -L:]]]
    out = []
    for row, (docs, mask) in enumerate(zip(docs_BL, batch.mask_BL, strict=True)):
        for doc in docs[mask].unique():
            out.append(tuple(side[row][(docs == doc) & mask].tolist() for side in sides))
    return out


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=40, deadline=None
)
@given(
    st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1, max_size=9),
    st.integers(1, 12),
    st.sampled_from([0, 5]),
    st.sampled_from([{"batch_size": 3}, {"batch_tokens": 24, "batch_size": None}]),
    st.sampled_from(["train", "val"]),
)
def test_a_packed_document_is_what_it_is_in_a_row_of_its_own(
    write, documents, length, characters, rule, split
) -> None:
    shared = {"length": length, "characters": characters, **rule}
    packed = _data(write, documents, "packed", **shared)
    alone = _data(write, documents, "documents", **shared)
    batches = {data.kind: list(data._loader(split)) for data in (packed, alone)}
    texts = {
        kind: Counter(map(repr, [t for batch in its for t in _texts(batch)]))
        for kind, its in batches.items()
    }
    assert texts["packed"] == texts["documents"]
    sizes = [batch.size for batch in batches["packed"]]
    assert sum(size.bytes for size in sizes) == packed.num_bytes(split)
    assert sum(size.tokens for size in sizes) == packed.store(split, "text").num_tokens
    assert len(packed.rows(split)) <= len(alone.rows(split))
    for batch in batches["packed"]:
        _check(batch, length)


def _check(batch: TextBatch, length: int) -> None:
    """What holds of any packed batch."""
    docs_BL, real_BL = batch.docs_BL, batch.labels_BL != IGNORE
    assert docs_BL.shape == batch.ids_BL.shape == (batch.size.rows, length)
    assert torch.equal(real_BL, batch.mask_BL)
    assert torch.equal(docs_BL == NO_DOCUMENT, ~real_BL)
    assert (batch.ids_BL[~real_BL] == 0).all()
    squares = 0
    for docs, real in zip(docs_BL, real_BL, strict=True):
        counts = docs[real].bincount()
        assert docs[real].tolist() == [d for d, n in enumerate(counts) for _ in range(n)]
        squares += int(counts.square().sum())
    tokens, labels = int(real_BL.sum()), int(real_BL.sum())
    expected = BatchSize(
        batch.size.rows, tokens, batch.size.bytes, 0, docs_BL.numel(), labels, squares=squares
    )
    assert batch.size._replace(distinct=0) == expected
    if batch.chars is not None:
        assert batch.size.distinct == len(batch.chars.chars_UW)
        assert batch.chars.words_BL.shape == (batch.size.rows, 2 * length)


def test_an_example(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    data = _data(write, ["abc", "d", "efghij", "k"], "packed", length=4)
    with caplog.at_level(logging.INFO):
        batch = next(iter(data.val_dataloader()))
    a, eos, none = 4 + ord("a"), 2, IGNORE
    letter = {name: a + number for number, name in enumerate("abcdefghijk", 1)}
    assert batch.labels_BL.tolist() == [
        [*(letter[x] for x in "abc"), eos],
        [*(letter[x] for x in "efgh")],
        [letter["i"], letter["j"], eos, none],
    ]
    *_, last = list(data.val_dataloader())
    assert last.labels_BL.tolist() == [[letter["d"], eos, letter["k"], eos]]
    assert last.ids_BL.tolist() == [[eos, letter["d"], eos, letter["k"]]]
    assert last.docs_BL.tolist() == [[0, 0, 1, 1]]
    assert batch.ids_BL[2].tolist() == [letter["h"], letter["i"], letter["j"], 0]
    assert batch.docs_BL[2].tolist() == [0, 0, 0, NO_DOCUMENT]
    assert "val: 1 documents are longer than 4 tokens: split." in caplog.text
    found = "val: 5 documents and pieces of them packed into 4 rows of 4 positions, 6.2% of them"
    assert found in caplog.text


def test_unknown_words_are_read_by_their_own_characters(write: Write) -> None:
    train = write("train.txt", "the cat sat\n\nthe mat sat\n")
    val = write("val.txt", "the dog sat\n\nthe cow\n\na cat the dog\n")
    source = TextFiles(train, val=val)
    shared = {"length": 9, "batch_size": 2, "characters": 7}
    word = TokenizerConfig("word")
    packed = TextData(source, word, rows="packed", **shared)
    alone = TextData(source, word, rows="documents", **shared)
    found, expected = (
        Counter(map(repr, (t for batch in data.val_dataloader() for t in _texts(batch))))
        for data in (packed, alone)
    )
    assert found == expected
    assert len(packed.rows("val")) == 2
    assert any(str(spelled(b"dog", 7))[1:-1] in text for text in found)


def test_rows_that_go_on_are_refused(write: Write) -> None:
    with pytest.raises(InputError, match="rows: windows"):
        _data(write, ["ab"], "packed", consecutive=True)
