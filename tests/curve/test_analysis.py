import math
import random

import numpy as np
import pytest
from scipy import stats
from sklearn.isotonic import IsotonicRegression

from lit_lm.compare.student import t_quantile
from lit_lm.curve.analysis import Run, efficiencies, labels_needed, monotone, points


def runs(start, means, *, spread=0.0, encoder="bert"):
    """Two runs for each number of labels, so far on both sides of the mean."""
    return [
        Run("news", encoder, start, n, seed, examples=n, value=mean + (spread if seed else -spread))
        for n, mean in means.items()
        for seed in range(2)
    ]


def worth(found):
    return {each.labels: (each.factor, each.bound) for each in efficiencies(points(found))}


def test_a_factor_worked_out_by_hand():
    scratch = runs("scratch", {10: 0.2, 100: 0.4, 1000: 0.8}, spread=0.05)
    # 0.6 lies half way between 0.4 and 0.8, so half way between 100 and 1000 in the logarithm: 316.2 labels.
    found = worth(scratch + runs("pretrained", {10: 0.6, 100: 0.8, 1000: 0.9}, spread=0.1))
    assert found[10] == (pytest.approx(math.sqrt(100 * 1000) / 10), "")
    assert found[100] == (pytest.approx(10), "")
    assert found[1000] == (1.0, "more")


def test_pretraining_that_harms_has_a_factor_below_one():
    scratch = runs("scratch", {10: 0.5, 100: 0.7})
    found = worth(scratch + runs("pretrained", {10: 0.4, 100: 0.6}))
    assert found[10] == (1.0, "less")
    assert found[100] == (pytest.approx(math.sqrt(10 * 100) / 100), "")


def test_a_dip_from_scratch_is_levelled():
    scratch = runs("scratch", {10: 0.2, 30: 0.5, 100: 0.3, 1000: 0.8})
    # 0.5 and 0.3 pool to 0.4, which 30 labels reach.
    found = worth(scratch + runs("pretrained", {10: 0.4}))
    assert found[10] == (pytest.approx(3), "")


def test_factors_need_both_starts_and_stay_with_their_encoder():
    scratch = runs("scratch", {10: 0.1, 100: 0.9}, encoder="other")
    assert worth(scratch + runs("pretrained", {10: 0.5})) == {}
    both = scratch + runs("pretrained", {10: 0.5}) + runs("scratch", {10: 0.5, 100: 0.6})
    assert worth(both) == {10: (1.0, "")}


def test_a_hole_is_left_out_and_counted():
    failed = [Run("news", "bert", "scratch", 100, seed, reason="killed") for seed in range(2)]
    found = points(runs("scratch", {10: 0.2, 1000: 0.8}) + failed)
    hole = next(point for point in found if point.labels == 100)
    assert (hole.mean, hole.margin, hole.failed, hole.runs, hole.examples) == (
        None,
        None,
        2,
        2,
        100,
    )
    factor = worth(
        runs("scratch", {10: 0.2, 1000: 0.8}) + failed + runs("pretrained", {10: 0.5, 100: 0.8})
    )
    assert factor[10] == (pytest.approx(math.sqrt(10 * 1000) / 10), "")


def test_a_failed_run_and_one_not_run_yet_leave_the_others():
    found = [Run("news", "bert", "scratch", 10, k, 10, 0.1 * k) for k in range(1, 4)]
    found.append(Run("news", "bert", "scratch", 10, 0, 10, reason="killed"))
    found.append(Run("news", "bert", "scratch", 10, 4, 10))
    assert [run.status for run in found[2:]] == ["done", "failed", "not run yet"]
    (point,) = points(found)
    assert (point.values, point.failed, point.missing) == (pytest.approx((0.1, 0.2, 0.3)), 1, 1)
    assert point.runs == 5
    interval = stats.t.interval(0.95, 2, loc=0.2, scale=stats.sem([0.1, 0.2, 0.3]))
    assert point.margin == pytest.approx((interval[1] - interval[0]) / 2)


def test_collapsed_runs_count_in_the_mean():
    values = [(0.25, True), (0.25, True), (0.7, False)]
    (point,) = points(
        [Run("news", "bert", "scratch", 10, k, 10, v, c) for k, (v, c) in enumerate(values)]
    )
    assert (point.mean, point.collapsed, point.failed) == (pytest.approx(0.4), 2, 0)


def test_one_seed_has_no_interval():
    (point,) = points([Run("news", "bert", "scratch", 10, 0, 10, 0.5)])
    assert (point.mean, point.margin) == (0.5, None)


def test_all_examples_stand_where_any_run_says():
    found = points(
        [
            Run("news", "bert", "scratch", "all", 0, None, None, reason="killed"),
            Run("news", "lstm", "scratch", "all", 0, 1234, 0.9),
            Run("tags", "bert", "scratch", "all", 0, None, None, reason="killed"),
        ]
    )
    assert [point.examples for point in found] == [1234, 1234, None]
    # A place on the axis that nobody knows is no ground for a factor.
    unknown = Run("news", "bert", "pretrained", "all", 0, None, 0.5)
    assert efficiencies(points([Run("news", "bert", "scratch", 10, 0, 10, 0.1), unknown])) == []


def test_labels_needed_undoes_the_interpolation():
    counts, values = [10, 30, 100, 1000], [0.2, 0.5, 0.5, 0.9]
    for target in (0.2, 0.21, 0.4, 0.6, 0.9):
        needed, bound = labels_needed(counts, values, target)
        assert bound == ""
        assert np.interp(math.log(needed), np.log(counts), values) == pytest.approx(target)
    assert labels_needed(counts, values, 0.5) == (30.0, "")  # the fewest of a plateau


def test_quantiles_and_pools_against_scipy_and_scikit_learn():
    for freedom in (1, 2, 3, 4, 7, 30, 199):
        for share in (0.6, 0.975, 0.999):
            expected = stats.t.ppf(share, freedom)
            assert t_quantile(share, freedom) == pytest.approx(expected, rel=1e-9)
    drawn = random.Random(0)
    for _ in range(50):
        size = drawn.randint(1, 8)
        values = [drawn.randint(0, 5) / 5 for _ in range(size)]
        weights = [drawn.randint(1, 5) for _ in range(size)]
        expected = IsotonicRegression().fit_transform(range(size), values, sample_weight=weights)
        assert monotone(values, weights) == pytest.approx(list(expected))
