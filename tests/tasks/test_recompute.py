"""Activation checkpointing: the same gradients to the bit, dropout included, for less memory."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from torch.autograd.graph import saved_tensors_hooks

from lit_lm import (
    BidirectionalLM,
    CausalLM,
    InputError,
    MaskedLM,
    RNNConfig,
    Translation,
)
from tests import tiny
from tests.tasks.test_exact_resume import assert_equal

DROPPING = 0.2
TASKS = {
    "causal": CausalLM,
    "pairs": Translation,
    "masked": MaskedLM,
    "bidirectional": BidirectionalLM,
}
NETS = {
    "causal": tiny.GPT,
    "pairs": tiny.TRANSFORMER,
    "masked": tiny.BERT,
    "bidirectional": tiny.ELMO,
}


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("recompute")
    tiny.write(folder, count=32)
    return folder


def make(kind: str, folder: Path) -> tuple[Any, Any]:
    """A deep task that drops, and its data."""
    seed_everything(0)
    _, data = tiny.make(kind, folder)
    net: Any = dataclasses.replace(NETS[kind], dropout=DROPPING, num_layers=4)
    return TASKS[kind](net, data.spec), data


def gradients(task: Any, batch: Any) -> tuple[dict[str, torch.Tensor], int]:
    """Of one batch, and how many bytes beside weights were kept for the backward pass, each tensor's memory once."""
    weights = {p.untyped_storage().data_ptr() for p in task.parameters()}
    kept: dict[int, int] = {}

    def pack(x: torch.Tensor) -> torch.Tensor:
        memory = x.untyped_storage()
        if memory.data_ptr() not in weights:
            kept[memory.data_ptr()] = memory.nbytes()
        return x

    torch.manual_seed(7)
    task.train().zero_grad()
    with saved_tensors_hooks(pack, lambda x: x):
        loss = task.loss(batch)
        size = sum(kept.values())
    loss.total.backward()
    torch.rand(1)  # what is drawn behind the step stays the same, too
    found = {n: p.grad.clone() for n, p in task.named_parameters() if p.grad is not None}
    return found | {"next": torch.rand(3)}, size


@pytest.mark.parametrize("kind", tiny.KINDS)
def test_the_same_gradients_for_less_memory(kind: str, folder: Path) -> None:
    task, data = make(kind, folder)
    data.setup("fit")
    batch = next(iter(data.train_dataloader()))
    whole, much = gradients(task, batch)
    task.net.recompute()
    again, little = gradients(task, batch)
    assert whole.keys() == again.keys()
    for name, gradient in whole.items():
        assert torch.equal(gradient, again[name]), name
    assert little < much / 4, (little, much)
    print(f"{kind}: {much:,} bytes kept, with activation checkpointing {little:,}")


def test_training_in_micro_batches_is_the_same(folder: Path) -> None:
    """Bit for bit, with dropout, clipping, windows of three batches and validations between them."""
    ends = []
    for recompute in (False, True):
        task, data = make("pairs", folder)
        if recompute:
            task.net.recompute()
        settings: Any = {
            "accumulate_grad_batches": 3,
            "gradient_clip_val": 0.1,
            "val_check_interval": 2,
        }
        tiny.trainer(folder, max_epochs=2, limit_val_batches=1, **settings).fit(task, data)
        ends.append(task.state_dict())
    assert_equal(dict(ends[0]), dict(ends[1]))


def test_evaluation_is_left_alone(folder: Path) -> None:
    task, data = make("causal", folder)
    data.setup("fit")
    batch = next(iter(data.val_dataloader()))
    task.eval()
    with torch.no_grad():
        before = task.loss(batch)
        task.net.recompute()
        after = task.loss(batch)
    assert torch.equal(before.total, after.total)


def test_a_network_without_layers_says_so(folder: Path) -> None:
    data = tiny.pair_data(folder)
    task = Translation(RNNConfig(d_model=16, d_hidden=16), data.spec)
    with pytest.raises(
        InputError, match=r"activation_checkpointing: RNN is no stack of layers.*accumulate"
    ):
        task.net.recompute()
