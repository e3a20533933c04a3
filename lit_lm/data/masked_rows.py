"""Rows for BERT's objectives: segments with gaps, a function of (seed, epoch, row) alone."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
import torch

from lit_lm.data.batches import IGNORE, BatchSize, MaskedBatch
from lit_lm.data.rows import Rows, pad
from lit_lm.data.store import Int64, TokenStore
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError, check_reals

_TRIES = 30
_FAR = np.iinfo(np.int64).max
"""How often a second segment of fitting length is looked for, and a length that never fits."""


@dataclass(frozen=True)
class Masking:
    """Which tokens a masked language model predicts (Devlin et al. 2019, section 3.1, task 1).

    Of the tokens of a row, ``probability`` are chosen, rounded, at least one. Of these ``masked`` become
    the mask, ``random`` any other word of the vocabulary, and the rest stay.

    Args:
        probability: share of a row's tokens that is predicted.
        masked: share of those that the mask hides.
        random: share of those that a random token replaces.
        whole_words: choose all tokens of a word or none.
    """

    probability: float = 0.15
    masked: float = 0.8
    random: float = 0.1
    whole_words: bool = False

    def __post_init__(self) -> None:
        check_reals(self, "probability", most=1, above=True)
        check_reals(self, "masked", "random", most=1)
        if self.masked + self.random > 1:
            raise InputError(
                f"Masking: masked={self.masked} and random={self.random} must add up to at most 1."
            )


class MaskedRow(NamedTuple):
    """A row before padding: int64 ``ids``, ``labels`` and ``segments`` of one length, ``next`` as in
    `MaskedBatch`, and the number of text ``tokens`` and raw ``bytes`` in it.
    """

    ids: Int64
    labels: Int64
    segments: Int64
    next: int
    tokens: int
    bytes: int


class Gaps(Rows[MaskedRow, MaskedBatch]):
    """What rows with gaps share: choosing the tokens to predict, and becoming a batch.

    Args:
        tokenizer: names the special tokens, and forms the rows.
        masking: which tokens are predicted.
        seed: of everything that is random in a row.
    """

    def __init__(self, tokenizer: Tokenizer, masking: Masking, seed: int) -> None:
        self._seed, self._masking = seed, masking
        self._frame, self._pad, self._mask = tokenizer.frame, tokenizer.pad_id, tokenizer.mask_id
        self._goes_on, self._open_end = tokenizer.inner
        special = set(tokenizer.special_ids)
        self._words = np.array([i for i in range(tokenizer.vocab_size) if i not in special])

    def _draw(self, i: int, epoch: int) -> np.random.Generator:
        """All chance of a row."""
        return np.random.default_rng([self._seed, epoch, i])

    @abstractmethod
    def whole(self, i: int) -> tuple[list[int], int]:
        """A row's text as it stands: its ids without special tokens around them, and its raw bytes."""

    def _hide(
        self, ids: Int64, text: npt.NDArray[np.bool_], draw: np.random.Generator
    ) -> tuple[Int64, Int64]:
        """The ids with gaps, and what stood there."""
        rule = self._masking
        where = np.flatnonzero(text)
        want = max(1, round(rule.probability * len(where)))
        if rule.whole_words and len(where):
            goes_on = self._goes_on[ids[where]]
            goes_on[1:] &= self._open_end[ids[where[:-1]]] & (np.diff(where) == 1)
            goes_on[0] = False
            words = np.split(where, np.flatnonzero(~goes_on)[1:])
            chosen: list[int] = []
            for k in draw.permutation(len(words)):
                if not chosen or len(chosen) + len(words[k]) <= want:
                    chosen += words[k].tolist()
            where = np.array(chosen)
        else:
            where = draw.permutation(where)[:want]
        labels = np.full(len(ids), IGNORE, dtype=np.int64)
        labels[where] = ids[where]
        fate = draw.random(len(where))
        any_word = draw.choice(self._words, len(where))
        ids = ids.copy()
        ids[where] = np.where(
            fate < rule.masked,
            self._mask,
            np.where(fate < rule.masked + rule.random, any_word, ids[where]),
        )
        return ids, labels

    def collate(self, rows: Sequence[MaskedRow]) -> MaskedBatch:
        ids_BL, mask_BL = pad([row.ids for row in rows], self._pad)
        labels_BL, _ = pad([row.labels for row in rows], IGNORE)
        segments_BL, _ = pad([row.segments for row in rows], 0)
        tokens = sum(row.tokens for row in rows)
        size = BatchSize(
            rows=len(rows),
            tokens=tokens,
            bytes=sum(row.bytes for row in rows),
            input_tokens=sum(len(row.ids) for row in rows) - tokens,
            positions=ids_BL.numel(),
            labels=int((labels_BL != IGNORE).sum()),
        )
        next_B = torch.tensor([row.next for row in rows])
        return MaskedBatch(ids_BL, labels_BL, mask_BL, segments_BL, next_B, size)


