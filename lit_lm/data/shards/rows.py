"""Windows over shards."""

from __future__ import annotations

from collections import OrderedDict
from collections.abc import Sequence

import numpy as np

from lit_lm.data.rows import StreamRows, TextRow, num_windows
from lit_lm.data.samplers import Index, check_budget
from lit_lm.data.shards.plan import ShardPlan
from lit_lm.data.shards.source import ShardStore
from lit_lm.data.store import Int64
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError


class ShardRows(StreamRows):
    """The windows of every shard, each shard a stream of its own: no window reaches from one into the next, so that the
    last one of each may be shorter.

    Opens a few shards at a time, and fetches the next ones ahead in the process that plans the batches.

    Args:
        store: the split.
        tokenizer: names the special tokens.
        length: most tokens in a row.
        characters: characters of each token to put in the batch; 0 for none.
        stride: see `StreamRows`.
        around: positions that a row takes beside its window.
    """

    def __init__(
        self,
        store: ShardStore,
        tokenizer: Tokenizer,
        length: int,
        characters: int = 0,
        stride: int | None = None,
        around: int = 0,
    ) -> None:
        self.read_as(tokenizer, length, characters, own=True)
        self._shards, self._tokenizer = store, tokenizer
        self._length, self._stride = length, stride
        self._mix, self.num_split, self._positions = store.mix, 0, length + around
        counts = [num_windows(shard.tokens, length, stride) for shard in store.shards]
        self.starts: Int64 = np.append(0, np.cumsum(counts))
        """The first row of each shard."""
        # All the same, and so of no size in memory.
        self.lengths = np.broadcast_to(np.int64(self._positions), (int(self.starts[-1]),))
        self._open: OrderedDict[int, StreamRows] = OrderedDict()

    def make(self, i: int, epoch: int) -> TextRow:
        shard = int(np.searchsorted(self.starts, i, side="right")) - 1
        return self._rows(shard).make(i - int(self.starts[shard]), epoch)

    def _rows(self, shard: int) -> StreamRows:
        if shard not in self._open:
            while len(self._open) > self._mix:
                self._open.popitem(last=False)
            store = self._shards.open(shard)
            self._open[shard] = StreamRows(
                store, self._tokenizer, self._length, "windows", self._characters, self._stride
            )
        self._open.move_to_end(shard)
        return self._open[shard]

    def plan(
        self,
        *,
        batch_size: int | None,
        batch_tokens: int | None,
        shuffle: bool,
        seed: int,
        epoch: int,
        world_size: int,
    ) -> Sequence[Index]:
        """See `samplers.Planner`."""
        check_budget(batch_size, batch_tokens)
        if batch_tokens is not None:
            if batch_tokens < self._positions:
                raise InputError(
                    f"batch_tokens={batch_tokens} is less than a row of {self._positions} tokens: raise it to that or more."
                )
            batch_size = batch_tokens // self._positions
        assert batch_size is not None
        return ShardPlan(
            self.starts,
            batch_size=batch_size,
            shuffle=shuffle,
            seed=seed,
            epoch=epoch,
            world_size=world_size,
            mix=self._mix,
            enter=self._shards.ahead,
        )

    @property
    def identity(self) -> str:
        """See `samplers.Planner`."""
        return repr((self._shards.content, self._length, self._stride, self._mix))
