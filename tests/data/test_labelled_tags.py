"""Sentences with a tag for each word: columns, schemes, long sentences, documents, and what is refused."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from lit_lm import (
    InputError,
    TaggingData,
    TokenizerConfig,
)
from lit_lm.data import (
    IGNORE,
    BuiltinTags,
    ConllTags,
)
from lit_lm.data.labelled import tags
from lit_lm.data.labelled.tagging import pieces_of
from tests.data.labelled import WORDS, write

COLUMNS = """-DOCSTART- -X- O

Ann NNP I-PER
Bell NNP I-PER
Carl NNP B-PER
met VBD O

Oslo NNP I-LOC
"""


def conll(folder: Path, text: str = COLUMNS, **settings: Any) -> TaggingData:
    path = write(folder, text, "tags.txt")
    settings = {"form": "bert", "batch_size": 4, **settings}
    return TaggingData(ConllTags(train=path, val=path), WORDS, **settings)


def test_sentences_of_a_document_are_joined(tmp_path: Path) -> None:
    text = "a O\nb I-PER\n\nc I-PER\n\n-DOCSTART- O\n\nd O\n\ne O\nf O\ng O\nh O\n\ni O\n"
    rows = {}
    for words in (0, 3, 100):
        path = write(tmp_path, text, "tags.txt")
        source = ConllTags(path, val=path)
        source = dataclasses.replace(source, context_words=words)
        rows[words] = list(source.items("train"))
    assert [e.text for e in rows[0]] == ["a b", "c", "d", "e f g h", "i"]
    assert [e.text for e in rows[3]] == ["a b c", "d", "e f g h", "i"]
    assert [e.text for e in rows[100]] == ["a b c", "d e f g h i"]
    # An entity ends with its sentence.
    assert rows[100][0].label == ("O", "B-PER", "B-PER")
    assert rows[100][1].words == tuple("defghi")
    assert rows[100][1].where.endswith("tags.txt, line 8")
    data = TaggingData(
        dataclasses.replace(source, context_words=100), WORDS, form="bert", batch_size=2
    )
    assert data.rows("val").lengths.tolist() == [5, 8]
    with pytest.raises(InputError, match="context_words=-1"):
        dataclasses.replace(source, context_words=-1)


def test_columns_are_read_into_any_scheme(tmp_path: Path) -> None:
    data = conll(tmp_path)
    assert [e.label for e in data.examples("train")] == [
        ("B-PER", "I-PER", "B-PER", "O"),
        ("B-LOC",),
    ]
    assert data.labels == ("O", "B-LOC", "I-LOC", "B-PER", "I-PER")
    batch = next(iter(data.val_dataloader()))
    assert batch.labels.tolist() == [[3, 4, 3, 0], [1, IGNORE, IGNORE, IGNORE]]
    assert batch.first_BW is not None
    assert batch.first_BW.tolist() == [[1, 2, 3, 4], [1, -1, -1, -1]]
    bioes = conll(tmp_path, scheme="bioes")
    row = bioes.rows("val")[0]
    assert [bioes.labels[i] for i in row.label] == ["B-PER", "E-PER", "S-PER", "O"]


@pytest.mark.parametrize("scheme", ["iob2", "bioes"])
def test_every_word_of_a_long_sentence_is_tagged(tmp_path: Path, scheme: Any) -> None:
    long = "\n".join(f"w{i} {'B' if i == 0 else 'I'}-X" for i in range(20))
    data = conll(tmp_path, f"{long}\n\nx B-X\n", max_length=8, scheme=scheme)
    rows = [data.rows("val")[i] for i in range(len(data.rows("val")))]
    assert [len(row.label) for row in rows] == [6, 6, 6, 2, 1]
    assert [row.example for row in rows] == [0, 0, 0, 0, 1]
    for row in rows:  # a piece is a sentence that its scheme can write
        names = [data.labels[i] for i in row.label]
        assert tags.spans(names, scheme) == [tags.Span("X", 0, len(names))]
    assert "1 of 2 sentences are longer than 8 tokens" in data.unused("val")


def test_pieces_hold_every_word() -> None:
    words = [[i] * (1 + i % 4) for i in range(13)]
    pieces, long = pieces_of(words, 5)
    assert [w for piece in pieces for w in piece] == words
    assert all(sum(map(len, piece)) <= 5 for piece in pieces)
    assert long == 0
    assert pieces_of([[1] * 9, [2]], 5) == ([[[1] * 5], [[2]]], 1)


def test_a_word_of_several_tokens_has_one_tag(tmp_path: Path) -> None:
    path = write(tmp_path, "Oslo I-LOC\nOslo I-LOC\nlies O\n", "t.txt")
    source = ConllTags(train=path, val=path)
    data = TaggingData(source, TokenizerConfig(kind="byte"), form="bert", batch_size=1)
    row = data.rows("val")[0]
    assert row.first is not None
    starts = [data.tokenizer.decode(row.ids[f : f + 5].tolist()) for f in row.first]
    assert starts == ["Oslo ", " Oslo", " lies"]
    assert len(row.label) == 3


def test_bad_columns_are_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match=r"tags.txt, line 2: one column only, 'b'"):
        conll(tmp_path, "a I-X\nb\n").rows("train")
    # A sentence without its tags: the column before them must not be taken for tags.
    text = "-DOCSTART- O\n\na NNP I-NP I-X\n\nb NNP I-NP\n"
    with pytest.raises(
        InputError, match=r"tags.txt, line 5: 3 columns, 'b NNP I-NP', where line 3 has 4"
    ):
        conll(tmp_path, text).rows("train")
    with pytest.raises(InputError, match=r"tags.txt, line 2: tag 'NNP': O is wanted.*source.tag"):
        conll(tmp_path, "a O\nb NNP\n").rows("train")
    with pytest.raises(InputError, match=r"no word of the 1 training sentences has a tag but O"):
        _ = conll(tmp_path, "a O\n").spec
    train = write(tmp_path, "a I-X\n", "train.txt")
    val = write(tmp_path, "a O\nb I-Y\n", "val.txt")
    data = TaggingData(ConllTags(train=train, val=val), WORDS, form="bert", batch_size=1)
    with pytest.raises(InputError, match=r"val.txt, line 1: an entity of type 'Y'.*they have X"):
        data.rows("val")


def test_built_in_entities_are_where_the_language_says() -> None:
    source = BuiltinTags(train=3, val=1, test=1)
    documents = [s for d in source.documents("train") for s in d.sentences]
    examples = list(source.read("train"))
    assert [e.words for e in examples] == [s.words for s in documents]
    for example, sentence in zip(examples, documents, strict=True):
        assert [tuple(s) for s in tags.spans(example.label, "iob2")] == list(sentence.entities)


# ---- answers -------------------------------------------------------------------------------------
