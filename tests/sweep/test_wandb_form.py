"""The form for W&B, held to W&B's own schema and to what its agent does with it."""

import os
import subprocess
from pathlib import Path

import pytest
import yaml
from wandb.apis.public.sweeps import _validate_config_and_fill_distribution as filled
from wandb.sdk.launch.sweeps import utils as wandb_sweeps

from lit_lm.cli import main
from lit_lm.sweep import load, wandb_form
from lit_lm.sweep.search import flags, settings
from lit_lm.training import LitCLI

from ..conftest import ROOT
from .conftest import RATE, WIDTH

SHIPPED = sorted((ROOT / "configs" / "sweep").glob("*.yaml"))


@pytest.fixture
def full(bench):
    """A sweep that uses all that there is."""
    bench.settings |= {"method": "random", "runs": 4, "seed": 3, "project": "mine"}
    bench.settings["parameters"] = {
        RATE: {"distribution": "log_uniform_values", "min": "1e-4", "max": 1},
        WIDTH: {"values": [64, 128]},
        "model.init_args.net.init_args.num_layers": {"min": 1, "max": 3},
        "model.init_args.net.init_args.dropout": {"min": 0, "max": 0.5},
        "model.init_args.optim.betas": {"value": [0.9, 0.98]},
        "compile": {"value": False},
    }
    return bench


def violations(form):
    """What ``wandb sweep --controller`` finds wrong; the same schema is the server's."""
    pytest.importorskip("sweeps", reason="pip install --no-deps sweeps jsonref: W&B's own schema")
    from wandb.wandb_controller import _WandbController

    return _WandbController._validate(None, form)


@pytest.mark.filterwarnings("ignore:Valid config keys have changed")
def test_wandb_takes_it(full):
    form = wandb_form(full.load())
    assert violations(form) == ""
    assert "'runs' was unexpected" in violations({**form, "runs": 3})


@pytest.mark.filterwarnings("ignore:Valid config keys have changed")
@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_wandb_takes_the_shipped_ones(path):
    assert violations(wandb_form(load(path))) == ""


def test_the_form_says_what_the_sweep_says(full):
    form = wandb_form(full.load())
    assert {key: form[key] for key in ("name", "project", "method", "run_cap", "metric")} == {
        "name": "rates",
        "project": "mine",
        "method": "random",
        "run_cap": 4,
        "metric": {"name": "val/loss", "goal": "minimize"},
    }
    assert set(form["parameters"]) == set(full.settings["parameters"])
    assert form["parameters"][RATE] == {
        "distribution": "log_uniform_values",
        "min": 1e-4,
        "max": 1.0,
    }
    assert filled(form) == form  # nothing is left for W&B to guess
    assert yaml.safe_load(yaml.safe_dump(form)) == form


def test_an_agent_calls_fit_with_the_flags_of_a_member(full, tmp_path):
    sweep = full.load()
    chosen = settings(sweep)[0]
    arguments = wandb_sweeps.create_sweep_command_args(
        {"args": {key: {"value": value} for key, value in chosen.items()}}
    )["args"]
    assert arguments == flags(chosen)
    # As the agent puts it together; in the place of lit-lm stands what prints its arguments.
    command = []
    for word in wandb_sweeps.create_sweep_command(list(wandb_form(sweep)["command"])):
        command += arguments if word == "${args}" else [word]
    stub = tmp_path / "bin" / "lit-lm"
    stub.parent.mkdir()
    stub.write_text('#!/bin/sh\nprintf "%s\\n" "$@"\n')
    stub.chmod(0o755)
    environment = {"PATH": f"{stub.parent}:{os.environ['PATH']}", "WANDB_RUN_ID": "k3v9"}
    said = subprocess.run(command, env=environment, capture_output=True, text=True, check=True)
    assert said.stdout.splitlines() == [
        "fit",
        f"--config={tmp_path / 'experiment.yaml'}",
        f"--run.dir={tmp_path / 'out' / 'rates' / 'agents'}",
        "--run.name=k3v9",
        "--run.group=rates",
        *flags(chosen),
    ]


def test_a_shipped_experiment_goes_by_its_name_and_a_command_of_ones_own_stays(bench):
    bench.settings["config"] = "experiment/builtin_gpt"
    assert "--config=experiment/builtin_gpt " in " ".join(wandb_form(bench.load())["command"])
    bench.settings["command"] = ["srun", "lit-lm", "fit", "${args}"]
    assert wandb_form(bench.load())["command"] == bench.settings["command"]


def test_the_command_line_prints_or_writes_it(bench, capsys, tmp_path):
    path = bench.write()
    assert main(["sweep", str(path), "--wandb"]) == 0
    assert yaml.safe_load(capsys.readouterr().out) == wandb_form(load(path))
    assert main(["sweep", str(path), "--wandb", "--output", str(tmp_path / "deep/w.yaml")]) == 0
    assert yaml.safe_load((tmp_path / "deep/w.yaml").read_text()) == wandb_form(load(path))
    assert "wandb sweep" in capsys.readouterr().out
    assert not bench.output.exists()
    assert main(["sweep", str(path), "--output", "x.yaml"]) == 2
    assert "--output is for --wandb" in capsys.readouterr().err
    bench.settings["method"] = "bayes"
    assert main(["sweep", str(bench.write())]) == 2
    assert "choose grid or random" in capsys.readouterr().err


@pytest.mark.parametrize("path", SHIPPED, ids=lambda p: p.stem)
def test_fit_takes_the_flags_of_the_shipped_ones(path: Path, monkeypatch) -> None:
    sweep = load(path)
    chosen = settings(sweep)[-1]
    parsed = []

    def stop(cli):
        parsed.append(cli.config["fit"])
        raise InterruptedError

    monkeypatch.setattr(LitCLI, "instantiate_classes", stop)
    with pytest.raises(InterruptedError):
        LitCLI(["fit", f"--config={sweep.config}", *flags(chosen)])
    for key, value in chosen.items():
        assert parsed[0][key] == value
