"""Rows for masked language models: statistics of gaps and segments, and that chance is a function of its place."""

from __future__ import annotations

from pathlib import Path

import numpy as np
import pytest

from lit_lm.data import MaskedTextData, Masking, TextFiles, TokenizerConfig
from lit_lm.data.batches import IGNORE
from lit_lm.data.masked_rows import MaskedRows
from lit_lm.data.prepare import split_sentences
from lit_lm.errors import InputError

DOCUMENTS = 40


@pytest.fixture
def corpus(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """Documents whose words name the document and the sentence: where a token is from can be read off it."""
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    documents = [
        "\n".join(
            " ".join(f"d{d}s{s}w{w}" for w in range(rng.integers(3, 9)))
            for s in range(rng.integers(1, 12))
        )
        for d in range(DOCUMENTS)
    ]
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join(documents) + "\n")
    return path


def make(path: Path, **settings: object) -> MaskedTextData:
    settings = {"max_length": 32, "batch_size": 8, **settings}
    kind = settings.pop("tokenizer", TokenizerConfig(kind="word", vocab_size=10_000))
    return MaskedTextData(TextFiles(train=str(path), val=str(path)), kind, **settings)


def restored(row) -> np.ndarray:
    return np.where(row.labels != IGNORE, row.labels, row.ids)


def parts(data: MaskedTextData, row) -> tuple[list[str], list[str]]:
    """The words of both segments, without line ends."""
    t = data.tokenizer
    words = [t.token(i) for i in restored(row)]
    text = [w not in ("<bos>", "<eos>", "\n") for w in words]
    return tuple(
        [w for w, s, keep in zip(words, row.segments, text, strict=True) if s == k and keep]
        for k in (0, 1)
    )


def place(word: str) -> tuple[int, int]:
    document, _, rest = word[1:].partition("s")
    return int(document), int(rest.partition("w")[0])


def test_nothing_is_lost(corpus: Path) -> None:
    data = make(corpus)
    rows = data.rows("train")
    newline = data.tokenizer.encode("\n")
    words = [i for k in range(len(rows)) for i in rows.whole(k)[0] if [i] != newline]
    expected = data.tokenizer.encode(corpus.read_text().replace("\n", " "))
    assert words == expected
    assert (rows.lengths <= 32).all()
    assert sum(rows.whole(k)[1] for k in range(len(rows))) == data.num_bytes("train")


def test_half_of_the_second_segments_follow_and_the_rest_are_of_another_document(
    corpus: Path,
) -> None:
    data = make(corpus)
    rows = data.rows("train")
    labels = []
    for epoch in range(40):
        for i in range(len(rows)):
            row = rows[i, epoch]
            first, second = parts(data, row)
            labels.append(row.next)
            if row.next == IGNORE:
                assert not second
            elif row.next == 0:
                assert place(second[0])[0] == place(first[-1])[0]
                assert place(second[0])[1] == place(first[-1])[1] + 1
                assert (first + second).index(second[0]) == len(first)
            else:
                assert {place(w)[0] for w in second}.isdisjoint({place(w)[0] for w in first})
            assert len(row.ids) <= 32
    known = np.array([label for label in labels if label != IGNORE])
    assert len(known) > 2000
    assert abs(known.mean() - 0.5) < 4 * 0.5 / len(known) ** 0.5
    assert rows.num_single == sum(label == IGNORE for label in labels) / 40


def test_lengths_do_not_tell_what_follows(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    rng = np.random.default_rng(0)
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join("\n".join("w " * rng.integers(3, 20) for _ in range(rng.integers(5, 40))) for _ in range(80)))  # fmt: skip
    data = make(path, max_length=64)
    rows = data.rows("train")
    lengths: dict[int, list[int]] = {0: [], 1: []}
    for epoch in range(15):
        for i in range(len(rows)):
            row = rows[i, epoch]
            if row.next != IGNORE:
                lengths[row.next].append(len(row.ids))
    true, other = np.array(lengths[0]), np.array(lengths[1])
    assert min(len(true), len(other)) > 1000
    # The best guess from the length alone: no better than a coin by more than its noise and whole sentences allow.
    edges = np.quantile(np.concatenate((true, other)), np.linspace(0, 1, 11))
    shares = [np.histogram(part, edges)[0] / len(part) for part in (true, other)]
    best = 0.5 + 0.25 * np.abs(shares[0] - shares[1]).sum()
    assert best < 0.54


def test_gaps_are_15_percent_and_80_10_10(corpus: Path) -> None:
    data = make(corpus)
    rows = data.rows("train")
    t = data.tokenizer
    chosen = hidden = kept = texts = 0
    for epoch in range(60):
        for i in range(len(rows)):
            row = rows[i, epoch]
            gaps = row.labels != IGNORE
            text = row.tokens
            assert gaps.sum() == max(1, round(0.15 * text))
            assert not gaps[[0, -1]].any()
            assert not np.isin(restored(row)[gaps], [t.bos_id, t.eos_id, t.pad_id]).any()
            chosen += int(gaps.sum())
            texts += text
            hidden += int((row.ids[gaps] == t.mask_id).sum())
            kept += int((row.ids[gaps] == row.labels[gaps]).sum())
            assert (row.ids[~gaps] != t.mask_id).all()
    assert chosen > 5000
    spread = 4 * 0.5 / chosen**0.5
    assert abs(chosen / texts - 0.15) < 0.01
    assert abs(hidden / chosen - 0.8) < spread
    assert abs(kept / chosen - 0.1) < spread


