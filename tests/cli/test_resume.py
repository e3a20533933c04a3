"""``lit-lm fit --ckpt_path``: goes on, starts anew and says so, or refuses; flags mean what they say."""

from __future__ import annotations

import os
import shutil
import signal
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm.cli import main
from lit_lm.training import LitCLI, run_cli
from tests import forks
from tests.cli import QUICK

NET = "--model.init_args.net.init_args"
OPTIM = "--model.init_args.optim"


def fit(folder: Path, out: Path, *flags: str, name: str = "gpt") -> LitCLI:
    return run_cli(["fit", f"--config={folder}/{name}.yaml", f"--run.dir={out}", *QUICK, *flags])


def refused(folder: Path, out: Path, capsys: Any, *flags: str) -> str:
    args = ["fit", f"--config={folder}/gpt.yaml", f"--run.dir={out}", *QUICK, *flags]
    try:
        status: Any = main(args)
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    assert status == 2, error
    assert "Traceback" not in error
    return str(error)


def last(out: Path) -> dict[str, Any]:
    content: dict[str, Any] = torch.load(
        out / "gpt" / "checkpoints" / "last.ckpt", weights_only=True
    )
    return content


@pytest.fixture
def begun(folder: Path, tmp_path: Path) -> Path:
    """A run of three steps, which ends in the middle of an epoch."""
    fit(folder, tmp_path, "--trainer.max_steps=3")
    return tmp_path


@pytest.fixture(scope="module")
def three_steps(folder: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    out = tmp_path_factory.mktemp("three")
    fit(folder, out, "--trainer.max_steps=3")
    return out


@pytest.fixture
def copied(three_steps: Path, tmp_path: Path) -> Path:
    """The same in another folder, for what does not go on with it."""
    return Path(shutil.copytree(three_steps, tmp_path, dirs_exist_ok=True))


def test_last_without_any_is_a_new_start(
    folder: Path, tmp_path: Path, capsys: Any, caplog: Any
) -> None:
    assert fit(folder, tmp_path, "--ckpt_path=last").trainer.global_step == 4
    assert "there is no checkpoint in" in caplog.text
    assert "there is none in" in refused(folder, tmp_path / "none", capsys, "--ckpt_path=best")


def test_longer_equals_whole(folder: Path, begun: Path, tmp_path_factory: Any) -> None:
    """Three steps and then twelve are twelve steps, in weights and in rows (no schedule depends on the end)."""
    fit(
        folder, begun, "--ckpt_path=last", "--trainer.max_steps=12", "--trainer.log_every_n_steps=1"
    )
    whole = tmp_path_factory.mktemp("whole")
    fit(folder, whole, "--trainer.max_steps=12", "--trainer.log_every_n_steps=1")
    a, b = last(begun), last(whole)
    assert a["global_step"] == b["global_step"] == 12
    for key, value in a["state_dict"].items():
        assert torch.equal(value, b["state_dict"][key]), key


def test_what_changed_is_named_and_honoured(folder: Path, begun: Path, caplog: Any) -> None:
    cli = fit(
        folder,
        begun,
        "--ckpt_path=last",
        "--trainer.max_steps=6",
        f"{OPTIM}.lr=0.5",
        f"{OPTIM}.weight_decay=0.25",
        f"{NET}.dropout=0.3",
        "--trainer.gradient_clip_val=0.125",
    )
    group = cli.trainer.optimizers[0].param_groups[0]
    assert (group["lr"], group["initial_lr"], group["weight_decay"]) == (0.5, 0.5, 0.25)
    assert cli.trainer.gradient_clip_val == 0.125
    assert cli.model.net.dropout.p == 0.3
    assert last(begun)["hyper_parameters"]["optim"]["lr"] == 0.5
    for line in ("optim.lr: None -> 0.5", "max_steps: 3 -> 6", "dropout: 0.1 -> 0.3"):
        assert line in caplog.text


@pytest.mark.parametrize(
    ("flag", "words"),
    [
        (f"{NET}.d_model=64", ["embedding.weight", "32", "64"]),
        (f"{NET}.num_layers=3", ["it has no", "blocks.2"]),
        (f"{OPTIM}.optimizer=muon", ["adamw", "muon", "start anew"]),
        ("--seed_everything=5", ["seed_everything=0", "seed_everything=5"]),
        ("--data.init_args.batch_size=3", ["middle of an epoch"]),
        ("--data.init_args.seed=3", ["middle of an epoch"]),
        ("--data.init_args.tokenizer.kind=byte", ["tokenizer"]),
        ("--trainer.max_epochs=-2", ["max_epochs"]),
    ],
)
def test_what_cannot_be_is_refused(
    flag: str, words: list[str], folder: Path, copied: Path, capsys: Any
) -> None:
    error = refused(folder, copied, capsys, "--ckpt_path=last", "--trainer.max_steps=9", flag)
    for word in words:
        assert word in error


def test_test_takes_settings_from_the_checkpoint_but_for_flags(
    folder: Path, trained: dict[str, Path]
) -> None:
    flags = ["--model.init_args.beam.size=2", "--model.init_args.label_smoothing=0.3"]
    given = f"--ckpt_path={trained['mt']}"
    cli = run_cli(["test", f"--config={folder}/mt.yaml", given, *QUICK, *flags])
    assert cli.model.beam.size == 2
    assert cli.model.label_smoothing == 0.3
    assert cli.model.hparams["net"]["init_args"]["d_ff"] == 64
    cli = run_cli(["test", f"--config={folder}/gpt.yaml", "--ckpt_path=best", *QUICK])
    assert cli.trainer.ckpt_path == str(trained["gpt"])


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
def test_who_is_told_to_end_saves_before_leaving(
    folder: Path, tmp_path: Path, number: signal.Signals
) -> None:
    flags = [f"--config={folder}/gpt.yaml", f"--run.dir={tmp_path}", *QUICK, "--ckpt_path=last"]
    args = ["fit", *flags, "--trainer.max_steps=-1", "--trainer.max_epochs=10000"]
    command = forks.Command(args, tmp_path / "said")
    checkpoint = tmp_path / "gpt" / "checkpoints" / "last.ckpt"
    while not checkpoint.exists() and command.running:
        time.sleep(0.05)
    step = last(tmp_path)["global_step"]
    command.send(number)
    assert command.wait() == 128 + number
    found = last(tmp_path)["global_step"]
    assert found >= step
    said = command.stdout.decode()
    assert f"saved at step {found}" in said
    assert "--ckpt_path=last" in said


def test_a_damaged_newest_checkpoint(folder: Path, begun: Path, capsys: Any) -> None:
    os.truncate(begun / "gpt" / "checkpoints" / "last.ckpt", 1000)
    error = refused(folder, begun, capsys, "--ckpt_path=last")
    assert "last.ckpt is damaged" in error
    assert "--ckpt_path=last-intact" in error
    flags = ["--ckpt_path=last-intact", "--trainer.max_steps=6"]
    assert fit(folder, begun, *flags).trainer.global_step == 6


def test_weights_alone_cannot_go_on(
    folder: Path, copied: Path, tmp_path: Path, capsys: Any
) -> None:
    content = last(copied)
    for key in ("optimizer_states", "lr_schedulers", "resume"):
        del content[key]
    torch.save(content, tmp_path / "weights.ckpt")
    error = refused(folder, copied, capsys, f"--ckpt_path={tmp_path}/weights.ckpt")
    assert "weights only" in error
