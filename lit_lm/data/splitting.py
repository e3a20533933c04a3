"""Texts that are longer than a network reads, in parts."""

from __future__ import annotations

import re
from collections.abc import Sequence

from lit_lm.data.tokenizers import Tokenizer

_SENTENCE = re.compile(
    r"""(?<=[.!?…])(?=\s)|(?<=[.!?…]["'”’»)\]])(?=\s)|(?<=[。！？｡।॥۔؟])|(?=\n)"""
)
_WORD = re.compile(r"(?<=\S)(?=\s)")
_LEVELS = (_SENTENCE, _WORD)
_LONGEST_CHARACTER = 4
"""Bytes of a character in UTF-8."""


def split(text: str, tokenizer: Tokenizer, room: int, prefix: str = "") -> list[list[int]]:
    """A text's ids in parts of about equal length: cut at sentence ends, else at spaces, else between tokens.

    A part cut at a sentence end or space is tokenised as a text of its own, without the white space at its ends, as
    the texts of training were. So all that is lost is white space at cuts.

    Args:
        text: the text.
        tokenizer: the tokenizer.
        room: most ids of a part, those of the prefix included.
        prefix: stands before each part; in a part between tokens without the white space at its end.

    Returns:
        Ids of the parts, in order, each with the prefix; none of a text without tokens.
    """
    return _split(text.strip(), tokenizer, room, prefix, 0)


def beginning(ids: Sequence[int], tokenizer: Tokenizer, room: int) -> int:
    """How many of the first ids fill the room, less those of a character that would be cut."""
    for count in range(room, max(room - _LONGEST_CHARACTER, 0), -1):
        if not tokenizer.decode(ids[:count]).endswith("\ufffd"):
            return count
    return room


def _split(text: str, tokenizer: Tokenizer, room: int, prefix: str, level: int) -> list[list[int]]:
    head, ids = tokenizer.encode(prefix.rstrip()), tokenizer.encode(prefix + text)
    if not text or len(ids) <= len(head):
        return []
    if len(ids) <= room:
        return [ids]
    if level == len(_LEVELS):
        return [[*head, *part] for part in _cut(ids[len(head) :], tokenizer, room - len(head))]
    units = [unit for unit in _LEVELS[level].split(text) if unit]
    groups = _groups(units, tokenizer, room - len(head))
    return [
        part
        for group in groups
        for part in _split("".join(group).strip(), tokenizer, room, prefix, level + 1)
    ]


def _groups(units: list[str], tokenizer: Tokenizer, room: int) -> list[list[str]]:
    """Neighbours together, of as equal numbers of ids as a glance ahead allows; no more than there is room for,
    if the ids of two texts are those of the one that they join to.
    """
    sizes = [len(ids) for ids in tokenizer.encode_batch(units)]
    goal = sum(sizes) / max(-(-sum(sizes) // room), 1)
    groups: list[list[str]] = []
    filled = room
    for unit, size in zip(units, sizes, strict=True):
        if filled >= goal or filled + size > room:
            groups.append([])
            filled = 0
        groups[-1].append(unit)
        filled += size
    return groups


def _cut(ids: list[int], tokenizer: Tokenizer, room: int) -> list[list[int]]:
    parts = []
    begin = 0
    while (left := len(ids) - begin) > room:
        even = -(-left // -(-left // room))
        end = begin + beginning(ids[begin : begin + even], tokenizer, even)
        parts.append(ids[begin:end])
        begin = end
    return [*parts, ids[begin:]]
