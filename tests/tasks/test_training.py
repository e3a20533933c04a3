"""Tasks under the trainer: learning, checkpoints."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint

from lit_lm import (
    Budget,
    CausalLM,
    InputError,
    MaskedLM,
    OptimConfig,
    Task,
    Translation,
    load_task,
)
from lit_lm.data.batches import PairBatch, TextBatch
from tests import tiny

KINDS = tiny.KINDS


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write(folder)
    return folder


@pytest.mark.parametrize(
    "kind", [pytest.param(k, marks=pytest.mark.slow) if k == "masked" else k for k in KINDS]
)
def test_one_batch_is_learned_by_heart(kind: str, folder: Path) -> None:
    seed_everything(1)
    # Gaps and second segments are drawn anew in every epoch: it takes more of them to know the rows.
    steps, lr = (600, 3e-3) if kind == "masked" else (100, 1e-2)
    task, data = tiny.make(kind, folder, optim=OptimConfig(lr=lr))
    run = tiny.trainer(folder, max_steps=steps, overfit_batches=1, limit_val_batches=0)
    run.fit(task, data)
    batch = next(iter(data.train_dataloader()))
    task.eval()
    with torch.no_grad():
        loss = task.loss(batch)
    # A language model cannot know the first words of random documents; it can know all that follows.
    # Nor can anybody know a random word of eight (2.08 nats) that stands in a gap of a random row.
    limit = {"pairs": 0.05, "masked": 1.9}.get(kind, 0.8)
    assert loss.total / loss.targets < limit


@pytest.mark.slow
def test_the_transformer_learns_to_reverse(tmp_path: Path) -> None:
    tiny.write(tmp_path, count=4000)
    seed_everything(0)
    task, data = tiny.make("pairs", tmp_path, batch_size=64)
    run = tiny.trainer(tmp_path, max_steps=800, limit_val_batches=0)
    run.fit(task, data)
    (result,) = run.test(task, data)
    assert result["test/exact_match"] > 0.95
    assert result["test/bleu"] > 95


@pytest.mark.parametrize("kind", KINDS)
def test_checkpoint_round_trip(kind: str, folder: Path, tmp_path: Path) -> None:
    task, data = tiny.make(kind, folder)
    keep = ModelCheckpoint(tmp_path, filename="last")
    run = tiny.trainer(
        tmp_path, max_steps=3, enable_checkpointing=True, callbacks=[keep], limit_val_batches=0
    )
    run.fit(task, data)
    loaded = load_task(tmp_path / "last.ckpt")
    assert type(loaded) is type(task)
    assert loaded.hparams == task.hparams
    task.eval()
    for batch in data.val_dataloader():
        assert loaded.loss(batch).total == task.loss(batch).total
    if isinstance(loaded, CausalLM):
        assert loaded.generate(["a b"], max_new_tokens=5) == task.generate(
            ["a b"], max_new_tokens=5
        )
    if isinstance(loaded, Translation):
        assert loaded.translate(["a b c"]) == task.translate(["a b c"])
    if isinstance(loaded, MaskedLM):
        assert loaded.fill_mask(["a <mask> c"]) == task.fill_mask(["a <mask> c"])
    texts = ["a b c", "", "d"]
    for (text, tokens, vectors), (_, _, expected) in zip(
        loaded.embed(texts), task.embed(texts), strict=True
    ):
        assert len(tokens) == len(vectors) == len(text.split())
        assert torch.equal(vectors, expected)


def test_budget_stops_and_stretches_the_schedule(folder: Path) -> None:
    task, data = tiny.make("causal", folder)
    task.meter.budget = Budget("tokens", 1000)
    rates = []

    class Rates(Callback):
        def on_train_batch_end(self, trainer: Any, *args: Any) -> None:
            rates.append(trainer.optimizers[0].param_groups[0]["lr"])

    run = tiny.trainer(folder, max_steps=-1, max_epochs=-1, callbacks=[Rates()])
    run.fit(task, data)
    per_batch = max(b.size.tokens for b in data.train_dataloader())
    assert 1000 <= task.meter.totals["tokens"] < 1000 + per_batch
    assert rates[-1] < 0.1 * max(rates)
    assert "val/loss" in run.callback_metrics  # the last step is validated
    assert task.meter.totals["flops"] > 0
    assert task.meter.totals["seconds"] > 0


def test_meter_counts_the_corpus(folder: Path) -> None:
    task, data = tiny.make("causal", folder)
    tiny.trainer(folder, max_epochs=2, limit_val_batches=0).fit(task, data)
    assert task.meter.totals["bytes"] == 2 * data.num_bytes("train")
    assert task.meter.totals["tokens"] == 2 * data.store("train", "text").num_tokens


def test_data_of_another_task_is_refused(folder: Path) -> None:
    task, _ = tiny.make("pairs", folder)
    with pytest.raises(InputError, match=r"Translation takes PairBatch.*TextData"):
        tiny.trainer(folder, max_steps=1).fit(task, tiny.text_data(folder))


def test_batch_types_are_those_of_the_tasks(folder: Path) -> None:
    assert CausalLM.batch_type is TextBatch
    assert Translation.batch_type is PairBatch
    assert issubclass(CausalLM, Task)


def test_generation_outgrows_the_positions(folder: Path) -> None:
    """A text may become longer than the network's context; nothing is cut and nothing fails."""
    task, data = tiny.make("causal", folder)
    task.tokenizer = data.tokenizer
    found = task.generate(["a b c", "", "a " * 30], max_new_tokens=40)
    assert all(c.text.startswith(c.prompt.strip()) for c in found)
    assert task.generate(["a"], max_new_tokens=0)[0].continuation == ""


def test_translations_keep_their_order_and_empty_lines(folder: Path) -> None:
    task, data = tiny.make("pairs", folder)
    task.tokenizer = data.tokenizer
    texts = ["a b c d e", "", "a", "   ", "h g f"]
    together = [[h.ids for h in found] for found in task.translate(texts)]
    alone = [[h.ids for h in task.translate([text])[0]] for text in texts]
    assert together == alone
    assert together[1] == together[3] == [[]]


def test_a_sentence_longer_than_the_positions_is_refused(folder: Path) -> None:
    import dataclasses

    data = tiny.pair_data(folder)
    net = dataclasses.replace(tiny.TRANSFORMER, positions="learned")
    task = Translation(net, data.spec)
    task.tokenizer = data.tokenizer
    with pytest.raises(InputError, match="text 2 has 31 tokens, more than the 16 positions"):
        task.translate(["a", "a " * 30])


@pytest.mark.parametrize("kind", ["masked", "pairs"])
def test_bare_loaders_give_a_clear_error_where_texts_are_needed(kind: str, tmp_path: Path) -> None:
    tiny.write(tmp_path)
    task, data = tiny.make(kind, tmp_path)
    data.prepare_data()
    data.setup("fit")
    task.tokenizer = data.tokenizer
    with pytest.raises(InputError, match="datamodule="):
        tiny.trainer(tmp_path).test(task, data.val_dataloader(), verbose=False)
