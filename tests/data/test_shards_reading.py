"""Shards: read as the text that they were made of, in an order that is planned without it."""

from __future__ import annotations

from collections import Counter
from itertools import chain
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from hypothesis import given, reject, settings
from hypothesis import strategies as st
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_lm.data import (
    BatchSampler,
    Holdout,
    MaskedTextData,
    Shards,
    TextData,
    TextFiles,
    TokenizerConfig,
    plan_batches,
)
from lit_lm.data.batches import IGNORE
from lit_lm.data.shards.address import Address
from lit_lm.data.shards.manifest import Manifest
from lit_lm.data.shards.plan import ShardPlan
from lit_lm.errors import InputError
from tests.data.shards import BPE

pytestmark = pytest.mark.usefixtures("own_cache")


# ---- the plan --------------------------------------------------------------------------------

COUNTS = st.lists(st.integers(1, 30), min_size=1, max_size=12)


@settings(deadline=None, max_examples=50)
@given(COUNTS, st.integers(1, 20), st.integers(1, 5), st.integers(0, 3), st.integers(1, 4))
def test_plans_partition(counts, batch_size, world_size, epoch, mix) -> None:
    starts = np.append(0, np.cumsum(counts))
    options: dict[str, Any] = {"batch_size": batch_size, "seed": 1, "world_size": world_size}
    try:
        in_order = plan_batches(np.ones(starts[-1]), shuffle=False, epoch=0, **options)
    except InputError as error:
        with pytest.raises(InputError, match=str(error)[:20]):
            ShardPlan(starts, shuffle=False, epoch=0, mix=mix, **options)
        reject()
    found = ShardPlan(starts, shuffle=False, epoch=0, mix=mix, **options)
    assert [b.tolist() for b in found] == [b.tolist() for b in in_order]
    plan = ShardPlan(starts, shuffle=True, epoch=epoch, mix=mix, **options)
    assert [len(b) for b in plan] == [len(b) for b in in_order]
    rows = np.concatenate(list(plan))
    assert sorted(rows.tolist()) == list(range(starts[-1]))
    # At any time rows of a few shards only.
    shards = np.searchsorted(starts, rows, side="right") - 1
    last = {s: i for i, s in enumerate(shards.tolist())}
    first = {s: len(rows) - 1 - i for i, s in enumerate(shards[::-1].tolist())}
    for i in range(len(rows)):
        assert sum(first[s] <= i <= last[s] for s in first) <= mix
    # Any part of it, in any order, without the rest.
    share = plan[world_size - 1 :: world_size][1:]
    again = ShardPlan(starts, shuffle=True, epoch=epoch, mix=mix, **options)
    for at in reversed(range(len(share))):
        assert share[at].tolist() == again[world_size - 1 + (at + 1) * world_size].tolist()


def test_epochs_and_seeds_differ() -> None:
    starts = np.arange(0, 1000, 50)

    def rows(seed: int, epoch: int) -> list[int]:
        plan = ShardPlan(
            starts, batch_size=10, shuffle=True, seed=seed, epoch=epoch, world_size=1, mix=3
        )
        return np.concatenate(list(plan)).tolist()

    orders = [rows(0, 0), rows(0, 1), rows(1, 0)]
    assert rows(0, 0) == orders[0]
    assert all(a != b for i, a in enumerate(orders) for b in orders[:i])


