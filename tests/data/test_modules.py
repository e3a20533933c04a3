"""Data modules: every token once, exact bytes, right shifts, the same batches for any workers."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_lm.data import (
    IGNORE,
    BuiltinPairs,
    BuiltinText,
    PairData,
    TextData,
    TextFiles,
    TokenizerConfig,
    TsvPairs,
    prepare_data,
)
from lit_lm.data.rows import pad
from lit_lm.errors import InputError
from lit_lm.specs import DataSpec

Write = Callable[[str, str | bytes], str]

WORD, BYTE = TokenizerConfig("word"), TokenizerConfig("byte")
PAIRS = BuiltinPairs(train=20, val=5, test=5)


def _text(write: Write, content: str, **options) -> TextData:
    path = write("a.txt", content)
    options = {"batch_size": 3, **options}
    return TextData(TextFiles(path, val=path), BYTE, **options)


@settings(
    suppress_health_check=[HealthCheck.function_scoped_fixture], max_examples=30, deadline=None
)
@given(
    st.lists(st.text("ab ", min_size=1).filter(str.strip), min_size=1, max_size=6),
    st.integers(1, 12),
    st.sampled_from(["windows", "documents"]),
    st.sampled_from([{"batch_size": 3}, {"batch_tokens": 24, "batch_size": None}]),
    st.sampled_from(["train", "val"]),
)
def test_every_token_is_predicted_once(write, documents, length, rows, rule, split) -> None:
    data = _text(write, "\n\n".join(documents), length=length, rows=rows, **rule)
    store = data.store(split, "text")
    stream = store.tokens.astype(np.int64)
    seen, num_bytes, positions = [], 0, 0
    for batch in data._loader(split):
        real = batch.labels_BL != IGNORE
        assert torch.equal(real, batch.mask_BL)
        assert (batch.ids_BL[~real] == 0).all()
        assert batch.size.tokens == real.sum()
        assert batch.size.positions == real.numel()
        assert batch.size.rows == len(real)
        assert real.shape[1] == length or rows == "documents"
        seen += [
            (i[m].tolist(), y[m].tolist())
            for i, y, m in zip(batch.ids_BL, batch.labels_BL, real, strict=True)
        ]
        num_bytes += batch.size.bytes
        positions += batch.size.positions
    # A row's label follows its input in the stream; sorted by place, the rows are the whole stream.
    shifted = np.concatenate([[2], stream[:-1]])
    places: list[int] = []
    rows_left = dict.fromkeys(data.rows(split)._starts.tolist())
    # The longest first: a short one may be the start of another.
    for inputs, labels in sorted(seen, key=lambda pair: -len(pair[1])):
        matches = [
            s
            for s in rows_left
            if stream[s : s + len(labels)].tolist() == labels
            and shifted[s : s + len(inputs)].tolist() == inputs
        ]
        del rows_left[matches[0]]
        places.append(len(labels))
    assert not rows_left
    assert sum(places) == len(stream) == data.store(split, "text").num_tokens
    assert (
        num_bytes
        == data.num_bytes(split)
        == sum(len(d.rstrip("\n").encode()) + 1 for d in documents)
    )


def test_windows(write: Write) -> None:
    data = _text(write, "abcde\n\nfg\n", length=4)
    batch = next(iter(data.val_dataloader()))
    a, eos = 5 + ord("a"), 2
    assert batch.labels_BL.tolist() == [
        [a, a + 1, a + 2, a + 3],
        [a + 4, eos, a + 5, a + 6],
        [eos, *[IGNORE] * 3],
    ]
    assert batch.ids_BL.tolist() == [
        [eos, a, a + 1, a + 2],
        [a + 3, a + 4, eos, a + 5],
        [a + 6, 0, 0, 0],
    ]
    assert batch.size == (3, 9, 9, 0, 12, 9, 0, 0, 0)
    assert data.spec == DataSpec(vocab_size=261, max_length=4)


def test_documents(write: Write, caplog: pytest.LogCaptureFixture) -> None:
    data = _text(write, "abcde\n\nfg\n", length=4, rows="documents")
    batch = next(iter(data.val_dataloader()))
    a, eos = 5 + ord("a"), 2
    assert batch.labels_BL.tolist() == [
        [a, a + 1, a + 2, a + 3],
        [a + 4, eos, -100, -100],
        [a + 5, a + 6, eos, -100],
    ]
    assert batch.ids_BL.tolist() == [
        [eos, a, a + 1, a + 2],
        [a + 3, a + 4, 0, 0],
        [eos, a + 5, a + 6, 0],
    ]
    assert data.rows("val").num_split == 1


def test_pairs() -> None:
    data = PairData(PAIRS, TokenizerConfig("bpe", 400), max_length=60, batch_tokens=200)
    assert data.spec == DataSpec(400, 60, 60)
    decode = data.tokenizer.decode
    for split, loader in [("train", data.train_dataloader()), ("test", data.test_dataloader())]:
        seen: list[int] = []
        num_bytes = 0
        for batch in loader:
            src_ids_BS, src_mask_BS, tgt_ids_BT, labels_BT, size, index_B = batch
            for row, i in enumerate(index_B.tolist()):
                src, n = src_ids_BS[row][src_mask_BS[row]], int((labels_BT[row] != IGNORE).sum())
                assert decode(src[:-1]) == data.source_text(split, i)
                assert decode(labels_BT[row][: n - 1]) == data.reference(split, i)
                assert src[-1] == labels_BT[row][n - 1] == 2
                assert tgt_ids_BT[row][:n].tolist() == [1, *labels_BT[row][: n - 1].tolist()]
                assert (tgt_ids_BT[row][n:] == 0).all()
            assert size.tokens == (labels_BT != IGNORE).sum()
            assert size.input_tokens == src_mask_BS.sum()
            assert size.positions == src_ids_BS.numel() + tgt_ids_BT.numel()
            assert max(src_ids_BS.numel(), tgt_ids_BT.numel()) <= 200
            seen += index_B.tolist()
            num_bytes += size.bytes
        assert sorted(seen) == list(range(len(data.store(split, "src"))))
        assert num_bytes == data.num_bytes(split)
    assert list(PAIRS.items("test"))[3] == (data.source_text("test", 3), data.reference("test", 3))


def test_overlong_pairs(write: Write) -> None:
    path = write("p.tsv", "a\tb\nx\tlong one\nfar too long\ty\n")
    source = TsvPairs(path, val=path)
    with pytest.raises(
        InputError, match=r"train: 2 of 3 pairs .*max_length=4; the first is pair 1 with 2 and 9"
    ):
        PairData(source, BYTE, max_length=4, batch_size=2).train_dataloader()
    data = PairData(source, BYTE, max_length=10, batch_size=2, overlong="skip")
    assert [b.index_B.tolist() for b in data.val_dataloader()] == [[0, 1]]
    assert data.reference("val", 1) == "long one"
    with pytest.raises(InputError, match="longer than max_length=2"):
        PairData(
            TsvPairs(path, val=write("q", "aa\tbb\n")),
            BYTE,
            max_length=2,
            batch_size=2,
            overlong="skip",
        ).val_dataloader()


STORIES = BuiltinText(train=20, val=3, test=3)


@pytest.mark.parametrize(
    "make",
    [
        lambda n: TextData(STORIES, WORD, length=16, batch_size=8, num_workers=n),
        lambda n: PairData(PAIRS, WORD, batch_tokens=300, num_workers=n),
    ],
)
def test_workers_change_nothing(make) -> None:
    batches = [list(make(n).train_dataloader()) for n in (0, 2)]
    assert len(batches[0]) == len(batches[1])
    for one, two in zip(*batches, strict=True):
        for a, b in zip(one, two, strict=True):
            assert torch.equal(a, b) if isinstance(a, torch.Tensor) else a == b


def test_surprisal_and_bytes() -> None:
    data = TextData(BuiltinText(train=20, val=3, test=3), WORD, batch_size=2)
    assert data.surprisal("val") == data.source.surprisal("val")
    texts = list(data.source.items("val"))
    assert data.num_bytes("val") == sum(len(t.encode()) + 1 for t in texts)
    assert 0.5 < data.surprisal("val") / data.store("val", "text").num_tokens < 2


def test_validation_stands_in_for_test(write: Write) -> None:
    data = _text(write, "abc\n")
    assert data.num_bytes("test") == data.num_bytes("val")
    assert len(data.test_dataloader()) == len(data.val_dataloader())


def test_prepare_data_reports(capsys: pytest.CaptureFixture[str]) -> None:
    report = prepare_data(PairData(PAIRS, WORD, batch_size=4))
    out = capsys.readouterr().out
    assert str(report) in out
    assert f"train      {report.splits['train'].documents:,} rows, the longest of" in out


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_size": None}, "exactly one of batch_size and batch_tokens"),
        ({"batch_tokens": 5}, "exactly one of batch_size and batch_tokens"),
        ({"length": 0}, "length=0 must be"),
        ({"num_workers": -1}, "num_workers=-1"),
    ],
)
def test_impossible_settings(options, message) -> None:
    with pytest.raises(InputError, match=message):
        TextData(BuiltinText(), WORD, **{"batch_size": 1, **options})


def test_pad() -> None:
    out, mask = pad([np.array([1, 2]), np.array([3])], 9, width=3)
    assert out.tolist() == [[1, 2, 9], [3, 9, 9]]
    assert mask.tolist() == [[True, True, False], [True, False, False]]


def test_characters_are_those_of_the_inputs_and_the_last_label(write: Write) -> None:
    data = _text(write, "abcde\n\nfg\n", length=4, characters=5)
    assert data.spec.max_characters == 5
    for batch in data.val_dataloader():
        chars_UW, words_BL = batch.chars
        table = torch.from_numpy(data.tokenizer.characters(5))
        real = torch.cat((batch.ids_BL, batch.labels_BL[:, -1:].clamp(min=0)), dim=1)
        for row, (ids, mask) in enumerate(zip(real, batch.mask_BL, strict=True)):
            count = int(mask.sum())
            ids[count] = batch.labels_BL[row, count - 1]
            assert torch.equal(chars_UW[words_BL[row, : count + 1]], table[ids[: count + 1]])
        assert batch.size.distinct == len(chars_UW) == len(words_BL.unique())


def test_consecutive_windows_go_on(write: Write) -> None:
    data = _text(write, "abcdefghijklmnopqrstuvwxyz\n", length=4, batch_size=2, consecutive=True)
    assert data.spec.consecutive
    before, after = list(data.train_dataloader())[:2]
    assert torch.equal(after.ids_BL[:, 0], before.labels_BL[:, -1])
    with pytest.raises(InputError, match="rows: windows"):
        _text(write, "ab\n", rows="documents", consecutive=True)
