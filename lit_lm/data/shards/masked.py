"""Rows with gaps over shards."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import numpy as np

from lit_lm.data.batches import IGNORE
from lit_lm.data.masked_rows import Gaps, MaskedRow, Masking
from lit_lm.data.samplers import Index
from lit_lm.data.shards.rows import ShardRows
from lit_lm.data.shards.source import ShardStore
from lit_lm.data.tokenizers import Tokenizer


class MaskedWindows(Gaps):
    """The windows of every shard, each between bos and eos, with gaps: a row is full and goes over the ends of documents,
    where an eos stands that is never hidden (Liu et al. 2019, https://arxiv.org/abs/1907.11692, section 4.2,
    "full-sentences").

    Args:
        store: the split.
        tokenizer: names the special tokens, and forms the rows.
        max_length: most positions of a row, special tokens included.
        masking: which tokens are predicted.
        seed: of the gaps.
    """

    def __init__(
        self,
        store: ShardStore,
        tokenizer: Tokenizer,
        max_length: int,
        *,
        masking: Masking,
        seed: int,
    ) -> None:
        super().__init__(tokenizer, masking, seed)
        self._windows = ShardRows(store, tokenizer, max_length - 2, around=2)
        self._eos, self.lengths = tokenizer.eos_id, self._windows.lengths

    def make(self, i: int, epoch: int) -> MaskedRow:
        window = self._windows.make(i, 0)
        ids, segments = (
            np.array(part, dtype=np.int64) for part in self._frame(window.labels.tolist())
        )
        text = ids != self._eos
        text[0] = False
        tokens = int(text.sum())
        ids, labels = self._hide(ids, text, self._draw(i, epoch))
        return MaskedRow(ids, labels, segments, IGNORE, tokens, window.bytes)

    def whole(self, i: int) -> tuple[list[int], int]:
        """See `Gaps`."""
        window = self._windows.make(i, 0)
        return window.labels.tolist(), window.bytes

    def plan(self, **how: Any) -> Sequence[Index]:
        """See `samplers.Planner`."""
        return self._windows.plan(**how)

    @property
    def identity(self) -> str:
        """See `samplers.Planner`."""
        return self._windows.identity