def test_chance_depends_on_seed_epoch_and_row_alone(corpus: Path) -> None:
    def read(seed: int, epoch: int, num_workers: int = 0) -> list[list[int]]:
        data = make(corpus, seed=seed, num_workers=num_workers)
        loader = data.train_dataloader()
        loader.batch_sampler.set_epoch(epoch)
        return sorted(ids[mask].tolist() for batch in loader for ids, mask in zip(batch.ids_BL, batch.mask_BL, strict=True))  # fmt: skip

    first = read(0, 0)
    assert read(0, 0) == first
    assert read(0, 0, num_workers=2) == first
    assert read(0, 1) != first
    assert read(1, 0) != first
    data = make(corpus)
    evaluations = []
    for _ in range(2):
        evaluations.append([batch.ids_BL.tolist() for batch in data.val_dataloader()])
    assert evaluations[0] == evaluations[1]


def test_whole_words_are_hidden_whole(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    words = ["unbelievable", "cat", "running", "table-top", "houses", "mat", "sat"]
    rng = np.random.default_rng(0)
    path = tmp_path / "text.txt"
    path.write_text("\n\n".join("\n".join(" ".join(rng.choice(words, 12)) for _ in range(3)) for _ in range(9)))  # fmt: skip
    for kind, size in (("wordpiece", 60), ("bpe", 285)):
        masking = Masking(probability=0.3, whole_words=True)
        data = make(path, masking=masking, tokenizer=TokenizerConfig(kind=kind, vocab_size=size))
        goes_on, open_end = data.tokenizer.inner
        rows: MaskedRows = data.rows("train")
        several = 0
        for i in range(len(rows)):
            row = rows[i, 5]
            ids, gaps = restored(row), row.labels != IGNORE
            text = np.array([k not in data.tokenizer.special_ids for k in ids])
            inside = np.zeros(len(ids), dtype=bool)
            inside[1:] = goes_on[ids[1:]] & open_end[ids[:-1]] & text[1:] & text[:-1]
            several += int(inside.sum())
            assert (gaps[1:] == gaps[:-1])[inside[1:]].all()
            assert 0 < gaps.sum() <= max(0.3 * row.tokens + 1, 12)
        assert several > 50
        split = make(
            path, masking=Masking(0.3), tokenizer=TokenizerConfig(kind=kind, vocab_size=size)
        )
        mixed = [split.rows("train")[i, 5].labels != IGNORE for i in range(len(rows))]
        assert any((gaps[1:] != gaps[:-1]).any() for gaps in mixed)


def test_long_sentences_are_read_in_pieces(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "text.txt"
    path.write_text("a " * 50 + "\nb c\n\nd e\nf\n")
    data = make(path, max_length=16)
    rows = data.rows("train")
    assert rows.num_split == 1
    assert sum(len(rows.whole(i)[0]) for i in range(len(rows))) >= 50 + 2 + 3
    assert sum(rows.whole(i)[1] for i in range(len(rows))) == data.num_bytes("train")
    assert all(len(rows[i].ids) <= 16 for i in range(len(rows)))


def test_without_next_sentences_rows_are_of_one_segment(corpus: Path) -> None:
    data = make(corpus, next_sentence=False)
    assert not data.spec.next_sentence
    batch = next(iter(data.train_dataloader()))
    assert (batch.next_B == IGNORE).all()
    assert (batch.segments_BL == 0).all()


def test_batch_counts_text_and_bytes(corpus: Path) -> None:
    data = make(corpus, next_sentence=False)
    batches = list(data.val_dataloader())
    specials = 2 * len(data.rows("val"))
    assert sum(b.size.bytes for b in batches) == data.num_bytes("val")
    assert sum(b.size.tokens + b.size.input_tokens for b in batches) == sum(
        int(b.mask_BL.sum()) for b in batches
    )
    assert sum(b.size.input_tokens for b in batches) == specials
    assert sum(b.size.labels for b in batches) == sum(
        int((b.labels_BL != IGNORE).sum()) for b in batches
    )


def test_sentences() -> None:
    text = "He came. She left! “Why?” asked Mr. Fox at 3.5 km. (Nobody knew.)\nNext line"
    assert split_sentences(text, "lines") == text.split("\n")
    assert split_sentences(text, "punctuation") == [
        "He came.",
        "She left!",
        "“Why?” asked Mr.",  # an abbreviation before a capital is taken for an end
        "Fox at 3.5 km.",
        "(Nobody knew.)",
        "Next line",
    ]


def test_errors(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    path = tmp_path / "one.txt"
    path.write_text("a b\nc d\n")
    with pytest.raises(InputError, match="one document"):
        make(path).rows("train")
    path = tmp_path / "lines.txt"
    path.write_text("a b\n\nc d\n\ne f\n")
    with pytest.raises(InputError, match="every row is of a single sentence"):
        make(path).rows("train")
    with pytest.raises(InputError, match="max_length=4"):
        make(path, max_length=4)
    with pytest.raises(InputError, match=r"Masking: probability=0"):
        Masking(0.0)
    with pytest.raises(InputError, match="add up to at most 1"):
        Masking(masked=0.8, random=0.3)
