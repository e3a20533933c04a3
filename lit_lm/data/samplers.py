"""Which rows make which batch: a plan that is a pure function, the same on every rank, and loaders
that follow it.

A batch is a function of (seed, epoch, position), so that training resumes in mid-epoch exactly; no
row is lost or repeated, in training and in evaluation, over any number of ranks. In training all
ranks have equally many batches; evaluation has the batches of one process, whoever computes them.
"""

from __future__ import annotations

import hashlib
from bisect import bisect_right
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Protocol, runtime_checkable

import numpy as np
import numpy.typing as npt
from torch.utils import data as torch_data

from lit_lm.errors import InputError

Index = npt.NDArray[np.int64]

_POOL = 50  # batches whose rows are put together by their lengths


def plan_batches(
    lengths: npt.ArrayLike,
    *,
    batch_size: int | None = None,
    batch_tokens: int | None = None,
    shuffle: bool,
    seed: int,
    epoch: int,
    world_size: int = 1,
    consecutive: bool = False,
    pooled: bool = False,
) -> list[Index]:
    """All batches of an epoch, over all ranks: rank r takes every `world_size`-th, from the r-th
    on.

    With `batch_size`, batches have that many rows: at random, or in order, or `pooled`. With `batch_tokens`,
    rows of similar lengths go together, as many as keep rows x longest within the budget; rows of
    equal length mix anew in every epoch. The number of batches is the same in every epoch, and a
    multiple of `world_size`: to reach it, the batches with the most rows are halved.

    Args:
        lengths: int (rows): positions that each row takes.
        batch_size: rows in a batch.
        batch_tokens: most positions in a batch, padding included.
        shuffle: draw rows and batches at random; otherwise in order (with `batch_tokens`, by
            length).
        seed: of the draw.
        epoch: of the draw.
        world_size: ranks that share the plan.
        consecutive: row b of a rank's batch is the one behind row b of its batch before, in every
            epoch alike: the rows are laid in `batch_size` x `world_size` lanes side by side.
        pooled: with `batch_size`, put rows of similar lengths together: shuffled rows within pools of 50
            batches, which are shuffled in turn; otherwise all rows, the longest first.

    Returns:
        Arrays of row numbers; every row is in exactly one.

    Raises:
        InputError: not exactly one of `batch_size` and `batch_tokens` is given, or one is less than
            1; a row alone is longer than `batch_tokens`; there are fewer rows than ranks, or all
            batches are of one row and their number is no multiple of the ranks.
    """
    sizes = np.asarray(lengths, dtype=np.int64)
    check_budget(batch_size, batch_tokens)
    if len(sizes) < world_size:
        raise InputError(
            f"{len(sizes)} rows cannot be shared by {world_size} processes: use fewer devices."
        )
    if consecutive:
        return _lanes(len(sizes), batch_size, world_size)
    draw = np.random.default_rng([seed, epoch])
    order = draw.permutation(len(sizes)) if shuffle else np.arange(len(sizes))
    if batch_size is not None:
        if pooled:
            size = _POOL * batch_size if shuffle else len(sizes)
            pools = np.split(order, range(size, len(sizes), size))
            order = np.concatenate([p[np.argsort(-sizes[p], kind="stable")] for p in pools])
        cuts = list(range(0, len(sizes), batch_size))
    else:
        assert batch_tokens is not None
        order = order[np.argsort(sizes[order], kind="stable")]
        cuts = _cuts_within(sizes[order], batch_tokens)
    batches = fill_up(np.split(order, cuts[1:]), world_size)
    if shuffle and (pooled or batch_tokens is not None):
        batches = [batches[i] for i in draw.permutation(len(batches))]
    return batches


def _lanes(rows: int, batch_size: int | None, world_size: int) -> list[Index]:
    """Batches of rows that go on from batch to batch."""
    if batch_size is None:
        raise InputError("consecutive rows need batch_size, not batch_tokens.")
    lanes = min(batch_size * world_size, rows)
    longer = rows % lanes  # so many lanes are one row longer, dealt to the ranks in turn
    if lanes % world_size or 0 < longer < world_size:
        raise InputError(
            f"{rows} rows in {lanes} lanes cannot be shared evenly by {world_size} processes: change "
            "batch_size or the number of devices."
        )
    lengths = rows // lanes + (np.arange(lanes) < longer)
    starts = np.cumsum(lengths) - lengths
    return [
        (starts[rank::world_size] + step)[lengths[rank::world_size] > step]
        for step in range(int(lengths[0]))
        for rank in range(world_size)
    ]