class MaskedRows(Gaps):
    """Stretches of consecutive sentences of a document that fill a row, with gaps.

    With `next_sentence` a stretch of two sentences or more is cut in two at a random border, and in
    half of the draws the second segment is sentences of another document instead, from a
    random place, of about the same length, so that lengths tell nothing. A stretch of a single
    sentence is a row of one segment without that label.

    Args:
        store: the split, sentence by sentence.
        tokenizer: names the special tokens, and forms the rows.
        max_length: most positions of a row, special tokens included.
        next_sentence: rows of two segments.
        masking: which tokens are predicted.
        seed: of the gaps, the borders and the other documents.

    Attributes:
        num_split: sentences longer than a row, which are read in pieces.
        num_single: rows of a single sentence.
    """

    def __init__(
        self,
        store: TokenStore,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        next_sentence: bool,
        masking: Masking,
        seed: int,
    ) -> None:
        super().__init__(tokenizer, masking, seed)
        self._store, self._next_sentence = store, next_sentence
        # Sentences of a segment are joined as lines are, where the tokenizer knows line ends.
        self._joint = tokenizer.encode("\n")
        self.room = max_length - (3 if next_sentence else 2)
        self._plan()

    def _plan(self) -> None:
        """Cuts sentences into pieces that fit a row, and fills rows with pieces of one document."""
        offsets, borders = self._store.offsets, self._store.sentences
        sizes = np.diff(offsets) - 1
        count = np.maximum(-(-sizes // self.room), 1)
        of_piece = np.repeat(np.arange(len(sizes)), count)
        nth = np.arange(len(of_piece)) - np.repeat(np.cumsum(count) - count, count)
        self._starts = offsets[of_piece] + nth * self.room
        self._stops = np.minimum(self._starts + self.room, offsets[of_piece + 1] - 1)
        self._last = nth + 1 == count[of_piece]  # the separator behind a sentence is its own byte
        self.num_split = int((count > 1).sum())
        # Where each document's pieces start.
        self._documents = np.concatenate(([0], np.cumsum(count)))[borders]
        rows, lengths, documents = [0], [], []
        lens = (self._stops - self._starts).tolist()
        joint = len(self._joint)
        # Tokens up to each piece, line ends included.
        self._ends = np.concatenate(([0], np.cumsum(np.array(lens, dtype=np.int64) + joint)))
        for document, (first, end) in enumerate(
            zip(self._documents[:-1].tolist(), self._documents[1:].tolist(), strict=True)
        ):
            filled = 0
            for piece in range(first, end):
                more = lens[piece] + (joint if piece > rows[-1] else 0)
                if piece > rows[-1] and filled + more > self.room:
                    rows.append(piece)
                    lengths.append(filled)
                    documents.append(document)
                    filled, more = 0, lens[piece]
                filled += more
            rows.append(end)
            lengths.append(filled)
            documents.append(document)
        self._first = np.array(rows)
        self._document = np.array(documents)
        self.lengths = np.array(lengths) + (3 if self._next_sentence else 2)
        self.num_single = int((np.diff(self._first) == 1).sum())

    def make(self, i: int, epoch: int) -> MaskedRow:
        draw = self._draw(i, epoch)
        first, end = int(self._first[i]), int(self._first[i + 1])
        follows, second = IGNORE, None
        cut = end
        if self._next_sentence and end - first > 1:
            cut = int(draw.integers(first + 1, end))
            follows = int(draw.random() < 0.5)
            second = range(cut, end) if follows == 0 else self._elsewhere(i, cut, end, draw)
        a, num_bytes = self._segment(range(first, cut), self.room)
        b = None
        if second is not None:
            b, more = self._segment(second, self.room - len(a))
            num_bytes += more
        ids, segments = (np.array(part, dtype=np.int64) for part in self._frame(a, b))
        text = np.ones(len(ids), dtype=bool)
        text[[0, len(a) + 1, -1]] = False
        tokens = len(a) + len(b or ())
        ids, labels = self._hide(ids, text, draw)
        return MaskedRow(ids, labels, segments, follows, tokens, num_bytes)

    def whole(self, i: int) -> tuple[list[int], int]:
        """See `Gaps`."""
        return self._segment(range(int(self._first[i]), int(self._first[i + 1])), self.room)

    def _elsewhere(self, i: int, cut: int, stop: int, draw: np.random.Generator) -> range:
        """Whole sentences of another document, about as long together as those from `cut` to `stop`, and no
        longer than the row has room for.
        """
        documents = len(self._documents) - 1
        want = self._ends[stop] - self._ends[cut]
        most = self.room - (self._ends[cut] - self._ends[self._first[i]]) + len(self._joint)
        start = 0
        for _ in range(_TRIES):
            other = int(draw.integers(documents - 1))
            other += other >= self._document[i]
            begin, end = int(self._documents[other]), int(self._documents[other + 1])
            start = int(draw.integers(begin, end))
            lengths = self._ends[start + 1 : end + 1] - self._ends[start]
            near = np.abs(lengths - want)
            near[lengths > most] = _FAR
            best = int(near.argmin())
            if near[best] <= want // 4:
                return range(start, start + 1 + best)
        return range(start, start + 1)

    def _segment(self, pieces: range, room: int) -> tuple[list[int], int]:
        """Ids of consecutive sentences, as many of them as there is room for, and their raw bytes."""
        ids: list[int] = []
        num_bytes = 0
        for piece in pieces:
            joint = self._joint if ids else []
            start, stop = int(self._starts[piece]), int(self._stops[piece])
            left = room - len(ids) - len(joint)
            if left <= 0:
                break
            whole = stop - start <= left
            if not whole:
                stop = start + left
            ids += [*joint, *self._store.tokens[start:stop].tolist()]
            edge = stop + int(whole and bool(self._last[piece]))
            num_bytes += int(np.diff(self._store.bytes_before([start, edge])).item())
            if not whole:
                break
        return ids, num_bytes
