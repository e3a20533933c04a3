"""Which runs there are, and what they are made from."""

import pytest

from lit_lm import InputError
from lit_lm.compare import Comparison, Member, load
from lit_lm.compare.plan import read_settings, trials

from .conftest import LM, read


def planned(house, **settings):
    house.settings = settings
    return trials(load(house.write()), 1, "code", read)


def test_rates_are_multiples_of_what_a_run_would_have():
    """By the real command line, however the rate was given."""
    for flag in ("--model.init_args.optim={lr: 0.004}", "--model.optim.lr=0.004"):
        member = Member("gpt", "experiment/builtin_gpt", (flag,))
        _, twice = trials(
            Comparison("a", (member,), learning_rates=(1, 2)), 1, "code", read_settings
        )
        assert "--model.init_args.optim.lr=0.008" in twice.job.payload["overrides"]


def test_settings_that_cannot_be_are_found_before_anything_runs(capsys):
    member = Member("gpt", "experiment/builtin_gpt", ("--trainer.max_stepz=3",))
    with pytest.raises(SystemExit):
        trials(Comparison("a", (member,)), 1, "code", read_settings)
    said = capsys.readouterr().err
    assert said.startswith("lit-lm compare (gpt): error: unrecognized arguments: --trainer.max_st")
    assert "lit-lm fit --help" in said


def test_curves_that_cannot_be_read_are_found_before_anything_runs(house):
    house.add("gpt", LM)
    for content in ('{"tables": []}', "[]"):
        (house.folder / "results.json").write_text(content)
        house.settings = {"curves": [str(house.folder)]}
        with pytest.raises(InputError, match="does not hold the results of a curve"):
            house.run()
    assert house.starts() == []


def test_a_seed_of_the_experiment_s_own_is_one_of_the_seeds(house):
    house.add("gpt", LM, overrides=["--seed_everything=1", "--data.init_args.seed=1"])
    (alone,) = planned(house)
    assert alone.job.payload["overrides"][-1] == "--data.init_args.seed=1"
    (first,) = planned(house, seeds=3)
    assert first.job.payload["overrides"][-2:] == ["--seed_everything=0", "--data.init_args.seed=0"]


@pytest.mark.parametrize(
    ("names", "settings"),
    [
        (("gpt", "gpt-x2"), {"learning_rates": [1, 2]}),
        (("gpt", "GPT-seed1"), {"seeds": 2}),
        (("gpt", "gpt-x2-seed1"), {"learning_rates": [1, 2], "seeds": 2}),
    ],
)
def test_no_two_runs_are_called_alike(house, names, settings):
    for name in names:
        house.add(name, LM)
    with pytest.raises(InputError, match=f"are called '{names[1].lower()}'"):
        planned(house, **settings)


def test_what_a_result_is_made_from(house, tmp_path, monkeypatch):
    """The user's own code, texts matched by a pattern and layers count, however they are named."""
    monkeypatch.chdir(tmp_path)
    (tmp_path / "my_net.py").write_text("class Net: ...\n")
    (tmp_path / "mine").mkdir()
    for name in ("mine/__init__.py", "mine/net.py", "text1.txt", "layer.yaml"):
        (tmp_path / name).write_text("a: 1\n")
    ways = {
        "my_net.py": ["--model.init_args.net={class_path: my_net.Net}"],
        "mine/net.py": ['--model.init_args.net={"class_path": "mine.net.Net"}'],
        "text1.txt": ["--data.init_args.source={init_args: {train: text*.txt}}"],
        "layer.yaml": ["--config=layer"],
    }
    for name, overrides in ways.items():

        def identity(overrides=overrides):
            house.add("gpt", LM, overrides=overrides)
            comparison = load(house.write())
            (run,) = trials(comparison, 1, "code", lambda flags, asks: {})
            return run.job.identity

        before = identity()
        assert identity() == before
        (tmp_path / name).write_text("b: 2\n")
        assert identity() != before, name
