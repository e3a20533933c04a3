"""Questions and windows of a text as rows, and where answers stand in them (SQuAD's form; Devlin et al. 2019, section 4.2).

Answers begin and end between words, whatever the tokenizer: a word is a run of letters and digits, or a single mark.
"""

from __future__ import annotations

import re
from typing import NamedTuple

import numpy as np

from lit_lm.data.labelled.forms import frame, num_special
from lit_lm.data.labelled.rows import LabelledRow, Reader, array
from lit_lm.data.labelled.sources import Example
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError
from lit_lm.specs import Form

_WORD = re.compile(r"\w+|[^\w\s]")


class Word(NamedTuple):
    """A word of a text: its first character, and the one behind its last."""

    begin: int
    end: int


def words_of(text: str) -> list[Word]:
    """The words of a text, in order."""
    return [Word(*found.span()) for found in _WORD.finditer(text)]


def surfaces(text: str, words: list[Word]) -> list[str]:
    """Words as a tokenizer is to read them: with the space that stands before them, if one does."""
    return [
        f" {text[w.begin : w.end]}"
        if text[w.begin - 1 : w.begin].isspace()
        else text[w.begin : w.end]
        for w in words
    ]


class Window(NamedTuple):
    """A row over a part of a text, and where in the text its words stand; word 0 is no word, but no answer, and is read at
    the row's first token (in forms "gpt" and "source" at its last).
    """

    row: LabelledRow
    words: list[Word]


def windows(
    index: int,
    example: Example,
    question: list[int],
    reader: Reader,
    tokenizer: Tokenizer,
    form: Form,
    max_length: int,
    stride: int,
) -> list[Window]:
    """The rows of a question: windows of as many words as there is room for, the next one beginning about `stride` tokens
    further on, until the text has ended.

    Args:
        index: the example's number.
        example: the question, its text, and answers; the first one is learned, if it is within a window.
        question: ids of the question.
        reader: makes ids of words.
        tokenizer: names the special tokens.
        form: how question and text stand in a row.
        max_length: most tokens of a row.
        stride: tokens from window to window.

    Raises:
        InputError: the question leaves no room for its text.
    """
    assert example.second is not None
    words = words_of(example.second)
    ids = reader.words(surfaces(example.second, words))
    room = max_length - num_special(form, pair=True) - len(question)
    if room < min(stride, 8):
        raise InputError(
            f"{example.where}: the question has {len(question)} tokens, which leaves {room} of max_length={max_length} "
            "for its text. Raise data.max_length."
        )
    target = _answer(example, words)
    out, begin = [], 0
    while True:
        end, size = begin, 0
        while end < len(words) and (size + len(ids[end]) <= room or end == begin):
            size += len(ids[end])
            end += 1
        piece = [t for word in ids[begin:end] for t in word][:room]
        framed = frame(tokenizer, form, question, piece)
        # What reads from the left alone, or has no token of its own at the start, has seen the row at its end.
        nothing = len(framed.ids) - 1 if form in ("gpt", "source") else 0
        sizes = [len(word) for word in ids[begin:end]]
        starts = framed.second + np.cumsum([0, *sizes[:-1]]) if sizes else array([])
        inside = target is not None and begin <= target[0] and target[1] < end
        label = [target[0] - begin + 1, target[1] - begin + 1] if inside and target else [0, 0]
        text = len(example.text.encode()) + 1
        text += words[end - 1].end - words[begin].begin if sizes else 0
        row = LabelledRow(
            *(array(framed.ids), array(framed.segments), array(label), index, text),
            first=np.append(nothing, starts).astype(np.int64),
        )
        out.append(Window(row, [Word(0, 0), *words[begin:end]]))
        if end >= len(words):
            return out
        moved, begin = len(ids[begin]), begin + 1  # at least a word
        while begin < end - 1 and moved < stride:
            moved += len(ids[begin])
            begin += 1


def _answer(example: Example, words: list[Word]) -> tuple[int, int] | None:
    """First and last word of the first answer; None where there is none."""
    if not example.label:
        return None
    begin = example.label[0].start
    end = begin + len(example.label[0].text)
    touched = [i for i, word in enumerate(words) if word.begin < end and word.end > begin]
    return (touched[0], touched[-1]) if touched else None
