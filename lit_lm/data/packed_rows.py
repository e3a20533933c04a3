"""Rows of several whole documents, side by side, that never see each other (Krell et al. 2021,
https://arxiv.org/abs/2107.02027).

Shape letters: B rows, L positions.
"""

from __future__ import annotations

from bisect import bisect_left, insort
from collections import defaultdict
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
import torch
from torch import Tensor

from lit_lm.data.batches import TextBatch
from lit_lm.data.rows import StreamRows, TextRow, pad
from lit_lm.data.store import Int64, TokenStore
from lit_lm.data.tokenizers import Tokenizer

NO_DOCUMENT = -1
"""What `docs_BL` holds at padding."""


class PackedRows(StreamRows):
    """Documents packed into rows of `length` positions; every token is one row's label.

    What a document reads and predicts is what it would in a row of its own: its first label follows
    eos, or in a later piece of a longer document the token before.

    Args:
        store: the split.
        tokenizer: names the special tokens.
        length: positions of a row; longer documents are cut every `length` tokens.
        characters: characters of each token to put in the batch; 0 for none.

    Attributes:
        num_pieces: documents, and pieces of those that are longer than a row.
        padding: share of all rows' positions that is left empty.
    """

    def __init__(
        self, store: TokenStore, tokenizer: Tokenizer, length: int, characters: int = 0
    ) -> None:
        super().__init__(store, tokenizer, length, "documents", characters)
        self._width = length
        rows = pack(self.lengths, length)
        by_row = np.argsort(rows, kind="stable")  # within a row in the order of the text
        self._starts, self._stops = self._starts[by_row], self._stops[by_row]
        self._borders = np.append(0, np.cumsum(np.bincount(rows)))
        self.lengths = np.full(len(self._borders) - 1, length)
        self.num_pieces = len(rows)
        self.padding = 1 - store.num_tokens / (len(self.lengths) * length)

    def make(self, i: int, epoch: int) -> TextRow:
        pieces = slice(self._borders[i], self._borders[i + 1])
        starts, stops = self._starts[pieces], self._stops[pieces]
        sizes = stops - starts
        at = np.repeat(stops - np.cumsum(sizes), sizes) + np.arange(sizes.sum())
        tokens = self._store.tokens
        ids = np.where(at > 0, tokens[np.maximum(at - 1, 0)], self._eos).astype(np.int64)
        raw = self._store.bytes_before(np.stack((starts, stops)))
        words = None
        if self._characters:
            words = np.concatenate(
                [self._both(*ends) for ends in zip(starts, stops, strict=True)], 1
            )
        docs = np.repeat(np.arange(len(sizes)), sizes)
        return TextRow(ids, tokens[at].astype(np.int64), int((raw[1] - raw[0]).sum()), words, docs)

    def collate(self, rows: Sequence[TextRow]) -> TextBatch:
        batch = super().collate(rows)
        docs = [row.docs for row in rows if row.docs is not None]
        docs_BL, _ = pad(docs, NO_DOCUMENT, self._width)
        squares = sum(int(np.square(np.bincount(its)).sum()) for its in docs)
        return batch._replace(size=batch.size._replace(squares=squares), docs_BL=docs_BL)

    def _both(self, start: int, stop: int) -> Int64:
        """What is read of a piece, int64 (2, its tokens): from the left, and from the right."""
        words = self._read_ids(start, stop)
        return np.stack((words[:-1], words[1:]))

    def _words(self, rows: Sequence[TextRow]) -> Tensor:
        words = [row.words for row in rows if row.words is not None]
        sides = [pad([both[side] for both in words], self._pad, self._width)[0] for side in (0, 1)]
        return torch.cat(sides, dim=1)


def pack(lengths: npt.ArrayLike, length: int) -> Int64:
    """Best-fit decreasing: the longest first, each into the fullest row that has room for it, into a
    new row where none has. Takes at most 11/9 of the fewest rows possible, and 4 more (Johnson et al. 1974).

    A function of the arguments alone. Pieces of one length go together, and so do rows with the same
    room, so that the work grows with `length` and hardly with the number of pieces.

    Args:
        lengths: int (pieces), each 1 to `length`.
        length: positions of a row.

    Returns:
        int64 (pieces): the row of each; every row has at least one.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    row_of = np.empty(len(sizes), dtype=np.int64)
    order = np.argsort(-sizes, kind="stable")
    borders = np.flatnonzero(np.diff(sizes[order])) + 1
    space = _Space(length)
    for pieces in np.split(order, borders):
        size = int(sizes[pieces[0]]) if len(pieces) else 0
        while len(pieces):
            # The fullest row that fits is still that after it took one: it takes all it can hold.
            rows, room = space.take(size, len(pieces))
            each = room // size
            row_of[pieces[: len(rows) * each]] = np.repeat(rows, each)[: len(pieces)]
            partly = len(rows) * each - len(pieces)  # what the last row could still have taken
            space.put(rows[:-1] if partly > 0 else rows, room - each * size)
            space.put(rows[-1:] if partly > 0 else rows[:0], room - (each - partly) * size)
            pieces = pieces[len(rows) * each :]
    return row_of


class _Space:
    """Rows by the room that they have left.

    Args:
        length: positions of a row.
    """

    def __init__(self, length: int) -> None:
        self._length, self._count = length, 0
        self._rooms: list[int] = []  # ascending, those that rows have
        self._rows: defaultdict[int, list[Int64]] = defaultdict(list)

    def take(self, size: int, pieces: int) -> tuple[Int64, int]:
        """Takes out the fullest rows with room for `size`, as many as `pieces` of that size need,
        or fewer if there are no more; new ones if there are none. All have the room that is returned.
        """
        at = bisect_left(self._rooms, size)
        if at == len(self._rooms):
            need = -(-pieces // (self._length // size))
            self._count += need
            return np.arange(self._count - need, self._count), self._length
        room = self._rooms.pop(at)
        rows = np.concatenate(self._rows.pop(room))
        need = -(-pieces // (room // size))
        self.put(rows[need:], room)
        return rows[:need], room

    def put(self, rows: Int64, room: int) -> None:
        """Puts rows back with the room they have left; full ones are not kept."""
        if not len(rows) or not room:
            return
        if room not in self._rows:
            insort(self._rooms, room)
        self._rows[room].append(rows)
