"""The batch plan's promises, over everything that is asked of it."""

from __future__ import annotations

from itertools import islice, pairwise

import numpy as np
import pytest
import torch
from hypothesis import given, reject
from hypothesis import strategies as st
from torch.utils.data import Dataset

from lit_lm.data import BatchSampler, Loader, plan_batches
from lit_lm.errors import InputError

LENGTHS = st.lists(st.integers(1, 30), min_size=8, max_size=120)
RULES = st.one_of(
    st.builds(lambda n, p: {"batch_size": n, "pooled": p}, st.integers(1, 20), st.booleans()),
    st.builds(lambda n: {"batch_tokens": n}, st.integers(30, 200)),
)


@given(LENGTHS, RULES, st.booleans(), st.integers(0, 5), st.integers(1, 8))
def test_plans_partition_within_budget(lengths, rule, shuffle, epoch, world_size) -> None:
    options = {**rule, "shuffle": shuffle, "seed": 3, "world_size": world_size}
    try:
        plan = plan_batches(lengths, epoch=epoch, **options)
    except InputError:
        # Refused only where there are too few rows for every rank to get as many batches.
        alone = len(plan_batches(lengths, epoch=epoch, **(options | {"world_size": 1})))
        assert -(-alone // world_size) * world_size > len(lengths)
        reject()
    assert sorted(np.concatenate(plan).tolist()) == list(range(len(lengths)))
    assert len(plan) % world_size == 0
    assert len(plan) == len(plan_batches(lengths, epoch=epoch + 1, **options))
    for batch in plan:
        longest = max(lengths[i] for i in batch)
        assert len(batch) > 0
        assert len(batch) <= rule.get("batch_size", len(batch))
        assert len(batch) * longest <= rule.get("batch_tokens", len(batch) * longest)
    again = plan_batches(lengths, epoch=epoch, **options)
    assert all(np.array_equal(a, b) for a, b in zip(plan, again, strict=True))


@given(LENGTHS, st.integers(30, 200))
def test_token_batches_are_as_full_as_can_be(lengths, budget) -> None:
    plan = plan_batches(lengths, batch_tokens=budget, shuffle=False, seed=0, epoch=0)
    for batch, following in pairwise(plan):
        assert (len(batch) + 1) * lengths[following[0]] > budget
    assert [lengths[i] for batch in plan for i in batch] == sorted(lengths)


def test_pools_waste_little_and_mix_anew_in_every_epoch() -> None:
    lengths = np.random.default_rng(0).geometric(1 / 20, 4000)

    def plan(epoch: int, **settings) -> list[np.ndarray]:
        return plan_batches(lengths, batch_size=16, seed=0, epoch=epoch, **settings)

    def waste(batches: list[np.ndarray]) -> float:
        return 1 - lengths.sum() / sum(len(b) * lengths[b].max() for b in batches)

    pooled = plan(0, shuffle=True, pooled=True)
    assert waste(pooled) < 0.1 < 0.5 < waste(plan(0, shuffle=True))
    assert waste(plan(0, shuffle=False, pooled=True)) < 0.02
    longest = [lengths[b].max() for b in pooled]
    assert longest != sorted(longest)  # short and long batches take turns
    ours, theirs = (
        {frozenset(b.tolist()) for b in plan(e, shuffle=True, pooled=True)} for e in (0, 1)
    )
    assert len(ours & theirs) < 5


def test_epochs_and_seeds_differ_and_equal_lengths_mix() -> None:
    lengths = np.repeat([5, 9], 50)

    def rows(epoch: int, seed: int = 0, **rule) -> list[frozenset[int]]:
        plan = plan_batches(lengths, shuffle=True, seed=seed, epoch=epoch, **rule)
        return [frozenset(batch.tolist()) for batch in plan]

    for rule in ({"batch_size": 10}, {"batch_tokens": 50}):
        assert rows(0, **rule) != rows(1, **rule)
        assert rows(0, **rule) != rows(0, seed=1, **rule)
        assert set(rows(0, **rule)) != set(rows(1, **rule)), "not only the order of batches"


def test_without_shuffle_batches_are_in_order() -> None:
    plan = plan_batches([3] * 10, batch_size=4, shuffle=False, seed=0, epoch=7)
    assert [batch.tolist() for batch in plan] == [[0, 1, 2, 3], [4, 5, 6, 7], [8, 9]]
    halved = plan_batches([3] * 10, batch_size=4, shuffle=False, seed=0, epoch=7, world_size=2)
    assert [batch.tolist() for batch in halved] == [[0, 1], [2, 3], [4, 5, 6, 7], [8, 9]]


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"batch_tokens": 10}, "2 of 4 rows are longer than batch_tokens=10, the longest has 12"),
        ({}, "exactly one of batch_size and batch_tokens"),
        ({"batch_size": 1, "batch_tokens": 20}, "exactly one"),
        ({"batch_size": 0}, "batch_size=0 must be at least 1"),
        ({"batch_size": 1, "world_size": 3}, "4 batches of one row each .* by 3 processes"),
        ({"batch_size": 1, "world_size": 5}, "4 rows cannot be shared by 5 processes"),
    ],
)
def test_errors(options, message) -> None:
    with pytest.raises(InputError, match=message):
        plan_batches([3, 11, 12, 4], shuffle=False, seed=0, epoch=0, **options)


