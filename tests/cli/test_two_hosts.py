"""``torchrun`` over two hosts: the weights of one process, and an end in good time when one of them is gone."""

from __future__ import annotations

import re
import time
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm.cli import main
from tests import hosts
from tests.cli import EXPERIMENTS, QUICK
from tests.tasks.test_exact_resume import assert_equal

pytestmark = [pytest.mark.slow, pytest.mark.timeout(1800)]
STEPS = 50
# Double precision: where a gradient is rounding alone, Adam makes steps of it, and rounding is what differs.
COMMON = [
    *QUICK, "--trainer.max_epochs=-1", f"--trainer.max_steps={STEPS}", "--trainer.precision=64-true",
    "--trainer.val_check_interval=4", "--model.init_args.net.init_args.dropout=0",
    "--trainer.callbacks+=tests.cli.phases.Weights",
]  # fmt: skip
TWO = [
    "--config=trainer/ddp",
    "--trainer.devices=1",
    "--trainer.num_nodes=2",
    "--trainer.accelerator=cpu",
]


@pytest.fixture
def pair() -> Any:
    why = hosts.missing()
    if why is not None:
        pytest.skip(why)
    with hosts.two() as found:
        yield found


def wait(pair: Any, seconds: float) -> list[int | None]:
    """How the last job of each host ended; None where it did not."""
    until = time.monotonic() + seconds
    jobs = [host.jobs[-1] for host in pair]
    while any(job.poll() is None for job in jobs) and time.monotonic() < until:
        time.sleep(0.1)
    return [job.poll() for job in jobs]


def said(log: Path) -> str:
    return "\n".join(log.with_suffix(f".{i}").read_text()[-4000:] for i in range(2))


def weights(folder: Path, rank: int = 0) -> dict[str, torch.Tensor]:
    found: dict[str, torch.Tensor] = torch.load(folder / f"rank{rank}.pt", weights_only=True)
    return found


def test_every_architecture_learns_what_one_process_learns(
    pair: Any, folder: Path, tmp_path: Path
) -> None:
    files = [str(folder / f"{name}.yaml") for name in EXPERIMENTS]
    command = ["tests.cli.fits", ",".join(files), f"--run.dir={tmp_path}/two", *COMMON, *TWO]
    hosts.torchrun(pair, command, tmp_path / "log", 29400)
    # The same rows a step, by turns.
    for file in files:
        flags = [f"--run.dir={tmp_path}/one", *COMMON, "--trainer.accumulate_grad_batches=2"]
        flags += ["--trainer.val_check_interval=8", "--trainer.log_every_n_steps=1"]
        assert main(["fit", f"--config={file}", *flags]) == 0
    alone = [f"--run.dir={tmp_path}/alone", *COMMON]  # the rows of one of the hosts
    assert main(["fit", f"--config={files[0]}", *alone]) == 0
    assert wait(pair, 1500) == [0, 0], said(tmp_path / "log")
    other, one = (weights(tmp_path / where / "gpt") for where in ("alone", "one"))
    assert max((other[key] - one[key]).abs().max().item() for key in one) > 1e-3
    for name in EXPERIMENTS:
        one = weights(tmp_path / "one" / name)
        here, there = (weights(tmp_path / "two" / name, rank) for rank in range(2))
        assert_equal(here, there, name)
        worst = max((one[key] - here[key]).abs().max().item() for key in one)
        print(f"{name}: {worst:.1e}")
        assert worst < 1e-5, name


@pytest.mark.parametrize("end", ["killed", "unplugged"])
@pytest.mark.parametrize("victim", [0, 1])
def test_a_host_that_is_gone_ends_the_other(
    victim: int, end: str, pair: Any, folder: Path, tmp_path: Path
) -> None:
    log = tmp_path / "log"
    command = [
        "lit_lm",
        "fit",
        f"--config={folder}/gpt.yaml",
        *COMMON,
        *TWO,
        "--keep_last.every_steps=5",
    ]
    slow = ["--trainer.callbacks+=tests.cli.phases.Phases"]
    hosts.torchrun(pair, [*command, *slow, f"--run.dir={tmp_path}/cut"], log, 29401)
    last = tmp_path / "cut" / "gpt" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 600
    while not last.exists() and time.monotonic() < until:
        assert all(host.jobs[-1].poll() is None for host in pair), said(log)
        time.sleep(0.1)
    if end == "unplugged":
        pair[victim].unplug()
    else:
        pair[victim].kill()
    start = time.monotonic()
    other = pair[1 - victim]
    while other.jobs[-1].poll() is None and time.monotonic() < start + 60:
        time.sleep(0.1)
    passed = time.monotonic() - start
    text = log.with_suffix(f".{1 - victim}").read_text()
    assert other.jobs[-1].poll() not in (None, 0), text[-4000:]
    print(f"host {victim} {end}: the other ended after {passed:.0f} s")
    assert re.search(
        rf"lit_lm: rank {1 - victim}: .*(rank {victim}|store)|Connection closed by peer|RuntimeError",
        text,
    ), text[-4000:]
    if end == "unplugged":  # nothing but silence tells of it
        assert re.search(rf"lit_lm: rank {1 - victim}: .*(no sign of life|silent)", text), text[
            -4000:
        ]


def test_the_restart_is_exact(pair: Any, folder: Path, tmp_path: Path) -> None:
    command = [
        "lit_lm",
        "fit",
        f"--config={folder}/gpt.yaml",
        *COMMON,
        *TWO,
        "--keep_last.every_steps=5",
    ]
    hosts.torchrun(pair, [*command, f"--run.dir={tmp_path}/whole"], tmp_path / "log", 29402)
    assert wait(pair, 600) == [0, 0], said(tmp_path / "log")
    log = tmp_path / "cut.log"
    slow = "--trainer.callbacks+=tests.cli.phases.Phases"
    hosts.torchrun(pair, [*command, slow, f"--run.dir={tmp_path}/cut"], log, 29403)
    last = tmp_path / "cut" / "gpt" / "checkpoints" / "last.ckpt"
    until = time.monotonic() + 600
    while not last.exists() and time.monotonic() < until:
        assert all(host.jobs[-1].poll() is None for host in pair), said(log)
        time.sleep(0.1)
    pair[1].kill()
    wait(pair, 60)
    step = torch.load(last, weights_only=True)["global_step"]
    assert 0 < step < STEPS
    log = tmp_path / "again.log"
    hosts.torchrun(pair, [*command, f"--run.dir={tmp_path}/cut", "--ckpt_path=last"], log, 29404)
    assert wait(pair, 600) == [0, 0], said(log)
    for rank in range(2):
        assert_equal(
            weights(tmp_path / "whole" / "gpt", rank), weights(tmp_path / "cut" / "gpt", rank)
        )
