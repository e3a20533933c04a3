"""Every shipped configuration, found by glob: parsed, and run for a step on stand-in data."""

from __future__ import annotations

import re
from pathlib import Path

import pytest
import torch
import yaml

from lit_lm import configs
from lit_lm.curve import load as load_curve
from lit_lm.errors import InputError
from lit_lm.flops import cost
from lit_lm.tasks import Adaptation, MaskedLM
from lit_lm.training import LitCLI, run_cli
from tests.conftest import ROOT

EXPERIMENTS = sorted((ROOT / "configs" / "experiment").glob("*.yaml"))
COMPARISONS = sorted((ROOT / "configs" / "compare").glob("*.yaml"))
CURVES = sorted((ROOT / "configs" / "curve").glob("*.yaml"))
MAX_PARAMETERS = 10e6
SMALL = [f"--model.init_args.net.init_args.{s}=64" for s in ("d_model", "d_ff")]

# Enough data for a step and no more; the corpora are stand-ins.
QUICK = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--run.wandb=disabled"]
ONE_STEP = [
    "--trainer.max_steps=1",
    "--trainer.limit_val_batches=1",
    "--data.init_args.num_workers=0",
]


def sizes(experiment: Path, corpora: Path) -> list[str]:
    """Flags that make generated data small, and networks that take gigabytes; and a stand-in for what is on the hub."""
    network = SMALL if parameters(network_of(experiment)) > MAX_PARAMETERS else []
    data = yaml.safe_load(
        (experiment.parent / yaml.safe_load(experiment.read_text())["data"]).read_text()
    )
    source = data["init_args"]["source"]["class_path"]
    prefix = "--data.init_args.source.init_args"
    if "Hub" in source:
        return [*network, f"{prefix}.name={corpora / 'wmt14'}", f"{prefix}.config=null"]
    if "Builtin" in source:
        return [f"{prefix}.{s}={n}" for s, n in (("train", 60), ("val", 8), ("test", 8))]
    return network


def network_of(experiment: Path) -> Path:
    model = yaml.safe_load(experiment.read_text())["model"]["init_args"]
    return experiment.parent / model.get("net", model.get("encoder"))


def parameters(path: Path) -> int:
    from tests.architectures import SPEC, load

    with torch.device("meta"):
        return cost(load(path).build(SPEC), 8, 8).parameters


# Others differ from one that is run in names or sizes only.
LIKE_OTHERS = re.compile("multi30k_(en_fr|tagged)|wmt14_.*_big|builtin_(news|entities)|rte")


@pytest.mark.parametrize(
    "path",
    [
        pytest.param(p, marks=[pytest.mark.slow] * bool(LIKE_OTHERS.match(p.stem)))
        for p in EXPERIMENTS
    ],
    ids=lambda p: p.stem,
)
def test_experiment_runs_a_step(
    path: Path, in_corpora: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_lm.callbacks.pictures.draw", lambda *args: None)  # seconds each
    cli = run_cli(
        [
            "fit",
            "--config",
            str(path),
            *sizes(path, in_corpora),
            *QUICK,
            *ONE_STEP,
            f"--run.dir={tmp_path}",
        ]
    )
    assert cli.trainer.global_step == 1
    folder = tmp_path / cli.config.fit.run.name
    assert (folder / "checkpoints" / "last.ckpt").is_file()
    assert (folder / "config.yaml").is_file()
    header, *rows = (folder / "metrics.csv").read_text().splitlines()
    assert {"tokens", "bytes", "flops", "seconds", "val/loss"} <= set(header.split(","))
    if isinstance(cli.model, Adaptation):
        expected = {"val/f1"} if "val/f1" in header else {"val/macro_f1"}
    else:
        expected = (
            {"val/mlm_accuracy"} if isinstance(cli.model, MaskedLM) else {"val/ppl", "val/bpb"}
        )
    assert expected <= set(header.split(","))
    assert rows


@pytest.mark.parametrize("path", COMPARISONS, ids=lambda p: p.stem)
def test_comparison_names_experiments_that_exist(path: Path) -> None:
    members = yaml.safe_load(path.read_text())["members"]
    assert members
    for member in members:
        assert configs.find(member["config"]).is_file()


@pytest.mark.parametrize("path", CURVES, ids=lambda p: p.stem)
def test_curve_names_experiments_that_exist(path: Path) -> None:
    curve = load_curve(path)
    encoders = [encoder.pretrain or encoder.net for encoder in curve.encoders]
    for name in [*(task.config for task in curve.tasks), *filter(None, encoders)]:
        assert configs.find(name).is_file()


def test_every_model_config_is_small_enough_or_builds_on_meta() -> None:
    for path in sorted((ROOT / "configs" / "model").glob("*.yaml")):
        assert parameters(path) > 0


def test_layers_override_from_left_to_right(in_corpora: Path, tmp_path: Path) -> None:
    class Parsed(LitCLI):
        def instantiate_classes(self) -> None:
            raise _StopHere(self.config["fit"])

    layer = tmp_path / "layer.yaml"
    layer.write_text(
        "trainer: {max_steps: 7}\nmodel: {init_args: {optim: {lr: 0.5}, net: {init_args: {d_model: 64}}}}\n"
    )
    with pytest.raises(_StopHere) as stop:
        Parsed(
            [
                "fit",
                "--config=experiment/builtin_gpt",
                f"--config={layer}",
                "--config=trainer/bf16",
                "--config=trainer/early_stopping",
                "--model.init_args.optim.lr=0.25",
            ]
        )
    config = stop.value.config
    assert config.trainer.max_steps == 7
    assert config.trainer.precision == "bf16-mixed"
    assert config.trainer.gradient_clip_val == 1.0  # from trainer/default, which is always there
    assert config.model.init_args.optim.lr == 0.25
    assert config.model.init_args.net.init_args.d_model == 64
    assert config.model.init_args.net.init_args.num_layers == 3
    callbacks = [c.class_path.rpartition(".")[2] for c in config.trainer.callbacks]
    assert callbacks == ["Bar", "ModelCheckpoint", "Samples", "EarlyStopping"]


class _StopHere(Exception):
    def __init__(self, config: object) -> None:
        self.config: object = config


def test_unknown_names_are_refused_with_what_is_near() -> None:
    with pytest.raises(InputError, match=r"experiment/builtin_gtp.*experiment/builtin_gpt"):
        configs.find("experiment/builtin_gtp")


def test_unknown_keys_are_refused(capsys: pytest.CaptureFixture[str]) -> None:
    for flag, key in (
        ("--model.init_args.net.init_args.num_leyers=3", "num_leyers"),
        ("--trainer.max_stepz=3", "max_stepz"),
        ("--data.init_args.lenght=3", "lenght"),
    ):
        with pytest.raises(SystemExit) as stop:
            run_cli(["fit", "--config=experiment/builtin_gpt", flag])
        assert stop.value.code != 0
        assert key in capsys.readouterr().err
