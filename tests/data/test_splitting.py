"""Long texts in parts: nothing is lost, no part is too long, cuts are where a reader would make them."""

from __future__ import annotations

import random

import pytest

from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.data.splitting import split
from tests.odd_lines import WORDS, odd_lines, tokenizer

KINDS = ["byte", "char", "word", "bpe", "wordpiece", "unigram"]
BYTES = Tokenizer.train(TokenizerConfig(kind="byte"), [])


def texts(parts: list[list[int]]) -> list[str]:
    return [BYTES.decode(part) for part in parts]


@pytest.mark.parametrize("kind", KINDS)
def test_parts_are_short_enough_and_hold_every_token(kind: str) -> None:
    its = tokenizer(kind)
    rng = random.Random(kind)
    lines = odd_lines(150, seed=len(kind)) + [" ".join(odd_lines(30, seed=i)) for i in range(10)]
    if (
        kind == "wordpiece"
    ):  # to it control characters are nothing, and join what they stand between
        lines = ["".join(c for c in line if c.isprintable()) for line in lines]
    for line in lines:
        room = rng.choice((1, 2, 3, 7, 20, 60))
        parts = split(line, its, room)
        assert all(0 < len(part) <= room for part in parts)
        # White space at cuts is lost, and some of it is unknown to some.
        joined, whole = (
            its.decode(i for i in ids if i != its.unk_id)
            for ids in ([i for part in parts for i in part], its.encode(line))
        )
        assert "".join(joined.split()) == "".join(whole.split())
        if len(its.encode(line.strip())) <= room:
            assert len(parts) <= 1


@pytest.mark.parametrize("kind", KINDS)
def test_a_text_without_places_to_cut_is_cut_between_its_tokens(kind: str) -> None:
    its = tokenizer(kind)
    text = "".join(word for word in WORDS if word.isalnum()) * 20
    ids = its.encode(text)
    parts = split(text, its, 10)
    assert [i for part in parts for i in part] == ids
    assert len(parts) <= len(ids) // 6 + 1  # characters of four bytes stay whole


def test_cuts_are_at_sentence_ends_then_at_spaces() -> None:
    text = "One two. Three four! Five, six seven eight nine? Ten."
    assert texts(split(text, BYTES, 24)) == [
        "One two. Three four!",
        "Five, six seven",
        "eight nine?",
        "Ten.",
    ]
    assert texts(split("今天很好。你好吗？我很好。", BYTES, 24)) == [
        "今天很好。",
        "你好吗？我很好。",
    ]
    assert texts(split('He said "no." Then he left.', BYTES, 20)) == [
        'He said "no."',
        "Then he left.",
    ]


def test_parts_are_of_like_lengths() -> None:
    parts = split("word " * 103, BYTES, 100)
    assert len(parts) == 6
    assert min(map(len, parts)) > 60


def test_characters_stay_whole_where_there_is_room() -> None:
    assert all("\ufffd" not in text for text in texts(split("字漢🙂é" * 50, BYTES, 31)))


def test_each_part_has_the_prefix() -> None:
    its = Tokenizer.from_words(["<2de>", "a", "b", "."])
    tag = its.encode("<2de>")
    assert len(tag) == 1
    parts = split("a b . " * 10 + "b", its, 8, "<2de> ")
    assert all(part[:1] == tag and len(part) <= 8 for part in parts)
    assert [i for part in parts for i in part[1:]] == its.encode("a b . " * 10 + "b")
    parts = split("x" * 100, BYTES, 30, "> ")
    assert all(text.startswith(">") for text in texts(parts))
    assert sum(text.count("x") for text in texts(parts)) == 100


def test_a_very_long_text_takes_little_time() -> None:
    assert sum(map(len, split("x" * 1_000_000, BYTES, 255))) == 1_000_000
    assert len(split("a word. " * 100_000, BYTES, 255)) > 100
