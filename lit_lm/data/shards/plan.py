"""The batches of an epoch over shards, worked out as they are asked for: memory grows with the number of shards and with
the rows of a few of them, not with the corpus.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from functools import lru_cache
from typing import overload

import numpy as np

from lit_lm.data.samplers import Index, fill_up
from lit_lm.errors import InputError


class ShardPlan(Sequence[Index]):
    """Batches of `batch_size` rows, all over the ranks, as `plan_batches` makes them: a pure function of its arguments.

    Shards are drawn in groups of `mix`, and rows at random within a group. Without `shuffle` all is in order.

    Args:
        starts: int64 (shards + 1): the first row of each shard.
        batch_size: rows in a batch; the last one has what is left.
        shuffle: draw shards and rows at random.
        seed: of the draw.
        epoch: of the draw.
        world_size: what the number of batches is a multiple of: the first ones are halved.
        mix: shards whose rows are mixed.
        enter: told the shards of a group, in the order in which they will be wanted, before its rows, and those of the
            group behind it.

    Raises:
        InputError: there are fewer rows than ranks, or batches of one row that cannot be shared evenly.
    """

    def __init__(
        self,
        starts: Index,
        *,
        batch_size: int,
        shuffle: bool,
        seed: int,
        epoch: int,
        world_size: int,
        mix: int,
        enter: Callable[[Index], None] = lambda shards: None,
    ) -> None:
        self._starts, self._shuffle, self._seed, self._epoch = starts, shuffle, seed, epoch
        self._enter, self._mix = enter, mix if shuffle else 1
        count = len(starts) - 1
        order = np.arange(count)
        if shuffle:
            order = np.random.default_rng([seed, epoch]).permutation(count)
        self._order = order
        rows = np.append(0, np.cumsum(np.diff(starts)[order]))
        borders = [*range(0, count, self._mix), count]
        self._groups = rows[borders]  # in rows of the epoch's order
        self._rows = lru_cache(maxsize=2)(self._draw)
        total = int(starts[-1])
        if total < world_size:
            raise InputError(
                f"{total} rows cannot be shared by {world_size} processes: use fewer devices."
            )
        whole = -(-total // batch_size)
        missing = -whole % world_size
        self._halved, self._size, self._total = missing, batch_size, total
        self._cuts: list[int] | None = None
        self._count = whole + missing
        if missing > total // batch_size or (missing and batch_size == 1):
            # Too few batches of full size to halve, so few batches at all: as for any other rows.
            cuts = range(0, total, batch_size)
            batches = fill_up(np.split(np.arange(total), cuts[1:]), world_size)
            self._cuts = [0, *np.cumsum([len(batch) for batch in batches]).tolist()]

    def __len__(self) -> int:
        return self._count

    @overload
    def __getitem__(self, at: int) -> Index: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Index]: ...
    def __getitem__(self, at: int | slice) -> Index | Sequence[Index]:
        """Row numbers of a batch; of a slice, those batches, not worked out yet."""
        if isinstance(at, slice):
            return _Some(self, range(self._count)[at])
        at = range(self._count)[at]
        begin, end = self._cut(at), self._cut(at + 1)
        parts = []
        group = int(np.searchsorted(self._groups, begin, side="right")) - 1
        while begin < end:
            first, behind = int(self._groups[group]), int(self._groups[group + 1])
            stop = min(end, behind)
            parts.append(self._rows(group)[begin - first : stop - first])
            begin, group = stop, group + 1
        return np.concatenate(parts)

    def _cut(self, at: int) -> int:
        """Where a batch starts."""
        if self._cuts is not None:
            return self._cuts[at]
        if at < 2 * self._halved:
            return at // 2 * self._size + at % 2 * -(-self._size // 2)
        return min((at - self._halved) * self._size, self._total)

    def _shards(self, group: int) -> Index:
        return self._order[group * self._mix : (group + 1) * self._mix]

    def _draw(self, group: int) -> Index:
        """The rows of a group, in order."""
        mine = self._shards(group)
        rows = np.concatenate([np.arange(self._starts[s], self._starts[s + 1]) for s in mine])
        if self._shuffle:
            draw = np.random.default_rng([self._seed, self._epoch, group])
            rows = rows[draw.permutation(len(rows))]
        self._enter(np.append(mine, self._shards(group + 1)))
        return rows


class _Some(Sequence[Index]):
    """Some batches of a plan."""

    def __init__(self, plan: ShardPlan, which: range) -> None:
        self._plan, self._which = plan, which

    def __len__(self) -> int:
        return len(self._which)

    @overload
    def __getitem__(self, at: int) -> Index: ...
    @overload
    def __getitem__(self, at: slice) -> Sequence[Index]: ...
    def __getitem__(self, at: int | slice) -> Index | Sequence[Index]:
        if isinstance(at, slice):
            return _Some(self._plan, self._which[at])
        return self._plan[self._which[at]]

    def __iter__(self) -> Iterator[Index]:
        return (self._plan[i] for i in self._which)
