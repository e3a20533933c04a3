"""``trainer/fsdp`` and ``trainer/model_parallel`` as a user types them, on two processes without a GPU."""

from __future__ import annotations

import os
import subprocess
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm import checkpoints
from lit_lm.cli import main
from tests.cli import COMMAND, QUICK
from tests.tasks.test_exact_resume import assert_equal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1200)]
FLAGS = [
    *QUICK, "--trainer.accelerator=cpu", "--trainer.devices=2", "--trainer.max_epochs=-1",
    "--activation_checkpointing=true", "--config=trainer/bf16",
]  # fmt: skip


def fit(folder: Path, name: str, out: Path, kind: str, *flags: str) -> Path:
    command = [
        *COMMAND,
        "fit",
        f"--config={folder}/{name}.yaml",
        f"--config=trainer/{kind}",
        f"--run.dir={out}",
    ]
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    done = subprocess.run(
        [*command, *FLAGS, *flags], capture_output=True, text=True, env=env, check=False
    )
    assert done.returncode == 0, done.stderr[-4000:]
    return out / name / "checkpoints"


@pytest.mark.parametrize("name", ["mt", "elmo"])
def test_from_configuration_alone(name: str, folder: Path, tmp_path: Path, capsys: Any) -> None:
    """Dropout, half precision and activation checkpointing at once; on from shards in the middle of an epoch."""
    whole = fit(folder, name, tmp_path / "whole", "fsdp", "--trainer.max_steps=7")
    cut = fit(folder, name, tmp_path / "cut", "model_parallel", "--trainer.max_steps=3")
    assert (cut / "last.ckpt").is_dir()
    assert (cut / "best.ckpt").is_dir()
    fit(
        folder,
        name,
        tmp_path / "cut",
        "model_parallel",
        "--trainer.max_steps=7",
        "--ckpt_path=last",
    )
    one, two = (checkpoints.load(where / "last.ckpt") for where in (whole, cut))
    assert (whole / "last.ckpt").is_file()
    assert one["global_step"] == two["global_step"] == 7
    for key in ("state_dict", "optimizer_states", "lr_schedulers"):
        assert_equal(_plain(one[key]), _plain(two[key]), key)
    assert all(weight.dtype == torch.float32 for weight in two["state_dict"].values())
    # On with one process, which tests and writes from shards, too.
    args = [f"--config={folder}/{name}.yaml", f"--run.dir={tmp_path}/cut", *QUICK]
    assert main(["test", *args, "--ckpt_path=best"]) == 0
    capsys.readouterr()
    if name == "mt":
        (tmp_path / "in.txt").write_text("a b c\n")
        assert (
            main(["translate", str(cut / "last.ckpt"), str(tmp_path / "in.txt"), "--device=cpu"])
            == 0
        )
        assert len(capsys.readouterr().out.splitlines()) == 1


def _plain(value: Any) -> Any:
    return dict(value) if isinstance(value, dict) else value
