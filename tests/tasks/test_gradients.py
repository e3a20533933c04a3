"""The gradient of a step is that of one big batch, over any micro-batches and ranks: so are loss, norm and clipping."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback

from lit_lm import OptimConfig
from tests import ranks, tiny

BOUNDS = {"32-true": 1e-6, "64-true": 1e-10}
WINDOWS = (1, 2, 4)
CLIP = 0.05
Gradients = dict[str, torch.Tensor]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("gradients")
    tiny.write(folder, count=61)
    return folder


class Spy(Callback):
    """Keeps the gradients that clipping sees, those that the optimizer sees, and the logged loss of each step."""

    def __init__(self) -> None:
        self.steps: list[tuple[Gradients, Gradients, float]] = []
        self.before: Gradients | None = None

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        self.before = gradients(pl_module)

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        if self.before is not None:
            loss = trainer.callback_metrics["train/loss"].item()
            self.steps.append((self.before, gradients(pl_module), loss))
            self.before = None


def gradients(task: Any) -> Gradients:
    return {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}


def big_batch(task: Any, batch: Any) -> tuple[Gradients, Gradients, float]:
    """The same of one batch, without a trainer."""
    task.zero_grad()
    loss = task.loss(batch)
    mean = loss.total / loss.targets
    mean.backward()
    before = gradients(task)
    norm = torch.nn.utils.clip_grad_norm_(task.parameters(), CLIP)
    assert norm > 2 * CLIP
    return before, gradients(task), mean.item()


def errors(found: Gradients, expected: Gradients, bound: float) -> dict[str, float]:
    """Relative difference of each parameter's gradient, by norm."""
    assert found.keys() == expected.keys()
    whole = norm(expected)
    out = {}
    for name, gradient in expected.items():
        if name.endswith(".k.bias"):  # moves all scores alike: no gradient but rounding
            assert found[name].norm() < bound * whole
            continue
        out[name] = ((found[name] - gradient).norm() / gradient.norm()).item()
    return out | {"norm": abs(norm(found) / whole - 1)}


def norm(found: Gradients) -> float:
    return torch.stack([g.norm() for g in found.values()]).norm().item()


def differences(
    world_size: int, kind: str, folder: Path, precision: str, window: int
) -> dict[str, float]:
    """The largest over all steps of an epoch, of each parameter's gradient and of the loss."""
    seed_everything(0)
    task, data = tiny.make(kind, folder, OptimConfig(lr=0.0), batch_size=7)
    spy = Spy()
    run = tiny.trainer(
        folder,
        max_epochs=1,
        accumulate_grad_batches=window,
        limit_val_batches=0,
        gradient_clip_val=CLIP,
        callbacks=[spy],
        precision=precision,
        **ranks.settings(world_size),
    )
    run.fit(task, data)
    task.train()
    rows, plan = data.rows("train"), run.train_dataloader.batch_sampler.plan(0)
    size = window * world_size
    windows = [plan[i : i + size] for i in range(0, len(plan), size)]
    assert (len(windows[-1]) < size) == (window > 1)
    assert len({len(batch) for batch in plan}) > 1
    worst: dict[str, float] = {}
    for batches, (before, after, loss) in zip(windows, spy.steps, strict=True):
        batch = rows.collate([rows[(i, 0)] for batch in batches for i in batch.tolist()])
        expected = big_batch(task, batch)
        bound = BOUNDS[precision]
        step = {f"clipped {k}": v for k, v in errors(after, expected[1], bound).items()}
        step |= errors(before, expected[0], bound) | {"loss": abs(loss / expected[2] - 1)}
        worst = {name: max(worst.get(name, 0.0), error) for name, error in step.items()}
    return worst


def check(found: dict[str, float], bound: float) -> None:
    assert {name: error for name, error in found.items() if not error <= bound} == {}


@pytest.mark.parametrize("window", WINDOWS)
@pytest.mark.parametrize("precision", BOUNDS)
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_micro_batches(kind: str, precision: str, window: int, folder: Path) -> None:
    check(differences(1, kind, folder, precision, window), BOUNDS[precision])


def all_cases(world_size: int, kind: str, folder: Path) -> dict[str, list[dict[str, float]]]:
    return {
        precision: [differences(world_size, kind, folder, precision, w) for w in WINDOWS]
        for precision in BOUNDS
    }


@pytest.mark.parametrize(
    "kind", [k if k == "masked" else pytest.param(k, marks=pytest.mark.slow) for k in tiny.KINDS]
)
def test_ranks_and_micro_batches(kind: str, folder: Path) -> None:
    for rank in ranks.run(2, all_cases, kind, folder):
        for precision, bound in BOUNDS.items():
            for found in rank[precision]:
                check(found, bound)
