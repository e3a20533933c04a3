"""Which settings are tried: grids against a product, draws against their distributions; names."""

from dataclasses import replace
from itertools import product

import pytest
from scipy import stats

from lit_lm import InputError
from lit_lm.compare.keys import name_of
from lit_lm.sweep import Parameter
from lit_lm.sweep.search import comparison, flags, member_names, settings, short_keys

from .conftest import RATE, WIDTH


def drawn(sweep, runs, *parameters, seed=0):
    return settings(
        replace(sweep, method="random", runs=runs, parameters=tuple(parameters), seed=seed)
    )


def test_a_grid_is_the_product(bench):
    bench.settings["parameters"]["trainer.devices"] = {"min": 1, "max": 2}
    bench.settings["parameters"]["seed_everything"] = {"value": 7}
    made = settings(bench.load())
    expected = product([0.001, 0.002, 0.004], [64, 128], [1, 2])
    assert len(made) == 12
    assert {(m[RATE], m[WIDTH], m["trainer.devices"]) for m in made} == set(expected)
    assert {m["seed_everything"] for m in made} == {7}
    # Whatever their order in the file: net comes before what changes it.
    assert all(list(m) == sorted(m) for m in made)


def test_draws_follow_their_distributions(bench):
    rate = Parameter("a", (), "log_uniform_values", 1e-4, 1e-1)
    share = Parameter("b", (), "uniform", 2.0, 2.5)
    layers = Parameter("c", (), "int_uniform", 3, 6)
    kind = Parameter("d", ("x", "y"))
    made = drawn(bench.load(), 400, rate, share, layers, kind)
    assert stats.kstest([m["a"] for m in made], stats.loguniform(1e-4, 1e-1).cdf).pvalue > 0.01
    assert stats.kstest([m["b"] for m in made], stats.uniform(2.0, 0.5).cdf).pvalue > 0.01
    counts = [[m["c"] for m in made].count(n) for n in (3, 4, 5, 6)]
    assert sum(counts) == 400
    assert stats.chisquare(counts).pvalue > 0.01
    assert 150 < [m["d"] for m in made].count("x") < 250
    assert abs(stats.spearmanr([m["a"] for m in made], [m["b"] for m in made]).statistic) < 0.15
    assert all(1e-4 <= m["a"] <= 1e-1 and m["a"] == float(f"{m['a']:.4g}") for m in made)


def test_draws_come_from_the_seed_and_stay_when_others_join(bench):
    sweep, rate = bench.load(), Parameter("a", (), "uniform", 0.0, 1.0)
    other = Parameter("b", (), "uniform", 0.0, 1.0)
    made = drawn(sweep, 8, rate)
    assert drawn(sweep, 12, rate)[:8] == made
    assert [{"a": m["a"]} for m in drawn(sweep, 8, rate, other)] == made
    assert all(m["a"] != m["b"] for m in drawn(sweep, 8, rate, other))
    assert drawn(sweep, 8, rate, seed=1) != made


def test_nothing_is_drawn_twice(bench):
    few = Parameter("a", (), "int_uniform", 1, 5)
    assert sorted(m["a"] for m in drawn(bench.load(), 5, few)) == [1, 2, 3, 4, 5]
    with pytest.raises(InputError, match="runs is 6, and there are only 5 different ones"):
        drawn(bench.load(), 6, few)


def test_too_many_are_refused(bench):
    wide = Parameter("a", (), "int_uniform", 1, 5000)
    with pytest.raises(InputError, match="the grid has 5,000 members, and 1,000 is the most"):
        settings(replace(bench.load(), parameters=(wide,)))
    with pytest.raises(InputError, match="runs is 2,000"):
        drawn(bench.load(), 2000, wide)


def test_names_are_of_what_varies_and_stay_when_values_join(bench):
    made = comparison(bench.load(), settings(bench.load()))
    names = [member.name for member in made.members]
    assert names[0] == "d_model64-lr0.001"
    assert made.members[0].overrides == (f"--{WIDTH}=64", f"--{RATE}=0.001")
    bench.settings["parameters"][RATE]["values"].append(0.008)
    bench.settings["parameters"]["trainer.max_steps"] = {"value": 5}
    more = comparison(bench.load(), settings(bench.load()))
    assert set(names) < {member.name for member in more.members}


def test_names_are_folders_and_differ():
    chosen = [
        {"a.path": value}
        for value in ("x/net.yaml", "y/NET.yaml", "ä b", "a" * 90, "a" * 91, [1, 2], True, -0.5)
    ]
    names = member_names(chosen, ["a.path"])
    assert all(name_of(name, "a member") == name for name in names)
    assert len({name.lower() for name in names}) == len(names)
    assert max(map(len, names)) < 70
    assert names[2] == "pathb"
    assert names[5:] == ["path1_2", "pathtrue", "path-0.5"]
    assert member_names([{"a": 1}], []) == ["only"]


def test_keys_are_as_short_as_they_can_be():
    keys = ["model.init_args.net.init_args.dropout", "model.init_args.head.dropout", "trainer.x"]
    assert short_keys(keys) == ["net.dropout", "head.dropout", "trainer.x"]
    assert short_keys([RATE, WIDTH]) == ["lr", "d_model"]
    assert short_keys(["b", "a.b"]) == ["b", "a.b"]
    assert short_keys([]) == []


def test_flags_keep_the_order_and_the_values():
    assert flags({"b": True, "a": [0.9, 0.98]}) == ["--b=True", "--a=[0.9, 0.98]"]
