"""Rows: what one sample is for an objective, and how samples become a batch. One small class per
format.

A new objective's format is one more class with `lengths`, `make` and `collate`.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Sequence
from typing import Any, Generic, Literal, NamedTuple, TypeVar

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor
from torch.utils.data import Dataset

from lit_lm.data.batches import IGNORE, BatchSize, Characters, PairBatch, TextBatch
from lit_lm.data.bpe_dropout import BpeDropout
from lit_lm.data.store import Int64, TokenStore
from lit_lm.data.tokenizers import Tokenizer

Row = TypeVar("Row")
Batch = TypeVar("Batch")


class Rows(Dataset[Row], ABC, Generic[Row, Batch]):
    """Samples of a split. `lengths` (int64, positions each sample takes) lets the sampler plan
    batches.
    """

    lengths: Int64

    def __len__(self) -> int:
        return len(self.lengths)

    def __getitem__(self, at: int | tuple[int, int]) -> Row:
        """A sample: (row, epoch), or a row as it is in evaluation."""
        return self.make(at, 0) if isinstance(at, int) else self.make(*at)

    @abstractmethod
    def make(self, i: int, epoch: int) -> Row:
        """Sample i of an epoch, a function of i, the epoch and the seed alone."""

    @abstractmethod
    def collate(self, rows: Sequence[Row]) -> Batch:
        """Pad samples to one batch."""


class TextRow(NamedTuple):
    """A stretch of text to predict: int64 `ids` and `labels` (length; -100 at what is context only), the raw
    `bytes` of the labels, and for networks over characters int64 `words` (length + 1), ids to read
    (`TokenStore.read_ids`). In packed rows `docs` (length) numbers the documents, and `words` (2, length) are
    read from either side.
    """

    ids: Int64
    labels: Int64
    bytes: int
    words: Int64 | None = None
    docs: Int64 | None = None


class StreamRows(Rows[TextRow, TextBatch]):
    """Stretches of a split's stream of documents, each document followed by eos; every token is the label
    of one row.

    A row's inputs are the tokens before its labels; before the very first token stands eos, as
    before the first token of every other document.

    Args:
        store: the split.
        tokenizer: names the special tokens.
        length: most tokens in a row.
        kind: "windows": the stream cut every `length` tokens, the last row padded to `length`.
            "documents": a row a document, longer ones split, padded to the longest of the batch.
        characters: characters of each token to put in the batch; 0 for none.
        stride: of windows: start one every `stride` tokens. Of all but the first the last `stride` tokens
            are labels, the others are their context. None for windows side by side.
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizer: Tokenizer,
        length: int,
        kind: Literal["windows", "documents"],
        characters: int = 0,
        stride: int | None = None,
    ) -> None:
        self._store = store
        # Where the store has a table of its own, that one is read: data workers share the file.
        own = characters > 0 and store.characters is None
        self.read_as(tokenizer, length if kind == "windows" else None, characters, own=own)
        borders = np.asarray([0, store.num_tokens] if kind == "windows" else store.offsets)
        if stride is None:
            self._starts = self._from = _starts(borders, length)
            self._stops = np.append(self._starts[1:], store.num_tokens)
        else:
            self._starts = np.arange(num_windows(store.num_tokens, length, stride)) * stride
            self._stops = np.minimum(self._starts + length, store.num_tokens)
            # Where each row's labels start: behind those of the row before.
            self._from = np.append(0, self._stops[:-1])
        self.num_split = int((np.diff(borders) > length).sum()) if kind == "documents" else 0
        """Documents longer than a row."""
        self.lengths = (
            np.full(len(self._starts), length) if kind == "windows" else self._stops - self._starts
        )

    def read_as(
        self, tokenizer: Tokenizer, width: int | None, characters: int, *, own: bool
    ) -> None:
        """How rows become a batch.

        Args:
            tokenizer: names the special tokens.
            width: positions of a batch; None for those of its longest row.
            characters: characters of each token; 0 for none.
            own: take those of the tokenizer.
        """
        self._characters, self._width = characters, width
        self._table = tokenizer.characters(characters) if own and characters else None
        self._pad, self._eos = tokenizer.pad_id, tokenizer.eos_id

    def make(self, i: int, epoch: int) -> TextRow:
        start, first, stop = int(self._starts[i]), int(self._from[i]), int(self._stops[i])
        ids = self._store.tokens[start:stop].astype(np.int64)
        labels = np.append(np.full(first - start, IGNORE), ids[first - start :])
        before = self._eos if start == 0 else int(self._store.tokens[start - 1])
        num_bytes = np.diff(self._store.bytes_before([first, stop])).item()
        words = self._read_ids(start, stop) if self._characters else None
        return TextRow(np.append(before, ids[:-1]), labels, num_bytes, words)

    def collate(self, rows: Sequence[TextRow]) -> TextBatch:
        ids_BL, mask_BL = pad([row.ids for row in rows], self._pad, self._width)
        labels_BL, _ = pad([row.labels for row in rows], IGNORE, self._width)
        chars = self._read(rows)
        tokens = int((labels_BL != IGNORE).sum())
        size = BatchSize(
            rows=len(rows),
            tokens=tokens,
            bytes=sum(row.bytes for row in rows),
            input_tokens=sum(len(row.ids) for row in rows) - tokens,
            positions=ids_BL.numel(),
            labels=tokens,
            distinct=0 if chars is None else len(chars.chars_UW),
        )
        return TextBatch(ids_BL, labels_BL, mask_BL, size, chars)

    def _read_ids(self, start: int, stop: int) -> Int64:
        """Ids to read of a stretch of the stream, with the one before it."""
        words = self._store.read_ids(max(start - 1, 0), stop)
        return words if start else np.append(self._eos, words)

    def _read(self, rows: Sequence[TextRow]) -> Characters | None:
        if not self._characters:
            return None
        table_VW = self._store.characters if self._table is None else self._table
        if table_VW is None:
            return None
        return characters(self._words(rows).numpy(), table_VW)

    def _words(self, rows: Sequence[TextRow]) -> Tensor:
        """Ids to read, side by side, int64 (B, L + 1)."""
        whole = [row.words for row in rows if row.words is not None]
        return pad(whole, self._pad, None if self._width is None else self._width + 1)[0]


