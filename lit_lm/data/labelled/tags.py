"""Entities as tags of words, in the three ways that files have.

- iob1: ``I-TYPE`` for each word of an entity; ``B-TYPE`` only for the first word of one right behind another of its type
  (Ramshaw and Marcus 1995, https://aclanthology.org/W95-0107). The files of CoNLL-2003 have it.
- iob2: ``B-TYPE`` for the first word of every entity (Tjong Kim Sang and Veenstra 1999, https://aclanthology.org/E99-1023).
- bioes: ``E-TYPE`` for the last word too, and ``S-TYPE`` for the only one (Ratinov and Roth 2009,
  https://aclanthology.org/W09-1119, who write them L and U).

``O`` is everything else. What is wrong with a tag is a ValueError: whoever reads a file knows its name and the line.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from typing import Literal, NamedTuple

Scheme = Literal["iob1", "iob2", "bioes"]

SCHEMES: tuple[Scheme, ...] = ("iob2", "iob1", "bioes")
"""Where several fit, the first is meant."""

_MARKS = {"iob1": "BI", "iob2": "BI", "bioes": "BIES"}


class Span(NamedTuple):
    """An entity.

    Args:
        kind: its type.
        begin: its first word.
        end: the word behind its last.
    """

    kind: str
    begin: int
    end: int


class Allowed(NamedTuple):
    """Which tags, by id, a sentence may have where.

    Args:
        start: which may be the first.
        end: which may be the last.
        steps: for each tag which may come behind it.
    """

    start: list[bool]
    end: list[bool]
    steps: list[list[bool]]


def split(tag: str) -> tuple[str, str]:
    """Mark and type of a tag; the type of ``O`` is empty.

    Raises:
        ValueError: it is no tag.
    """
    mark, _, kind = tag.partition("-")
    if tag != "O" and (mark not in ("B", "I", "E", "S") or not kind):
        raise ValueError(f"tag {tag!r}: O is wanted, or B-, I-, E- or S- and a type")
    return mark, kind


def entities(tags: Sequence[str]) -> list[Span]:
    """The entities of any tags, in order, as conlleval and seqeval count them: one begins with a tag behind which none
    is open, or one of another type; and with every ``B-`` and ``S-``.

    Raises:
        ValueError: something is no tag.
    """
    return list(_entities(tags))


def _entities(tags: Sequence[str]) -> Iterator[Span]:
    begin, kind = 0, ""  # of the entity that is open
    for i, tag in enumerate([*tags, "O"]):
        mark, new = split(tag)
        if kind and (mark not in ("I", "E") or new != kind):
            yield Span(kind, begin, i)
            kind = ""
        if new and not kind:
            begin, kind = i, new
        if mark in ("E", "S"):
            yield Span(kind, begin, i + 1)
            kind = ""


def written(spans: Iterable[Span], length: int, scheme: Scheme) -> list[str]:
    """The tags of a sentence.

    Args:
        spans: its entities, in any order.
        length: its words.
        scheme: how to write them.

    Raises:
        ValueError: entities overlap, are empty, or reach beyond the sentence.
    """
    tags = ["O"] * length
    before = Span("", 0, 0)
    for span in sorted(spans, key=lambda span: span.begin):
        kind, begin, end = span
        if not before.end <= begin < end <= length:
            raise ValueError(f"{span} behind {before} in a sentence of {length} words")
        marks = ["I"] * (end - begin)
        if scheme != "iob1" or (before.kind, before.end) == (kind, begin):
            marks[0] = "B"
        if scheme == "bioes":
            marks[-1] = "E" if len(marks) > 1 else "S"
        tags[begin:end] = [f"{mark}-{kind}" for mark in marks]
        before = span
    return tags


def spans(tags: Sequence[str], scheme: Scheme) -> list[Span]:
    """The entities of a sentence, in order. In iob1 and iob2 files are read whatever begins an entity: CoNLL-2003's have a
    ``B-`` that iob1 would write ``I-``, others an ``I-`` that iob2 would write ``B-``, and both have one reading.

    Raises:
        ValueError: a tag does not fit the scheme.
    """
    found = entities(tags)
    for i, (tag, proper) in enumerate(zip(tags, written(found, len(tags), scheme), strict=True)):
        if tag != proper and (scheme == "bioes" or tag[0] not in _MARKS[scheme]):
            raise ValueError(f"tag {tag!r} of word {i + 1} does not fit {scheme}; {proper!r} would")
    return found


def convert(tags: Sequence[str], source: Scheme, target: Scheme) -> list[str]:
    """The tags of a sentence in another scheme.

    Raises:
        ValueError: a tag does not fit ``source``.
    """
    return written(spans(tags, source), len(tags), target)


def detect(sentences: Iterable[Sequence[str]]) -> Scheme:
    """The scheme of sentences: bioes where an ``E-`` or an ``S-`` stands, else iob2 if each entity begins with a ``B-``, and
    iob1 if not.

    Raises:
        ValueError: something is no tag.
    """
    scheme: Scheme = "iob2"
    for tags in sentences:
        if any(split(tag)[0] in ("E", "S") for tag in tags):
            return "bioes"
        if scheme == "iob2" and written(entities(tags), len(tags), "iob2") != list(tags):
            scheme = "iob1"
    return scheme


def tag_names(kinds: Iterable[str], scheme: Scheme) -> list[str]:
    """All tags for these types of entities, ``O`` first."""
    return ["O", *(f"{mark}-{kind}" for kind in kinds for mark in _MARKS[scheme])]


def allowed(names: Sequence[str], scheme: Scheme) -> Allowed:
    """What the scheme allows.

    Args:
        names: the tags by id.
        scheme: how they are written.
    """
    tags, outside = [split(name) for name in names], ("O", "")
    return Allowed(
        [_may_follow(outside, tag, scheme) for tag in tags],
        [_may_follow(tag, outside, scheme) for tag in tags],
        [[_may_follow(tag, after, scheme) for after in tags] for tag in tags],
    )


def _may_follow(tag: tuple[str, str], after: tuple[str, str], scheme: Scheme) -> bool:
    """A sentence begins as behind ``O``, and ends as before one."""
    same = tag[1] == after[1]  # an O has no type: never that of an entity
    if scheme == "iob1":
        return after[0] != "B" or same
    if scheme == "iob2":
        return after[0] != "I" or same
    is_open = tag[0] in ("B", "I")
    return (after[0] in ("I", "E")) == is_open and (same or not is_open)
