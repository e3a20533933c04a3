"""Metrics and counts of an evaluation: the same over any batch size, padding and number of ranks."""

from __future__ import annotations

from collections.abc import Callable
from functools import cache
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback

from lit_lm import OptimConfig
from tests import ranks, tiny

ROWS = 403
SIZES = (1, 7, 64)
Alone = Callable[[str, int], dict[str, float]]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("evaluation")
    tiny.write(folder)
    for count in (ROWS, 3):
        tiny.write(folder / str(count), count=count, seed=1)
    return folder


@pytest.fixture(scope="module")
def alone(folder: Path) -> Alone:
    """What one process finds."""
    return cache(lambda kind, size: evaluated(1, kind, folder, size))


def make(kind: str, folder: Path, rows: int, **settings: Any) -> tuple[Any, Any]:
    """A task of always the same weights that stay as they are, and its data."""
    seed_everything(0)
    val = folder / str(rows)
    task, data = tiny.make(kind, folder, OptimConfig(lr=0.0), val=val, **settings)
    if kind == "pairs":
        task.decode_validation, task.length_factor = True, 0.0
    return task, data


def evaluated(world_size: int, kind: str, folder: Path, size: int) -> dict[str, float]:
    """All metrics, of the validation at the end of a fit and of a test."""
    task, data = make(kind, folder, ROWS, batch_size=size)
    run = tiny.trainer(folder, max_steps=2, num_sanity_val_steps=0, **ranks.settings(world_size))
    run.fit(task, data)
    found = {k: v.item() for k, v in run.callback_metrics.items() if k.startswith("val/")}
    (tested,) = tiny.trainer(folder, **ranks.settings(world_size)).test(task, data, verbose=False)
    return found | tested


def check(found: dict[str, float], expected: dict[str, float]) -> None:
    assert found["val/rows"] == found["test/rows"] == ROWS
    assert {"val/loss", "test/loss"} < set(found)
    assert found == pytest.approx(expected, rel=1e-6)


@pytest.mark.parametrize(
    ("kind", "size"),
    [
        pytest.param(kind, size, marks=pytest.mark.slow if size == 1 else ())
        for kind in tiny.KINDS
        for size in SIZES
    ],
)
def test_any_batch_size(kind: str, size: int, alone: Alone) -> None:
    check(alone(kind, size), alone(kind, 64))


def all_sizes(world_size: int, kind: str, folder: Path) -> list[dict[str, float]]:
    return [evaluated(world_size, kind, folder, size) for size in SIZES]


@pytest.mark.slow
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_any_batch_size_on_two_ranks(kind: str, folder: Path, alone: Alone) -> None:
    for rank in ranks.run(2, all_sizes, kind, folder):
        for found in rank:
            check(found, alone(kind, 64))


class Buffered(Callback):
    """Gives the network a buffer that each rank moves otherwise in training, and looks at it."""

    def __init__(self, net: Any) -> None:
        self.seen: list[float] = []
        self.syncs: list[bool] = []
        net.register_buffer("moved", torch.zeros(()))
        net.register_forward_pre_hook(self._move)
        self.by = 0.0

    def _move(self, net: Any, inputs: Any) -> None:
        if net.training:
            net.moved += self.by

    def on_train_batch_start(
        self, trainer: Any, pl_module: Any, batch: Any, batch_idx: int
    ) -> None:
        self.by = 1.0 + trainer.global_rank
        self.syncs.append(getattr(trainer.strategy.model, "require_forward_param_sync", True))

    def on_validation_epoch_end(self, trainer: Any, pl_module: Any) -> None:
        self.seen.append(pl_module.net.moved.item())


def two_ranks(world_size: int, folder: Path) -> dict[str, Any]:
    """Three rows for two ranks: one of them has no batch, in none of the loops."""
    found: dict[str, Any] = {"pairs": [], "rows": []}
    for kind in tiny.KINDS:
        task, data = make(kind, folder, 3, batch_size=8)
        buffer = Buffered(task.net)
        options = {**ranks.settings(world_size), "callbacks": [buffer]}
        run = tiny.trainer(folder, max_epochs=2, **options)
        run.fit(task, data)
        found |= {f"{kind} {k}": v.item() for k, v in run.callback_metrics.items() if "val/" in k}
        (tested,) = tiny.trainer(folder, **ranks.settings(world_size)).test(task, data)
        found |= {f"{kind} {k}": v for k, v in tested.items()}
        predicted = tiny.trainer(folder, **ranks.settings(world_size)).predict(task, data)
        if kind == "pairs":
            found["pairs"] = [index for batch in predicted for index, _ in batch]
        found["rows"].append(len(predicted))
        found[f"{kind} buffer"], found[f"{kind} syncs"] = buffer.seen, all(buffer.syncs)
    return found | {"large": [evaluated(world_size, kind, folder, 7) for kind in LARGE]}


LARGE = ("causal", "masked")


@pytest.mark.slow  # tests/parity has the same of all metrics
def test_two_ranks_with_unequal_shares(folder: Path, alone: Alone) -> None:
    (one,), two = ranks.run(1, two_ranks, folder), ranks.run(2, two_ranks, folder)
    assert one["pairs"] == two[0]["pairs"] == [0, 1, 2]
    assert (one["rows"], two[0]["rows"], two[1]["rows"]) == ([1] * 4, [1] * 4, [0] * 4)
    for found in two:
        assert found["causal syncs"]
        assert found["causal buffer"] == two[0]["causal buffer"], "one network, on both ranks"
        for key, value in one.items():
            if "/" in key:
                assert found[key] == pytest.approx(value, rel=1e-6), key
        for kind, large in zip(LARGE, found["large"], strict=True):
            check(large, alone(kind, 64))
    assert one["masked test/rows"] == one["pairs val/rows"] == 3
