"""Schemes of tags: examples, and properties over random entities."""

from __future__ import annotations

import random
from itertools import pairwise, product

import pytest
from seqeval.metrics.sequence_labeling import get_entities

from lit_lm.data.labelled import tags
from lit_lm.data.labelled.tags import SCHEMES, Span

KINDS = ["PER", "LOC", "MISC-X"]
# "Lisbon mayor Ana Dias thanked Rui Costa Lisbon ."
EXAMPLES = {
    "iob1": "I-LOC O I-PER I-PER O I-PER I-PER I-LOC O",
    "iob2": "B-LOC O B-PER I-PER O B-PER I-PER B-LOC O",
    "bioes": "S-LOC O B-PER E-PER O B-PER E-PER S-LOC O",
}
BESIDE = {
    "iob1": "I-PER I-PER I-PER B-PER B-PER I-PER I-LOC",
    "iob2": "B-PER I-PER I-PER B-PER B-PER I-PER B-LOC",
    "bioes": "B-PER I-PER E-PER S-PER B-PER E-PER S-LOC",
}


def draw(seed: int) -> tuple[list[Span], int]:
    """Entities of a sentence, often side by side."""
    rng, found, end = random.Random(seed), [], 0
    for _ in range(rng.randrange(6)):
        begin = end + rng.choice([0, 0, 1, 2])
        end = begin + rng.choice([1, 1, 2, 3])
        found.append(Span(rng.choice(KINDS), begin, end))
    return found, end + rng.randrange(3)


def test_an_example_in_each_scheme() -> None:
    for texts in (EXAMPLES, BESIDE):
        rows = {scheme: text.split() for scheme, text in texts.items()}
        for source, target in product(rows, repeat=2):
            assert tags.convert(rows[source], source, target) == rows[target]
    found = tags.spans(EXAMPLES["iob1"].split(), "iob1")
    assert found == [("LOC", 0, 1), ("PER", 2, 4), ("PER", 5, 7), ("LOC", 7, 8)]


@pytest.mark.parametrize("scheme", SCHEMES)
def test_what_is_written_is_read(scheme: tags.Scheme) -> None:
    names = set(tags.tag_names(KINDS, scheme))
    seen = set()
    for seed in range(200):
        found, length = draw(seed)
        shuffled = random.Random(seed).sample(found, len(found))
        row = tags.written(shuffled, length, scheme)
        assert len(row) == length
        assert tags.spans(row, scheme) == tags.entities(row) == found
        assert tags.detect([row, ["O"]]) == (scheme if found else "iob2")
        seen |= set(row)
        for target in SCHEMES:
            assert tags.convert(row, scheme, target) == tags.written(found, length, target)
    assert seen == names


def test_any_tags_are_read_as_seqeval_reads_them() -> None:
    names = ["O", *(f"{mark}-{kind}" for mark in "BIES" for kind in "XY")]
    for row in product(names, repeat=4):
        wanted = [(kind, begin, last + 1) for kind, begin, last in get_entities(list(row))]
        assert tags.entities(row) == wanted


@pytest.mark.parametrize(("scheme", "length"), [("iob1", 4), ("iob2", 4), ("bioes", 3)])
def test_allowed_is_what_the_scheme_can_write(scheme: tags.Scheme, length: int) -> None:
    names = tags.tag_names("XY", scheme)
    may = tags.allowed(names, scheme)
    proper = 0
    for ids in product(range(len(names)), repeat=length):
        row = [names[i] for i in ids]
        fits = tags.written(tags.entities(row), length, scheme) == row
        steps = pairwise(ids)
        assert fits == (
            may.start[ids[0]] and may.end[ids[-1]] and all(may.steps[a][b] for a, b in steps)
        )
        proper += fits
    assert 0 < proper < len(names) ** length


def test_the_scheme_is_found() -> None:
    both = [EXAMPLES, BESIDE]
    for scheme in SCHEMES:
        assert tags.detect(texts[scheme].split() for texts in both) == scheme
    assert tags.detect([]) == tags.detect([["O", "O"], []]) == "iob2"
    assert tags.detect([["B-PER", "O"], ["I-PER", "O"]]) == "iob1"
    assert tags.detect([["I-PER", "O", "S-PER"]]) == "bioes"
    with pytest.raises(ValueError, match="O is wanted"):
        tags.detect([["O"], ["PER"]])


@pytest.mark.parametrize(
    ("row", "scheme", "message"),
    [
        ("O S-PER", "iob1", "'S-PER' of word 2 does not fit iob1; 'I-PER' would"),
        ("B-PER E-PER", "iob2", "'E-PER' of word 2 does not fit iob2; 'I-PER' would"),
        ("B-PER I-PER", "bioes", "'I-PER' of word 2 does not fit bioes; 'E-PER' would"),
        ("B-PER", "bioes", "'S-PER' would"),
        ("O PER", "iob2", "tag 'PER': O is wanted"),
    ],
)
def test_tags_that_do_not_fit_are_refused(row: str, scheme: tags.Scheme, message: str) -> None:
    with pytest.raises(ValueError, match=message):
        tags.spans(row.split(), scheme)


@pytest.mark.parametrize("scheme", ["iob1", "iob2"])
def test_files_may_begin_an_entity_with_b_or_with_i(scheme: tags.Scheme) -> None:
    row = ["O", "I-PER", "I-PER", "I-LOC", "O", "B-LOC"]
    proper = ["O", "B-PER", "I-PER", "B-LOC", "O", "B-LOC"]
    assert tags.convert(row, scheme, "iob2") == proper


def test_a_tag_has_a_mark_and_a_type() -> None:
    assert tags.split("O") == ("O", "")
    assert tags.split("B-MISC-X") == ("B", "MISC-X")
    for bad in ("", "B", "B-", "O-PER", "X-PER", "-PER", "b-PER", "PER", "BI-PER"):
        with pytest.raises(ValueError, match="O is wanted"):
            tags.split(bad)


@pytest.mark.parametrize(
    "spans",
    [
        [Span("A", 0, 2), Span("B", 1, 3)],
        [Span("A", 1, 1)],
        [Span("A", 3, 5)],
        [Span("A", -1, 1)],
    ],
)
def test_entities_must_lie_side_by_side_within_the_sentence(spans: list[Span]) -> None:
    with pytest.raises(ValueError, match="in a sentence of 4 words"):
        tags.written(spans, 4, "iob2")