class _Numbers(Dataset):
    """Gives back the row and the epoch that it was asked for."""

    def __len__(self) -> int:
        return 40

    def __getitem__(self, at: tuple[int, int]) -> torch.Tensor:
        return torch.tensor(at)


def _loader(rank: int = 0, world_size: int = 1, num_workers: int = 0, **rule) -> Loader:
    rule = rule or {"batch_tokens": 60}
    lengths = np.arange(40) % 13 + 1
    sampler = BatchSampler(lengths, **rule, shuffle=True, rank=rank, world_size=world_size)
    data = _Numbers()
    return Loader(data, batch_sampler=sampler, num_workers=num_workers)


def _read(loader: Loader, count: int | None = None) -> list[list[int]]:
    return [batch[:, 0].tolist() for batch in islice(loader, count)]


@pytest.mark.parametrize("world_size", [1, 2, 3])
def test_ranks_share_the_plan(world_size: int) -> None:
    shares = [_read(_loader(rank, world_size)) for rank in range(world_size)]
    assert sorted(i for share in shares for batch in share for i in batch) == list(range(40))
    assert (
        len({len(share) for share in shares})
        == 1
        == len({len(_loader(r, world_size)) for r in range(world_size)})
    )


@pytest.mark.parametrize("num_workers", [0, 2])
def test_resuming_skips_exactly(num_workers: int) -> None:
    whole = _loader()
    whole.batch_sampler.sampler.set_epoch(3)
    expected = _read(whole)
    broken = _loader(num_workers=num_workers)
    broken.batch_sampler.set_epoch(3)
    assert _read(broken, 2) == expected[:2]
    state = broken.state_dict()
    assert state.pop("plan") == broken.batch_sampler.fingerprint
    assert state == {"epoch": 3, "position": 2, "batches": len(expected), "world_size": 1}
    resumed = _loader(num_workers=num_workers)
    resumed.load_state_dict(state)
    assert len(resumed) == len(expected)
    opened = iter(resumed)
    resumed.batch_sampler.set_epoch(3)
    assert [batch[:, 0].tolist() for batch in opened] == expected[2:]
    assert _read(resumed) == expected, "only once"
    resumed.load_state_dict(state)
    resumed.batch_sampler.set_epoch(4)
    assert len(_read(resumed)) == len(expected), "only the epoch that was broken off"


def test_samples_are_asked_for_with_their_epoch() -> None:
    loader = _loader()
    loader.batch_sampler.set_epoch(3)
    assert {epoch for batch in loader for epoch in batch[:, 1].tolist()} == {3}


