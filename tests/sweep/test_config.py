"""What a sweep's YAML may say, and what is said of what it may not."""

import pytest

from lit_lm import InputError
from lit_lm.sweep import Parameter

from .conftest import RATE, WIDTH


def test_all_forms_of_a_parameter(bench):
    bench.settings |= {"method": "random", "runs": 3}
    bench.settings["parameters"] = {
        "d": {"min": 1, "max": 4},
        "c": {"min": 0.0, "max": 1},
        "a": {"value": "text"},
        "b": {"values": [1, True, "1", 1.5, [0.9, 0.98]]},
        RATE: {"distribution": "log_uniform_values", "min": "1e-4", "max": "1e-2"},
    }
    sweep = bench.load()
    assert sweep.parameters == (
        Parameter("a", ("text",)),
        Parameter("b", (1, True, "1", 1.5, [0.9, 0.98])),
        Parameter("c", (), "uniform", 0.0, 1.0),
        Parameter("d", (), "int_uniform", 1, 4),
        Parameter(RATE, (), "log_uniform_values", 1e-4, 1e-2),
    )
    assert (sweep.metric.goal, sweep.seed, sweep.runs) == ("minimize", 0, 3)
    assert sweep.folder == bench.output


@pytest.mark.parametrize(
    ("change", "said"),
    [
        ({"method": "bayes"}, "method is 'bayes': choose grid or random"),
        ({"parameter": {}}, "unknown key 'parameter' (did you mean 'parameters'?)"),
        ({"path": "x"}, "unknown key 'path'"),
        ({"metric": None}, "the key 'metric' is missing"),
        ({"metric": {"name": "test/loss"}}, "metric.name is 'test/loss': settings are chosen by"),
        ({"metric": {"name": "val/loss", "goal": "min"}}, "metric.goal is 'min': choose one of"),
        ({"name": "a/b"}, "name is 'a/b'"),
        ({"runs": 3}, "runs is 3: a grid runs all combinations"),
        ({"method": "random"}, "runs is missing"),
        ({"method": "random", "runs": 0}, "runs is 0: it must be a whole number, at least 1"),
        ({"method": "random", "runs": 1, "seed": 0.5}, "seed is 0.5"),
        ({"command": ["lit-lm", "fit"]}, "lacks the word ${args}"),
        ({"command": "fit"}, "command is 'fit': it must be a list"),
        ({"parameters": {}}, "parameters is {}"),
        ({"parameters": []}, "parameters is []"),
    ],
)
def test_mistakes(bench, change, said):
    bench.settings |= change
    with pytest.raises(InputError) as error:
        bench.load()
    assert said in str(error.value)
    assert "rates.yaml" in str(error.value)


@pytest.mark.parametrize(
    ("key", "raw", "said"),
    [
        ("--lr", {"value": 1}, "'--lr' is no key that W&B takes"),
        (5, {"value": 1}, "5 is no key"),
        ("run.name", {"value": "x"}, "run.name is each member's own"),
        ("config", {"value": "x"}, "config is each member's own"),
        (RATE, [1, 2], "give value, or values, or min, max and distribution"),
        (RATE, {"values": [1], "min": 2}, "give value, or values"),
        (RATE, {"parameters": {"b": {"value": 1}}}, "give value, or values"),
        (RATE, {"values": []}, "must be a list of at least one value"),
        (RATE, {"values": [1, 2, 1]}, "one value stands there twice"),
        (RATE, {"values": [1, None]}, 'write the text "null"'),
        (RATE, {"value": {"a": [None]}}, 'write the text "null"'),
        (RATE, {"min": 2, "max": 1}, "min 2 must be below max 1"),
        (RATE, {"min": "x", "max": 1}, "min is 'x': it must be a number"),
        (RATE, {"min": False, "max": 1}, "min is False: it must be a number"),
        (RATE, {"min": 0, "max": ".inf"}, "max is '.inf'"),
        (RATE, {"min": 0, "max": 1, "distribution": "log_uniform"}, "'log_uniform': choose one of"),
        (RATE, {"min": 0, "max": 1, "distribution": "log_uniform_values"}, "one above 0"),
        (RATE, {"min": 0, "max": 1.5, "distribution": "int_uniform"}, "needs whole numbers"),
    ],
)
def test_mistakes_in_a_parameter(bench, key, raw, said):
    bench.settings |= {"method": "random", "runs": 2, "parameters": {key: raw}}
    with pytest.raises(InputError) as error:
        bench.load()
    assert said in str(error.value)
    assert str(key) in str(error.value)


def test_a_grid_takes_no_drawn_parameter(bench):
    bench.settings["parameters"] = {WIDTH: {"min": 1, "max": 3}, RATE: {"min": 0.1, "max": 0.2}}
    with pytest.raises(InputError, match=r"lr is drawn \(uniform\): a grid needs values"):
        bench.load()