def check_budget(batch_size: int | None, batch_tokens: int | None) -> None:
    """Raises InputError unless exactly one is given, and at least 1."""
    given = {"batch_size": batch_size, "batch_tokens": batch_tokens}
    if (batch_size is None) == (batch_tokens is None):
        raise InputError(
            f"give exactly one of batch_size and batch_tokens, not {given} (null takes one away)."
        )
    for name, value in given.items():
        if value is not None and value < 1:
            raise InputError(f"{name}={value} must be at least 1.")


def _cuts_within(ascending: Index, budget: int) -> list[int]:
    """Starts of the longest stretches with (rows x longest) <= budget; depends on nothing but the
    lengths.
    """
    longest = int(ascending[-1])
    if longest > budget:
        count = len(ascending) - int(np.searchsorted(ascending, budget, side="right"))
        raise InputError(
            f"{count} of {len(ascending)} rows are longer than batch_tokens={budget}, "
            f"the longest has {longest} tokens: raise batch_tokens to {longest} or more, "
            "or limit the length of rows."
        )
    cuts = [0]
    while cuts[-1] < len(ascending):
        start = cuts[-1]
        most = range(
            start + 1, min(start + budget // int(max(ascending[start], 1)), len(ascending)) + 1
        )
        cuts.append(
            start
            + bisect_right(most, budget, key=lambda end: (end - start) * int(ascending[end - 1]))
        )
    return cuts[:-1]


def fill_up(batches: list[Index], multiple: int) -> list[Index]:
    """Halves the batches with the most rows until their number is a multiple.

    Raises:
        InputError: all batches are of one row, and their number is none.
    """
    while missing := -len(batches) % multiple:
        by_rows = sorted(range(len(batches)), key=lambda i: (-len(batches[i]), i))
        halved = {i for i in by_rows[:missing] if len(batches[i]) > 1}
        if not halved:
            raise InputError(
                f"{len(batches)} batches of one row each cannot be shared evenly by {multiple} "
                "processes: raise batch_size (or batch_tokens) to two rows or more, or change the "
                "number of devices."
            )
        batches = [
            half
            for i, batch in enumerate(batches)
            for half in (np.array_split(batch, 2) if i in halved else [batch])
        ]
    return batches


@runtime_checkable
class Planner(Protocol):
    """Rows that know better than `plan_batches` which go together; they are all of one length."""

    lengths: npt.NDArray[np.int64]

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
        """All batches of an epoch, over all ranks, with the promises of `plan_batches`."""

    @property
    def identity(self) -> str:
        """What tells the rows from others."""


class BatchSampler(torch_data.BatchSampler):
    """One rank's share of the plan of the current epoch.

    Lightning finds `sampler.set_epoch` on it and calls that before every epoch. Should Lightning
    re-make it around a sampler of its own (`use_distributed_sampler: true`, prediction), that one
    is ignored: the plan is shared between ranks already.

    Args:
        lengths: int (rows): positions that each row takes; or rows that plan their batches themselves.
        batch_size: rows in a batch, or
        batch_tokens: most positions in a batch, padding included.
        shuffle: draw rows and batches at random, anew in each epoch.
        seed: of the draw.
        rank: whose share to yield.
        world_size: ranks that share the plan.
        sampler: ignored.
        drop_last: ignored; nothing is ever dropped.
        consecutive: rows go on from batch to batch, in evaluation too; nothing is shuffled.
        even: every rank has equally many batches, as training needs. Otherwise the plan is that of one
            process, and ranks may have unequal shares of it, even none: every `world_size`-th batch, or
            of consecutive rows every `world_size`-th lane of each batch.
        pooled: with `batch_size`, rows of similar lengths go together; see `plan_batches`.
        current_epoch: asked at the start of every iteration, and then stronger than `set_epoch`:
            resumed from the end of an epoch, Lightning can name one epoch and run another.

    Attributes:
        epoch: the epoch that the next iteration yields.
        position: batches of it that were handed out by the `Loader`.
    """

    def __init__(
        self,
        lengths: npt.ArrayLike | Planner,
        *,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        shuffle: bool = False,
        seed: int = 0,
        rank: int = 0,
        world_size: int = 1,
        sampler: Any = None,
        drop_last: bool = False,
        consecutive: bool = False,
        even: bool = True,
        pooled: bool = False,
        current_epoch: Callable[[], int] | None = None,
    ) -> None:
        self._planner = lengths if isinstance(lengths, Planner) else None
        self._lengths: Index = (
            self._planner.lengths if self._planner else np.asarray(lengths, dtype=np.int64)
        )
        self._rule = {"batch_size": batch_size, "batch_tokens": batch_tokens}
        self._shuffle, self._seed = shuffle, seed
        self._consecutive, self._even, self._pooled = consecutive, even, pooled
        self._rank, self.world_size = rank, world_size
        self.epoch = self.position = 0
        self._current_epoch = current_epoch
        self._resumed: tuple[int, int] | None = None
        # Rank 0 has the most.
        self._count = len(self._share(self.plan(0), 0))

    def plan(self, epoch: int) -> Sequence[Index]:
        """All ranks' batches of an epoch."""
        rule: dict[str, Any] = {**self._rule, "shuffle": self._shuffle, "seed": self._seed}
        rule |= {"epoch": epoch, "world_size": self.world_size if self._even else 1}
        if self._planner is not None:
            return self._planner.plan(**rule)
        return plan_batches(
            self._lengths, **rule, consecutive=self._consecutive, pooled=self._pooled
        )

    @property
    def fingerprint(self) -> str:
        """What tells this plan from others, over all epochs."""
        rule: list[Any] = [*self._rule.values(), self._shuffle, self._seed, self._consecutive]
        rule += ["pooled"] if self._pooled else []
        what = self._planner.identity.encode() if self._planner else self._lengths.tobytes()
        digest = hashlib.blake2b(what, digest_size=16)
        digest.update(repr(rule).encode())
        return digest.hexdigest()

    def _share(self, plan: Sequence[Index], rank: int) -> Sequence[Index]:
        """A rank's batches."""
        if self._even or not self._consecutive:
            return plan[rank :: self.world_size]
        # The longer lanes stand first, so that a lane keeps its place until it ends.
        lanes = (batch[rank :: self.world_size] for batch in plan)
        return [rows for rows in lanes if len(rows)]

    def __len__(self) -> int:
        """Batches in every epoch: of this rank or, where ranks are unequal, of the one with the most. A
        rank that said it had none would leave out the end of the evaluation, where all wait for it.
        """
        return self._count

    @property
    def sampler(self) -> BatchSampler:  # type: ignore[override]
        """Itself: where Lightning looks for `set_epoch`."""
        return self

    def set_epoch(self, epoch: int) -> None:
        """Choose the epoch that the next iteration yields."""
        if epoch != self.epoch:
            self.epoch, self.position = epoch, 0

    def resume(self, epoch: int, position: int) -> None:
        """Let the next iteration, if it is of this epoch, leave out its first `position`
        batches.
        """
        self.epoch, self.position = epoch, position
        self._resumed = (epoch, position)

    def begin(self) -> int:
        """Settle on the epoch of the iteration that starts; batches of it to leave out."""
        if self._current_epoch is not None:
            self.set_epoch(self._current_epoch())
        epoch, position = self._resumed or (-1, 0)
        self.position = position if epoch == self.epoch else 0
        return self.position

    def __iter__(self) -> Iterator[list[tuple[int, int]]]:  # type: ignore[override]
        """The batches: for each sample its row and the epoch, which is all that chance may depend on."""
        start, self._resumed = self.begin(), None
        epoch = self.epoch
        mine = self._share(self.plan(epoch), self._rank)
        yield from ([(row, epoch) for row in batch.tolist()] for batch in mine[start:])


class Loader(torch_data.DataLoader[Any]):
    """A DataLoader over a `BatchSampler` that can be resumed in mid-epoch: Lightning saves and
    loads its state.

    Nothing is read before the first batch is asked for, as Lightning opens the loader of an epoch
    before it names the epoch.
    """

    def __iter__(self) -> Any:
        sampler = self.batch_sampler
        if not isinstance(sampler, BatchSampler):
            yield from super().__iter__()
            return
        sampler.begin()
        for batch in super().__iter__():
            sampler.position += 1
            yield batch

    def state_dict(self) -> dict[str, Any]:
        """Epoch and batches handed out of it, with what they were counted in."""
        sampler = self.batch_sampler
        assert isinstance(sampler, BatchSampler)
        counted: dict[str, Any] = {"plan": sampler.fingerprint, "batches": len(sampler)}
        counted["world_size"] = sampler.world_size
        return {"epoch": sampler.epoch, "position": sampler.position, **counted}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on behind the batches that `state` counts.

        Raises:
            InputError: the state is from the middle of an epoch that was shared by another number of
                processes, or had another number of batches.
        """
        sampler = self.batch_sampler
        assert isinstance(sampler, BatchSampler)
        within = state["position"] not in (0, state["batches"])
        if within and state["world_size"] != sampler.world_size:
            raise InputError(
                f"the checkpoint is from the middle of an epoch on {state['world_size']} "
                f"processes, and there are {sampler.world_size} now: resume with as many devices, "
                "or from a checkpoint between epochs."
            )
        if within and state.get("plan", sampler.fingerprint) != sampler.fingerprint:
            raise InputError(
                f"the checkpoint is from the middle of an epoch of {state['batches']} batches, and these "
                f"are {len(sampler)} others: what is left of that epoch is unknown. Resume with the data, "
                "tokenizer, batch size and seed of then, or from a checkpoint between epochs."
            )
        sampler.resume(state["epoch"], state["position"])