@given(LENGTHS, RULES, st.integers(1, 130))
def test_evaluation_has_the_batches_of_one_process(lengths, rule, world_size) -> None:
    def sampler(rank: int, world_size: int) -> BatchSampler:
        return BatchSampler(lengths, **rule, rank=rank, world_size=world_size, even=False)

    whole = list(sampler(0, 1))
    shares = [list(sampler(rank, world_size)) for rank in range(world_size)]
    assert len(whole) == sum(map(len, shares))
    assert [shares[i % world_size][i // world_size] for i in range(len(whole))] == whole
    # All say the same, so that a rank without a batch takes part in what comes behind the last.
    assert {len(sampler(rank, world_size)) for rank in range(world_size)} == {len(shares[0])}


@given(st.integers(1, 60), st.integers(1, 12), st.integers(1, 8))
def test_lanes_of_an_evaluation_stay_whole(rows, batch_size, world_size) -> None:
    options = {"batch_size": batch_size, "consecutive": True, "even": False}

    def share(rank: int, world_size: int) -> list[list[int]]:
        sampler = BatchSampler([4] * rows, **options, rank=rank, world_size=world_size)
        assert len(sampler) == -(-rows // min(batch_size, rows))
        return [[row for row, _ in batch] for batch in sampler]

    lanes = set()
    for rank in range(world_size):
        mine = share(rank, world_size)
        for before, after in pairwise(mine):
            assert after == [row + 1 for row in before[: len(after)]]
        lanes |= set(mine[0] if mine else ())
    assert lanes == set(share(0, 1)[0]), "the same lanes as in one process"
    everything = [i for r in range(world_size) for batch in share(r, world_size) for i in batch]
    assert sorted(everything) == list(range(rows))


@pytest.mark.parametrize("rows", [40, 41, 37, 12])
@pytest.mark.parametrize("world_size", [1, 2])
def test_consecutive_rows_go_on_from_batch_to_batch(rows: int, world_size: int) -> None:
    if rows == 37 and world_size == 2:
        with pytest.raises(InputError, match="37 rows in 12 lanes"):
            _lanes(rows, world_size)
        return
    plan = _lanes(rows, world_size)
    assert sorted(np.concatenate(plan).tolist()) == list(range(rows))
    for rank in range(world_size):
        mine = plan[rank::world_size]
        for before, after in pairwise(mine):
            assert len(after) <= len(before)
            assert (after == before[: len(after)] + 1).all()


def _lanes(rows: int, world_size: int) -> list[np.ndarray]:
    return plan_batches(
        [4] * rows,
        batch_size=6,
        shuffle=True,
        seed=0,
        epoch=1,
        world_size=world_size,
        consecutive=True,
    )


def test_an_iteration_broken_off_is_not_resumed_unasked() -> None:
    loader = _loader()
    assert _read(loader, 2) == _read(loader)[:2]
    loader.batch_sampler.set_epoch(1)
    assert loader.state_dict()["position"] == 0


def test_resuming_on_another_number_of_processes() -> None:
    state = {**_loader().state_dict(), "position": 1}
    with pytest.raises(InputError, match="on 1 processes, and there are 2 now"):
        _loader(0, 2).load_state_dict(state)
    _loader(0, 2).load_state_dict({**state, "position": state["batches"]})


def test_resuming_in_an_epoch_of_other_batches_is_refused() -> None:
    state = {**_loader().state_dict(), "position": 1}
    now = len(_loader(batch_size=3))
    with pytest.raises(
        InputError, match=rf"epoch of {state['batches']} batches, .* are {now} others:"
    ):
        _loader(batch_size=3).load_state_dict(state)
    _loader(batch_size=3).load_state_dict({**state, "position": state["batches"]})


def test_reading_moves_no_global_random_numbers() -> None:
    torch.manual_seed(0)
    before = torch.get_rng_state()
    from lit_lm.data import BuiltinPairs, PairData, TokenizerConfig

    data = PairData(BuiltinPairs(train=2, val=1, test=1), TokenizerConfig("byte"), batch_size=4)
    next(iter(data.train_dataloader()))
    assert torch.equal(torch.get_rng_state(), before)