def num_windows(tokens: int, length: int, stride: int | None = None) -> int:
    """How many windows of `length` tokens, one every `stride` of them, a stream takes."""
    stride = length if stride is None else stride
    return max(-(-(tokens - length + stride) // stride), 1)


def _starts(borders: npt.NDArray[np.int64], length: int) -> Int64:
    """Where rows start: at every border, and every `length` behind it."""
    sizes = np.diff(borders)
    per_part = -(-sizes // length)
    within = np.arange(per_part.sum()) - np.repeat(np.cumsum(per_part) - per_part, per_part)
    return np.asarray(np.repeat(borders[:-1], per_part) + within * length, dtype=np.int64)


class PairRow(NamedTuple):
    """A pair: int64 `src` (ending in eos), `ids` (bos and the target), `labels` (the target and
    eos), the raw `bytes` of the target with its separator, and the pair's `number` in its split.
    """

    src: Int64
    ids: Int64
    labels: Int64
    bytes: int
    number: int


class PairRows(Rows[PairRow, PairBatch]):
    """Pairs of a split, those in which neither side is longer than `max_length`.

    Args:
        src: source texts.
        tgt: target texts.
        tokenizer: names the special tokens.
        max_length: most tokens of a side, its special token included.
        dropout: cuts texts anew in every epoch; None for the ids of the stores. A text that gets longer than
            `max_length` keeps those.
        seed: of what it draws.
    """

    def __init__(
        self,
        src: TokenStore,
        tgt: TokenStore,
        tokenizer: Tokenizer,
        max_length: int,
        dropout: BpeDropout | None = None,
        seed: int = 0,
    ) -> None:
        self._src, self._tgt = src, tgt
        self._most, self._dropout, self._seed = max_length, dropout, seed
        self._pad, self._bos, self._eos = tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id
        longer = np.maximum(src.lengths, tgt.lengths)
        self.index = np.flatnonzero(longer <= max_length)
        """Index in the split of each row's pair."""
        self.overlong = np.flatnonzero(longer > max_length)
        """Pairs left out."""
        self.lengths = longer[self.index]

    def make(self, i: int, epoch: int) -> PairRow:
        index = int(self.index[i])
        src, tgt = (self._ids(side, index, epoch).astype(np.int64) for side in ("src", "tgt"))
        num_bytes = int(self._tgt.byte_offsets[index + 1] - self._tgt.byte_offsets[index])
        return PairRow(
            np.append(src, self._eos),
            np.append(self._bos, tgt),
            np.append(tgt, self._eos),
            num_bytes,
            index,
        )

    def _ids(self, side: str, index: int, epoch: int) -> npt.NDArray[Any]:
        store = self._src if side == "src" else self._tgt
        if self._dropout is not None:
            ids = self._dropout.encode(store.text(index), f"{self._seed} {epoch} {index} {side}")
            if len(ids) < self._most:
                return ids
        return store.doc(index)

    def collate(self, rows: Sequence[PairRow]) -> PairBatch:
        src_ids_BS, src_mask_BS = pad([row.src for row in rows], self._pad)
        tgt_ids_BT, _ = pad([row.ids for row in rows], self._pad)
        labels_BT, _ = pad([row.labels for row in rows], IGNORE)
        size = BatchSize(
            rows=len(rows),
            tokens=sum(len(row.labels) for row in rows),
            bytes=sum(row.bytes for row in rows),
            input_tokens=sum(len(row.src) for row in rows),
            positions=src_ids_BS.numel() + tgt_ids_BT.numel(),
            labels=sum(len(row.labels) for row in rows),
        )
        index_B = torch.tensor([row.number for row in rows])
        return PairBatch(src_ids_BS, src_mask_BS, tgt_ids_BT, labels_BT, size, index_B)


def characters(
    ids_BL: Int64, table_VW: npt.NDArray[Any], unknown_NW: npt.NDArray[Any] | None = None
) -> Characters:
    """The characters of a batch's tokens, each distinct token once.

    Args:
        ids_BL: token ids.
        table_VW: integers, the characters of every id (`Tokenizer.characters`, `TokenStore.characters`).
        unknown_NW: those of ids behind them (`OpenWords.characters`).
    """
    distinct, words = np.unique(ids_BL, return_inverse=True)
    known = distinct[distinct < len(table_VW)]
    chars_UW = table_VW[known]
    if unknown_NW is not None:
        others = distinct[len(known) :] - len(table_VW)
        chars_UW = np.concatenate((chars_UW, unknown_NW[others]))
    return Characters(
        torch.from_numpy(chars_UW.astype(np.int64)), torch.from_numpy(words.reshape(ids_BL.shape))
    )


def pad(
    rows: Sequence[npt.NDArray[Any]], fill: int, width: int | None = None
) -> tuple[Tensor, Tensor]:
    """Rows side by side, filled up on the right.

    Args:
        rows: 1-d integer arrays.
        fill: what fills them up.
        width: positions of the result; the longest row's when not given.

    Returns:
        int64 (rows, width), and the bool mask (rows, width) that is True at what was there before.
    """
    lengths = np.array([len(row) for row in rows])
    width = int(lengths.max()) if width is None else width
    mask = np.arange(width) < lengths[:, None]
    out = np.full(mask.shape, fill, dtype=np.int64)
    out[mask] = np.concatenate(rows)
    return torch.from_numpy(out), torch.from_numpy(mask)
