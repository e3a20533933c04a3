"""Rows of labelled examples, in memory: texts and words as ids, in the form that an encoder reads."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any, NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lit_lm.data.batches import IGNORE, BatchSize, Characters, LabelledBatch
from lit_lm.data.open_words import OpenWords
from lit_lm.data.rows import Rows, characters, pad
from lit_lm.data.store import Int64
from lit_lm.data.tokenizers import Tokenizer


class LabelledRow(NamedTuple):
    """A row: int64 `ids` and `segments` (length), its label (a number, or int64 (words), or int64 (2)), the number of its
    `example`, the raw `bytes` of its texts, of words int64 (words) `first`, and its own `number` where an example has several.
    """

    ids: Int64
    segments: Int64
    label: Any
    example: int
    bytes: int
    first: Int64 | None = None
    number: int = -1


class Reader:
    """Texts and words as ids. A network over characters reads words outside the vocabulary by their own.

    Args:
        tokenizer: makes the ids.
        characters: characters of a token that the network reads; 0 for networks over ids.
    """

    def __init__(self, tokenizer: Tokenizer, characters: int) -> None:
        self._tokenizer, self._width = tokenizer, characters
        self._open = OpenWords(tokenizer, characters) if characters else None
        self._words: dict[str, list[int]] = {}

    def texts(self, texts: Sequence[str]) -> list[list[int]]:
        """Ids of each text."""
        if self._open is not None:
            return [ids for ids, _ in self._open.encode_batch(texts)]
        return [ids.tolist() for ids in self._tokenizer.encode_batch(texts)]

    def words(self, words: Sequence[str]) -> list[list[int]]:
        """Ids of each word, at least one. Words that a space stands before begin with it."""
        missing = [word for word in dict.fromkeys(words) if word not in self._words]
        unk = [
            self._tokenizer.unk_id
        ]  # of what the tokenizer makes nothing of, such as a control character
        found = self.texts(missing) if missing else []
        self._words |= {word: ids or unk for word, ids in zip(missing, found, strict=True)}
        return [self._words[word] for word in words]

    def characters(self, ids_BL: Int64) -> Characters | None:
        """What a network over characters reads of ids; None for others."""
        if self._open is None:
            return None
        table = self._tokenizer.characters(self._width)
        return characters(ids_BL, table, self._open.characters())


class LabelledRows(Rows[LabelledRow, LabelledBatch]):
    """Rows that are held in memory.

    Args:
        rows: the rows.
        reader: what their ids are from.
        tokenizer: names the special tokens.
    """

    def __init__(self, rows: Iterable[LabelledRow], reader: Reader, tokenizer: Tokenizer) -> None:
        self._rows = list(rows)
        self._reader, self._tokenizer = reader, tokenizer
        self.lengths = np.array([len(row.ids) for row in self._rows], dtype=np.int64)

    def make(self, i: int, epoch: int) -> LabelledRow:
        return self._rows[i]

    def collate(self, rows: Sequence[LabelledRow]) -> LabelledBatch:
        ids_BL, mask_BL = pad([row.ids for row in rows], self._tokenizer.pad_id)
        segments_BL, _ = pad([row.segments for row in rows], 0)
        chars = self._reader.characters(ids_BL.numpy())
        if chars is not None:
            unknown = ids_BL >= self._tokenizer.vocab_size
            ids_BL = ids_BL.masked_fill(unknown, self._tokenizer.unk_id)
        first_BW = None
        firsts = [row.first for row in rows if row.first is not None]
        if firsts:
            first_BW, _ = pad(firsts, -1)
        labels, count = self._labels([row.label for row in rows])
        size = BatchSize(
            rows=len(rows),
            tokens=sum(len(row.ids) for row in rows),
            bytes=sum(row.bytes for row in rows),
            input_tokens=0,
            positions=ids_BL.numel(),
            labels=count,
            distinct=0 if chars is None else len(chars.chars_UW),
            words=sum(map(len, firsts)),
        )
        index_B = torch.tensor([row.example if row.number < 0 else row.number for row in rows])
        return LabelledBatch(ids_BL, mask_BL, segments_BL, labels, size, index_B, first_BW, chars)

    def _labels(self, labels: list[Any]) -> tuple[torch.Tensor, int]:
        """Labels side by side, and how many targets they are."""
        if not isinstance(labels[0], np.ndarray):
            kind = torch.float32 if isinstance(labels[0], float) else torch.int64
            return torch.tensor(labels, dtype=kind), len(labels)
        padded, _ = pad(labels, IGNORE)
        return padded, int((padded != IGNORE).sum())


def cut(
    first: list[int], second: list[int] | None, room: int
) -> tuple[list[int], list[int] | None]:
    """One or two texts with at most `room` tokens together: the longer one loses its end first."""
    if second is None:
        return first[:room], None
    shorter = min(len(first), len(second), room // 2)
    longest = room - shorter
    return (first[:longest], second[: room - min(len(first), longest)])


def array(values: Iterable[Any]) -> npt.NDArray[np.int64]:
    """int64 values."""
    return np.fromiter(values, dtype=np.int64)
