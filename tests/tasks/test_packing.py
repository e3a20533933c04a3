"""Packed rows from the command line, and what is measured over them."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_lm.training import run_cli
from tests import tiny
from tests.cli import QUICK

SOURCE = "--data.init_args.source.init_args"
BUILTIN = [f"{SOURCE}.train=60", f"{SOURCE}.val=8", f"{SOURCE}.test=8"]


@pytest.mark.parametrize("name", ["gpt", "elmo"])
def test_an_experiment_trains_on_packed_rows(name: str, tmp_path: Path) -> None:
    """Rows of twice the length of the longest document."""
    args = [
        "fit",
        f"--config=experiment/builtin_{name}",
        "--data.init_args.rows=packed",
        "--data.init_args.length=320",
        "--data.init_args.batch_size=4",
        "--trainer.max_steps=1",
        "--trainer.limit_val_batches=1",
        f"--run.dir={tmp_path}",
    ]
    trainer = run_cli([*args, *BUILTIN, *QUICK]).trainer
    assert trainer.global_step == 1
    assert trainer.callback_metrics["val/loss"] > 0
    assert trainer.lightning_module.meter.totals["tokens"] > 640  # of 1,280 positions
    batch = next(iter(trainer.datamodule.train_dataloader()))
    assert (batch.docs_BL.amax(1) > 0).any()


@pytest.mark.parametrize("kind", ["causal", "bidirectional"])
def test_packed_and_single_documents_measure_the_same(kind: str, tmp_path: Path) -> None:
    tiny.write(tmp_path)
    task, packed = tiny.make(kind, tmp_path, rows="packed", length=32)
    _, alone = tiny.make(kind, tmp_path, rows="documents", length=32)
    assert alone.rows("val").num_split == 0
    assert 2 * len(packed.rows("val")) < len(alone.rows("val"))
    trainer = tiny.trainer(tmp_path, precision="64-true")
    found, expected = (trainer.validate(task, data, verbose=False)[0] for data in (packed, alone))
    assert found.pop("val/rows") == len(packed.rows("val"))
    assert expected.pop("val/rows") == len(alone.rows("val"))
    assert found.keys() == expected.keys()
    assert {"val/loss", "val/ppl", "val/bpb", "val/accuracy"} <= found.keys()
    assert found == pytest.approx(expected, rel=0, abs=1e-6)
    both = [trainer.predict(task, data) for data in (packed, alone)]
    sums = [sum(p.sum().item() for p in predictions) for predictions in both]
    assert sums[0] == pytest.approx(sums[1], rel=1e-5)  # in single precision
