"""Encoding word by word gives the ids that encoding whole texts gives, whatever the texts hold."""

from __future__ import annotations

import random

import numpy as np
import pytest

from lit_lm.data import BuiltinText, Tokenizer, TokenizerConfig, word_ids
from lit_lm.data.word_ids import WordIds

PARTS = [
    *[
        "a",
        "b",
        "foo",
        "Bar",
        "'s",
        "'",
        "n't",
        "don't",
        ",",
        ".",
        "!",
        "?",
        ";",
        "-",
        "_",
        "state-of",
        "1",
        "22",
        "²",
        "½",
        "é",
        "ß",
        "İ",
        "Σ",
        "一",
        "東京",
        "🙂",
        "👩\u200d👩\u200d👧",
        "<eos>",
        "<unk>",
    ],
    *(" ", " ", " ", " ", "  ", "\n", "\n", "\n\n", "\t", "\r\n", "\x0b", "\x1c", "\x1f", "\x85"),
    *("\xa0", "\u1680", "\u180e", "\u2003", "\u2028", "\u200b", "\ufeff", "\ufffd", "\x00"),
    *("e\u0301", "\u0301", "x" * 120),
]


def texts(draw: random.Random, most: int) -> list[str]:
    """Texts of strange parts, more often than not with white space in strange places."""
    return [
        "".join(draw.choice(PARTS) for _ in range(draw.randrange(14)))
        for _ in range(draw.randrange(1, most))
    ]


@pytest.mark.parametrize("lowercase", [False, True])
@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece", "unigram"])
@pytest.mark.parametrize("remembered", [300, 1 << 21])
def test_the_same_ids(
    kind: str, lowercase: bool, remembered: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(word_ids, "MOST_CHARACTERS", remembered)
    draw = random.Random(f"{kind} {lowercase}")
    training = [*BuiltinText(train=30).items("train"), *texts(draw, 300)]
    config = TokenizerConfig(kind, vocab_size=700, lowercase=lowercase)  # type: ignore[arg-type]
    tokenizer = Tokenizer.train(config, training)
    by_word = WordIds(tokenizer)
    longest = sum(map(len, training))
    for batch in [training, *(texts(draw, 60) for _ in range(30)), [""], ["\n"], training]:
        ids, sizes = by_word.stream(batch)
        wanted = [np.append(one, tokenizer.eos_id) for one in tokenizer.encode_batch(batch)]
        assert sizes.tolist() == [len(one) for one in wanted]
        assert np.array_equal(ids, np.concatenate(wanted))
        assert by_word._numbers.characters < remembered + 3 * longest