def test_a_plan_of_a_large_corpus_takes_no_memory_for_it() -> None:
    """A terabyte of text: 8,000 shards of 125,000 rows."""
    told: list[list[int]] = []
    starts = np.arange(8001) * 125_000
    plan = ShardPlan(
        starts, batch_size=512, shuffle=True, seed=0, epoch=0, world_size=8, mix=4,
        enter=lambda shards: told.append(shards.tolist()),
    )  # fmt: skip
    assert len(plan) == 1_953_128
    share = plan[5::8][200_000:]
    assert told == []
    batch = share[0]
    shards = set((batch // 125_000).tolist())
    assert shards == set(told[0][:4])
    assert len(told[0]) == 8


# ---- reading ---------------------------------------------------------------------------------


def data(source: Any, **options: Any) -> TextData:
    given = {"length": 16, "batch_size": 4, "tokenizer": BPE, **options}
    return TextData(source, **given)


def test_the_same_is_learned_from(made: tuple[TextFiles, str]) -> None:
    source, out = made
    flat, sharded = data(source), data(Shards(out, mix=2))
    assert sharded.num_bytes("train") == flat.num_bytes("train")
    assert sharded.spec == flat.spec
    stream = flat.store("train", "text").tokens
    rows = sharded.rows("train")
    assert len(rows) >= len(flat.rows("train")) >= len(rows) - 7, "one shorter row a shard at most"
    found = [rows[i] for i in range(len(rows))]
    assert np.array_equal(np.concatenate([row.labels for row in found]), stream)
    assert sum(row.bytes for row in found) == flat.num_bytes("train")
    # What is read before each label is what stands before it; shards begin like documents.
    read = np.concatenate([row.ids for row in found])
    assert np.array_equal(read[1:], stream[:-1])
    assert read[0] == flat.tokenizer.eos_id
    # One shard: row by row the same.
    for a, b in zip(sharded.val_dataloader(), flat.val_dataloader(), strict=True):
        assert a.size == b.size
        assert all(
            torch.equal(x, y) for x, y in zip(a, b, strict=True) if isinstance(x, torch.Tensor)
        )


def test_each_row_once_in_every_epoch_over_ranks_and_workers(made: tuple[TextFiles, str]) -> None:
    rows = data(Shards(made[1], mix=2)).rows("train")
    for world_size in (1, 2, 3):
        for epoch in range(2):
            samplers = [
                BatchSampler(rows, batch_size=4, shuffle=True, rank=r, world_size=world_size)
                for r in range(world_size)
            ]
            for sampler in samplers:
                sampler.set_epoch(epoch)
            shares = [list(sampler) for sampler in samplers]
            assert len({len(share) for share in shares}) == 1
            seen = Counter(chain.from_iterable(chain.from_iterable(shares)))
            assert seen == {(row, epoch): 1 for row in range(len(rows))}
    batches = [
        [
            batch.labels_BL.tolist()
            for batch in data(Shards(made[1]), num_workers=n).train_dataloader()
        ]
        for n in (0, 2)
    ]
    assert batches[0] == batches[1]


def test_strides_and_characters(made: tuple[TextFiles, str]) -> None:
    source, out = made
    flat, sharded = (data(s, eval_stride=4, characters=8) for s in (source, Shards(out)))
    for a, b in zip(sharded.val_dataloader(), flat.val_dataloader(), strict=True):
        assert torch.equal(a.labels_BL, b.labels_BL)
        assert torch.equal(a.chars.chars_UW, b.chars.chars_UW)
    assert (
        sum(b.size.labels for b in sharded.train_dataloader())
        == flat.store("train", "text").num_tokens
    )
    tokens = data(Shards(out), batch_size=None, batch_tokens=70)
    assert {b.size.rows for b in tokens.train_dataloader()} <= {1, 2, 3, 4}


def masked(source: Any, **options: Any) -> MaskedTextData:
    given = {"max_length": 18, "batch_size": 4, "tokenizer": BPE, "next_sentence": False, **options}
    return MaskedTextData(source, **given)


def test_rows_with_gaps_hold_the_same_text(made: tuple[TextFiles, str]) -> None:
    module = masked(Shards(made[1]))
    t, eos = module.tokenizer, module.tokenizer.eos_id
    for split in ("train", "val"):
        rows, windows = module.rows(split), data(Shards(made[1])).rows(split)
        assert len(rows) == len(windows) == len(rows.lengths)
        total = 0
        for i in range(len(rows)):
            row, text = rows[i], windows[i].labels
            gaps = row.labels != IGNORE
            ids = np.where(gaps, row.labels, row.ids)
            assert ids.tolist() == [t.bos_id, *text.tolist(), eos]
            assert rows.whole(i)[0] == text.tolist()
            words = ids[1:-1] != eos  # of documents that end in mid-row
            assert not gaps[[0, -1]].any()
            assert not gaps[1:-1][~words].any()
            assert gaps.sum() == max(1, round(0.15 * words.sum()))
            assert row.tokens == words.sum()
            total += row.bytes
        assert total == module.num_bytes(split)
    assert rows[0].ids.tolist() == rows[0, 0].ids.tolist() != rows[0, 1].ids.tolist()


def test_batches_of_rows_with_gaps_are_planned_by_shards(made: tuple[TextFiles, str]) -> None:
    module = masked(Shards(made[1], mix=1), batch_size=None, batch_tokens=5 * 18)
    sizes = [b.size for b in module.train_dataloader()]
    assert {size.rows for size in sizes[:-1]} <= {4, 5}
    assert all(size.positions <= 5 * 18 for size in sizes)
    assert sum(size.bytes for size in sizes) == module.num_bytes("train")
    with pytest.raises(InputError, match="less than a row of 18 tokens"):
        masked(Shards(made[1]), batch_size=None, batch_tokens=17).train_dataloader()


class Recorder(LightningModule):
    """Remembers what it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.seen: list[list[list[int]]] = []

    def training_step(self, batch, batch_idx):
        self.seen.append(batch.labels_BL.tolist())
        return self.weight.sum()

    def validation_step(self, batch, batch_idx): ...

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def fit(model: Recorder, module: TextData, **options: Any) -> None:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    path = options.pop("ckpt_path", None)
    options = {"enable_checkpointing": "callbacks" in options, **options}
    Trainer(accelerator="cpu", max_epochs=2, **quiet, **options).fit(
        model, datamodule=module, ckpt_path=path
    )


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resumed_in_mid_epoch(tmp_path: Path, made: tuple[TextFiles, str], num_workers) -> None:
    def module(mix: int = 2) -> TextData:
        return data(Shards(made[1], mix=mix), length=64, batch_size=8, num_workers=num_workers)

    callback = ModelCheckpoint(
        tmp_path / "ckpt", filename="{step}", save_top_k=-1, every_n_train_steps=5
    )
    whole = Recorder()
    fit(whole, module(), callbacks=[callback])
    steps = len(whole.seen)
    assert steps > 20
    half = steps // 2 // 5 * 5
    for step in (half - 5, half + 10) if num_workers == 0 else (10,):
        resumed = Recorder()
        fit(resumed, module(), ckpt_path=tmp_path / "ckpt" / f"step={step}.ckpt")
        assert resumed.seen == whole.seen[step:]
    with pytest.raises(InputError, match="what is left of that epoch is unknown"):
        fit(Recorder(), module(mix=3), ckpt_path=tmp_path / "ckpt" / "step=5.ckpt")


def test_what_cannot_be_read(made: tuple[TextFiles, str], tmp_path: Path) -> None:
    out = made[1]
    for options in ({"rows": "packed"}, {"rows": "documents"}, {"consecutive": True}):
        with pytest.raises(InputError, match="read by `rows: windows` and not `consecutive: true`"):
            data(Shards(out), **options).rows("train")
    with pytest.raises(InputError, match="with `next_sentence: false`; this is MaskedTextData"):
        _ = MaskedTextData(Shards(out), batch_size=2).prepared
    with pytest.raises(InputError, match="mend the address, or prepare it"):
        Shards(str(tmp_path)).given()
    with pytest.raises(InputError, match="shards are split already"):
        Shards(out, holdout=Holdout())
    with pytest.raises(InputError, match=r"data\.tokenizer asks for"):
        _ = data(Shards(out), tokenizer=TokenizerConfig("word")).prepared
    with pytest.raises(InputError, match="less than a row of 16 tokens"):
        data(Shards(out), batch_size=None, batch_tokens=15).train_dataloader()
    index = (Path(out) / "index.json").read_text()
    for broken in (
        "{}",
        "",
        index.replace("train-00002", "../elsewhere"),
        index.replace("uint16", "O"),
    ):
        (Path(out) / "index.json").write_text(broken)
        with pytest.raises(InputError, match="is not what `lit-lm prepare --to` writes"):
            Manifest.load(Address(out))
