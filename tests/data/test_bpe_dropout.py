"""BPE with merges left out: the distribution over segmentations, its seeds, and the rows that come of it."""

from __future__ import annotations

import json
from collections import Counter
from itertools import pairwise, product

import numpy as np
import pytest
from torch.utils.data import DataLoader

from lit_lm.data import PairData, ParallelFiles, Tokenizer, TokenizerConfig
from lit_lm.data.bpe_dropout import BpeDropout
from lit_lm.errors import InputError
from tests import forks

WORDS = ["low", "lower", "lowest", "newer", "wider", "new", "slow", "slowest"]
TEXTS = [f"the {a} and the {b}" for a, b in product(WORDS, WORDS)]


@pytest.fixture(scope="module")
def tokenizer():
    return Tokenizer.train(TokenizerConfig("bpe", vocab_size=330, symbols=("<2de>",)), TEXTS)


def segmentations(word, merges, rate):
    """Every way to cut a word and its probability: all merges that are possible are kept or left out together, in every
    combination, and the first that is kept is made."""
    possible = {}
    for i, pair in enumerate(pairwise(word)):
        if pair in merges:
            possible[i] = merges[pair]
    out = Counter()
    for kept in product((True, False), repeat=len(possible)):
        chance = np.prod([1 - rate if k else rate for k in kept])
        left = [i for i, k in zip(possible, kept, strict=True) if k]
        if not left:
            out[word] += chance
            continue
        at = min(left, key=lambda i: (possible[i], i))
        joined = (*word[:at], word[at] + word[at + 1], *word[at + 2 :])
        for cut, p in segmentations(joined, merges, rate).items():
            out[cut] += chance * p
    return out


def test_distribution_is_that_of_all_ways_to_leave_out_merges():
    tokenizer = Tokenizer.train(TokenizerConfig("bpe", vocab_size=330), TEXTS)
    names = {i: tokenizer.token(i) for i in range(tokenizer.vocab_size)}
    merges = {(names[a], names[b]): rank for (a, b), (rank, _) in tokenizer.merges().merges.items()}
    rate, count = 0.3, 20_000
    dropout = BpeDropout(tokenizer, rate)
    found = Counter(
        tuple(names[i] for i in dropout.encode("slowest", str(seed)).tolist())
        for seed in range(count)
    )
    expected = segmentations(tuple("slowest"), merges, rate)
    assert abs(sum(expected.values()) - 1) < 1e-9
    assert len(expected) > 5
    assert set(found) <= set(expected)
    for cut, p in expected.items():  # four standard errors
        assert abs(found[cut] / count - p) < 4 * np.sqrt(p * (1 - p) / count) + 1 / count, cut


def test_nothing_left_out_is_the_tokenizer(tokenizer):
    dropout = BpeDropout(tokenizer, 0.0)
    odd = ["", " ", "a\n\nb", "漢字 😀 é", "<2de> the lower", "low<2de>er  <2de>", "<eos> x"]
    for text in [*TEXTS, *odd]:
        assert dropout.encode(text, "0").tolist() == tokenizer.encode(text), text


def test_text_survives_and_seeds_decide(tokenizer):
    dropout = BpeDropout(tokenizer, 0.5)
    cuts = set()
    for seed in range(20):
        ids = dropout.encode("<2de> the slowest, 漢", str(seed))
        assert tokenizer.decode(ids) == "<2de> the slowest, 漢"
        assert ids[0] == tokenizer.encode("<2de>")[0]
        assert np.array_equal(
            ids, BpeDropout(tokenizer, 0.5).encode("<2de> the slowest, 漢", str(seed))
        )
        cuts.add(tuple(ids.tolist()))
    assert len(cuts) > 10


@pytest.mark.parametrize("kind", ["unigram", "wordpiece", "word", "char", "byte"])
def test_other_kinds_are_refused(kind):
    tokenizer = Tokenizer.train(TokenizerConfig(kind, vocab_size=300), TEXTS)
    with pytest.raises(InputError, match=f"kind '{kind}'.* use kind bpe"):
        BpeDropout(tokenizer, 0.1)


