"""Training that goes on from any checkpoint equals training that never stopped, bit by bit."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, EarlyStopping

from lit_lm import (
    BidirectionalLM,
    Budget,
    CausalLM,
    InputError,
    MaskedLM,
    OptimConfig,
    RNNConfig,
    Translation,
)
from lit_lm.callbacks import KeepLast
from lit_lm.csv_log import CSVLog
from tests import tiny

KINDS = [*tiny.KINDS, "rnn"]
OPTIM = OptimConfig(lr=3e-3, warmup_steps=2, schedule="linear")
TIMES = ("seconds", "tokens_per_second", "data_wait_fraction")


def make(kind: str, folder: Path, **settings: Any) -> tuple[Any, Any]:
    """A task that draws random numbers, and its data."""
    if kind == "rnn":
        data = tiny.pair_data(folder, **settings)
        net: Any = RNNConfig(d_model=16, d_hidden=16, dropout=0.2)
        return Translation(net, data.spec, OPTIM), data
    if kind == "bidirectional":  # carries its state from batch to batch
        settings = {"rows": "windows", "consecutive": True, "length": 8, **settings}
        data = tiny.text_data(folder, characters=6, **settings)
        net = dataclasses.replace(tiny.ELMO, dropout=0.2)
        return BidirectionalLM(net, data.spec, OPTIM, sampled_softmax=5), data
    _, data = tiny.make(kind, folder, **settings)
    task: Any = {"causal": CausalLM, "masked": MaskedLM, "pairs": Translation}[kind]
    net = {"causal": tiny.GPT, "masked": tiny.BERT, "pairs": tiny.TRANSFORMER}[kind]
    return task(dataclasses.replace(net, dropout=0.2), data.spec, OPTIM), data


class SaveEverywhere(Callback):
    """Saves at every hook at which anybody might, or at the end alone; moves the random numbers in validation."""

    def __init__(self, folder: Path, only_end: bool = False) -> None:
        self.folder, self.files = folder, []
        self.only_end = only_end

    def _save(self, trainer: Any, where: str) -> None:
        if self.only_end and where != "end":
            return
        path = self.folder / f"{len(self.files):03d}-{where}.ckpt"
        trainer.save_checkpoint(path)
        self.files.append(path)

    def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, f"batch-end-{trainer.fit_loop.total_batch_idx + 1}")

    def on_validation_start(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "validation-start")

    def on_validation_batch_end(
        self, trainer: Any, module: Any, out: Any, batch: Any, i: int
    ) -> None:
        if i == 1:
            self._save(trainer, "validation-middle")
        torch.rand(3)

    def on_validation_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "validation-end")

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "epoch-end")

    def on_train_end(self, trainer: Any, *args: Any) -> None:
        self._save(trainer, "end")


def run(
    kind: str, data_folder: Path, folder: Path, start: Path | None = None, **settings: Any
) -> tuple[Any, Any, list[dict[str, str]], SaveEverywhere]:
    """Trains; the trainer, the task, the logged rows without times, and what was saved: everywhere, or at the end of
    a run that has gone on.
    """
    seed_everything(1)
    own = {k: settings.pop(k) for k in ("num_workers", "batch_size", "budget") if k in settings}
    budget = own.pop("budget", None)
    task, data = make(kind, data_folder, **{"batch_size": 8, **own})
    task.meter.budget = budget
    saves = SaveEverywhere(folder, only_end=start is not None)
    before = torch.load(start, weights_only=True)["resume"]["logs"]["rows"] if start else 0
    log = CSVLog(folder, keep_rows=before)
    trainer = tiny.trainer(
        folder,
        **{
            "max_epochs": 3,
            "accumulate_grad_batches": 3,
            "val_check_interval": 4,
            "limit_val_batches": 3,
            "num_sanity_val_steps": 0,
            "log_every_n_steps": 1,
            "gradient_clip_val": 1.0,
            "logger": log,
            "callbacks": [EarlyStopping("val/loss", patience=50), saves],
            **settings,
        },
    )
    trainer.fit(task, data, ckpt_path=start, weights_only=True if start else None)
    log.save()
    rows = [{k: v for k, v in row.items() if k not in TIMES and v} for row in log._read()]
    return trainer, task, rows, saves


def assert_equal(a: Any, b: Any, at: str = "") -> None:
    """Bit by bit, through lists and dicts."""
    assert type(a) is type(b), at
    if isinstance(a, torch.Tensor):
        assert torch.equal(a, b), at
    elif isinstance(a, dict):
        assert a.keys() == b.keys(), at
        for key in a:
            assert_equal(a[key], b[key], f"{at}.{key}")
    elif isinstance(a, list | tuple):
        assert len(a) == len(b), at
        for i, (x, y) in enumerate(zip(a, b, strict=True)):
            assert_equal(x, y, f"{at}[{i}]")
    else:
        assert a == b, at


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write(folder, count=60)
    return folder


def resumed_equals_whole(
    kind: str, data: Path, tmp_path: Path, every: int, **settings: Any
) -> None:
    (tmp_path / "whole").mkdir()
    trainer, task, rows, saves = run(kind, data, tmp_path / "whole", **settings)
    assert len(rows) > 5
    end = torch.load(saves.files[-1], weights_only=True)
    places = saves.files[:-1]
    # Every kind of place, early and late; with every=1 all of them.
    for path in places[::every]:
        again = tmp_path / path.stem
        again.mkdir()
        # The killed run has written more than the checkpoint knows.
        (again / "metrics.csv").write_text((tmp_path / "whole" / "metrics.csv").read_text())
        other, resumed, its_rows, its_saves = run(kind, data, again, start=path, **settings)
        assert other.global_step == trainer.global_step, path.name
        assert_equal(resumed.state_dict(), task.state_dict(), path.name)
        assert its_rows == rows, path.name
        if not its_saves.files:  # there was nothing left to do
            continue
        its_end = torch.load(its_saves.files[-1], weights_only=True)
        for key in ("optimizer_states", "lr_schedulers", "loops"):
            assert_equal(its_end[key], end[key], f"{path.name} {key}")
        assert_equal(its_end["resume"]["ranks"], end["resume"]["ranks"], path.name)


@pytest.mark.parametrize("kind", KINDS)
def test_from_anywhere(kind: str, folder: Path, tmp_path: Path) -> None:
    resumed_equals_whole(kind, folder, tmp_path, every=11)


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_from_everywhere(kind: str, folder: Path, tmp_path: Path) -> None:
    resumed_equals_whole(kind, folder, tmp_path, every=1)


SHORT = [
    {"max_epochs": -1, "max_steps": 5, "precision": "64-true"},
    {"accumulate_grad_batches": 1, "val_check_interval": 1.0, "max_epochs": 2},
]
LONG = [
    {"max_epochs": -1, "max_steps": 5},
    {"max_epochs": -1, "budget": Budget("tokens", 700)},
    {"check_val_every_n_epoch": 2, "val_check_interval": 1.0, "batch_size": 7},
    {"limit_val_batches": 0, "accumulate_grad_batches": 2},
    {"check_val_every_n_epoch": None, "val_check_interval": 5},
    {"num_workers": 2, "max_epochs": 2},
    {"limit_train_batches": 5},
]


@pytest.mark.parametrize("settings", SHORT, ids=lambda s: "-".join(map(str, s)))
def test_however_long_and_often(settings: dict[str, Any], folder: Path, tmp_path: Path) -> None:
    resumed_equals_whole("causal", folder, tmp_path, every=7, **settings)


@pytest.mark.slow
@pytest.mark.parametrize("settings", LONG, ids=lambda s: "-".join(map(str, s)))
def test_however_long_and_often_else(
    settings: dict[str, Any], folder: Path, tmp_path: Path
) -> None:
    resumed_equals_whole("causal", folder, tmp_path, every=2, **settings)


def test_settings_that_would_mean_nothing_are_refused(folder: Path, tmp_path: Path) -> None:
    """In the middle of an accumulation window neither its length nor the seed can change."""
    *_, saves = run("causal", folder, tmp_path)
    middle = next(path for path in saves.files if "batch-end-2" in path.name)
    with pytest.raises(InputError, match="middle of an accumulation window of 3 batches"):
        run("causal", folder, tmp_path, start=middle, accumulate_grad_batches=2)
    trainer, *_ = run("causal", folder, tmp_path, start=saves.files[-1], accumulate_grad_batches=2)
    assert trainer.global_step


def test_early_stopping_keeps_the_patience_that_is_given(folder: Path, tmp_path: Path) -> None:
    """Lightning restores the checkpoint's."""
    *_, saves = run("causal", folder, tmp_path)
    middle = next(path for path in saves.files if "validation-end" in path.name)
    stop = EarlyStopping("val/loss", patience=7)
    run("causal", folder, tmp_path, start=middle, callbacks=[stop])
    assert stop.patience == 7


def test_keep_last_saves_by_steps_and_keeps_a_few(folder: Path, tmp_path: Path) -> None:
    keep = KeepLast(keep=3, every_steps=2, every_minutes=None, dirpath=str(tmp_path / "kept"))
    run(
        "causal",
        folder,
        tmp_path,
        callbacks=[keep],
        max_epochs=-1,
        max_steps=7,
        limit_val_batches=0,
    )
    steps = [
        torch.load(path, weights_only=True)["global_step"]
        for path in (tmp_path / "kept" / f"last{x}.ckpt" for x in ("", "-1", "-2"))
    ]
    assert steps == [7, 6, 4]
    assert len(list((tmp_path / "kept").iterdir())) == 3
    with pytest.raises(InputError, match="keep=0"):
        KeepLast(keep=0)
