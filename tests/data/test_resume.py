"""Under Lightning: resumed training sees the batches that were left; evaluation loses nothing."""

from __future__ import annotations

from itertools import chain
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import LightningModule, Trainer
from lightning.pytorch.callbacks import ModelCheckpoint

from lit_lm.data import BuiltinPairs, PairData, TokenizerConfig


class Recorder(LightningModule):
    """Remembers which pairs it was given."""

    def __init__(self) -> None:
        super().__init__()
        self.weight = torch.nn.Parameter(torch.zeros(1))
        self.trained: list[list[int]] = []
        self.evaluated: list[list[int]] = []

    def training_step(self, batch, batch_idx):
        self.trained.append(batch.index_B.tolist())
        return self.weight.sum()

    def validation_step(self, batch, batch_idx):
        self.evaluated.append(batch.index_B.tolist())

    predict_step = validation_step

    def configure_optimizers(self):
        return torch.optim.SGD(self.parameters(), 0.1)


def _trainer(**options: Any) -> Trainer:
    quiet = {"logger": False, "enable_progress_bar": False, "enable_model_summary": False}
    options = {"enable_checkpointing": "callbacks" in options, "num_sanity_val_steps": 0, **options}
    return Trainer(accelerator="cpu", **quiet, **options)


def _data(num_workers: int = 0) -> PairData:
    source = BuiltinPairs(train=8, val=3, test=3)
    return PairData(source, TokenizerConfig("word"), batch_tokens=300, num_workers=num_workers)


@pytest.mark.parametrize("num_workers", [0, 2])
@pytest.mark.parametrize("length", [{"max_epochs": 3}, {"max_epochs": -1, "max_steps": 11}])
@pytest.mark.parametrize(
    "save", [{"every_n_train_steps": 1}, {"save_on_train_epoch_end": True}, {}]
)
@pytest.mark.filterwarnings("ignore:Be aware that when using `ckpt_path`")
def test_resumed_training_sees_the_rest(tmp_path: Path, num_workers, length, save) -> None:
    callback = ModelCheckpoint(tmp_path, filename="{step}", save_top_k=-1, **save)
    whole = Recorder()
    _trainer(callbacks=[callback], **length).fit(whole, datamodule=_data(num_workers))
    files = sorted(tmp_path.iterdir())
    for file in files[1:-1:3] if len(files) > 3 else files[:2]:
        step = int(file.stem.split("=")[1].split("-")[0])
        resumed = Recorder()
        _trainer(**length).fit(resumed, datamodule=_data(num_workers), ckpt_path=file)
        assert resumed.trained == whole.trained[step:], file.name


@pytest.mark.filterwarnings("ignore:predict returned None")
def test_evaluation_and_prediction_see_every_pair_once() -> None:
    data, model = _data(), Recorder()
    everything = list(range(len(data.store("val", "src"))))
    _trainer(max_epochs=2, limit_train_batches=1).fit(model, datamodule=data)
    assert sorted(chain.from_iterable(model.evaluated)) == sorted(everything * 2)
    model.evaluated.clear()
    _trainer().predict(model, datamodule=data)
    assert sorted(chain.from_iterable(model.evaluated)) == list(
        range(len(data.store("test", "src")))
    )


def test_overfitting_repeats_the_same_batches() -> None:
    model = Recorder()
    _trainer(max_epochs=3, overfit_batches=2).fit(model, datamodule=_data())
    assert model.trained[:2] == model.trained[2:4] == model.trained[4:]