@pytest.fixture
def data(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    for name in ("train", "val"):
        (tmp_path / f"{name}.a").write_text("\n".join(TEXTS) + "\n")
        (tmp_path / f"{name}.b").write_text("\n".join(reversed(TEXTS)) + "\n")

    def make(**settings):
        files = {n: (str(tmp_path / f"{n}.a"), str(tmp_path / f"{n}.b")) for n in ("train", "val")}
        return PairData(
            ParallelFiles(**files),
            TokenizerConfig("bpe", vocab_size=330),
            batch_tokens=200,
            **settings,
        )

    return make


def test_training_rows_change_with_the_epoch_and_evaluation_never(data):
    plain, dropped = data(), data(bpe_dropout=0.3)
    rows, cut = plain.rows("train"), dropped.rows("train")
    first, second = ([cut[(i, epoch)] for i in range(len(cut))] for epoch in (0, 1))
    decode = dropped.tokenizer.decode
    for i, (a, b) in enumerate(zip(first, second, strict=True)):
        assert decode(a.src) == decode(b.src) == decode(rows[i].src)
        assert decode(a.labels) == decode(b.labels) == decode(rows[i].labels)
        assert a.bytes == b.bytes == rows[i].bytes
        assert a.ids.tolist()[1:] == a.labels.tolist()[:-1]
        assert np.array_equal(a.src, dropped.rows("train").make(i, 0).src)
    assert sum(not np.array_equal(a.src, b.src) for a, b in zip(first, second, strict=True)) > 30
    for batch, same in zip(dropped.val_dataloader(), plain.val_dataloader(), strict=True):
        assert batch.src_ids_BS.equal(same.src_ids_BS)
        assert batch.labels_BT.equal(same.labels_BT)


def test_what_gets_too_long_is_left_whole(data):
    longest = int(data().rows("train").lengths.max())
    short, free = (data(bpe_dropout=0.5, max_length=n).rows("train") for n in (longest, 256))
    rows = [(short[(i, 0)], free[(i, 0)]) for i in range(len(TEXTS))]
    assert all(max(len(a.src), len(a.labels)) <= longest for a, _ in rows)
    assert any(len(b.src) > longest for _, b in rows)


def test_rate_and_kind_are_checked(data):
    with pytest.raises(InputError, match="bpe_dropout=1"):
        data(bpe_dropout=1.0)


@pytest.mark.parametrize("method", ["fork", forks.METHOD])
def test_workers_draw_the_same(data, method):
    rows = data(bpe_dropout=0.3).rows("train")
    wanted = [(i, 3) for i in range(len(rows))]
    loader = DataLoader(
        rows, sampler=wanted, batch_size=None, num_workers=1, multiprocessing_context=method
    )
    for row, at in zip(loader, wanted, strict=True):
        assert np.array_equal(row.src, rows[at].src)
        assert np.array_equal(row.labels, rows[at].labels)


def test_the_longest_symbol_counts():
    tokenizer = Tokenizer.train(
        TokenizerConfig("bpe", vocab_size=330, symbols=("ab", "abc", "<a", "<a>")), TEXTS
    )
    dropout = BpeDropout(tokenizer, 0.0)
    for text in ("abc", "ab", "abcab <a> <a x", "aab c"):
        assert dropout.encode(text, "0").tolist() == tokenizer.encode(text), text


def test_marks_at_the_end_of_words_are_refused(tmp_path):
    content = json.loads(
        Tokenizer.train(TokenizerConfig("bpe", vocab_size=330), TEXTS).state()["library"]
    )
    content["model"]["end_of_word_suffix"] = "</w>"
    content["added_tokens"] = []
    (tmp_path / "tokenizer.json").write_text(json.dumps(content))
    with pytest.raises(InputError, match="no merges of bytes"):
        BpeDropout(Tokenizer.load(tmp_path / "tokenizer.json"), 0.1)
