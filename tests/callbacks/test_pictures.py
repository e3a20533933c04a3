"""Pictures of attention: files, W&B, and training that does not notice them."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.loggers import Logger

from lit_lm import AttentionPictures, RNNConfig, Translation
from lit_lm.callbacks import pictures
from lit_lm.errors import InputError
from tests import tiny

PNG = b"\x89PNG\r\n\x1a\n"


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path)
    return tmp_path


class Images(Logger):
    """Keeps what is logged."""

    name = version = save_dir = ""

    def __init__(self, folder: Path) -> None:
        super().__init__()
        self.save_dir = str(folder)
        self.images: list[tuple[str, list[str], int]] = []

    def log_hyperparams(self, *args: Any, **kwargs: Any) -> None: ...

    def log_metrics(self, metrics: dict[str, float], step: int | None = None) -> None: ...

    def log_image(self, key: str, images: list[str], step: int) -> None:
        self.images.append((key, images, step))


@pytest.mark.parametrize("kind", ["transformer", "rnn"])
def test_a_run_and_a_test_leave_pictures(kind: str, folder: Path) -> None:
    task, data = tiny.make("pairs", folder)
    if kind == "rnn":
        task = Translation(RNNConfig(d_model=12, d_hidden=20), data.spec)
    logger = Images(folder / "run")
    settings = {"logger": logger, "callbacks": [AttentionPictures(2)], "max_steps": 2}
    run = tiny.trainer(folder, **settings)
    run.fit(task, data)
    assert task.training
    run.test(task, data, verbose=False)
    made = sorted((folder / "run" / "attention").iterdir())
    assert [p.name for p in made] == ["test_0.png", "test_1.png", "val_0.png", "val_1.png"]
    assert all(p.read_bytes().startswith(PNG) for p in made)
    keys = ["val/attention_0", "val/attention_1", "test/attention_0", "test/attention_1"]
    assert [key for key, _, _ in logger.images] == keys
    assert [Path(files[0]).name for _, files, _ in logger.images[:2]] == ["val_0.png", "val_1.png"]


def test_what_is_drawn_are_the_tasks_outputs(folder: Path) -> None:
    task, data = tiny.make("pairs", folder)
    tiny.trainer(folder, max_steps=30, limit_val_batches=0).fit(task, data)
    sources = [data.source_text("val", i) for i in range(3)]
    found = task.align([*sources, " "])
    assert len(found) == 3
    names = [task.tokenizer.token(task.tokenizer.eos_id)]
    for source, one, (hypothesis,) in zip(sources, found, task.translate(sources), strict=True):
        assert one.source == source.split() + names
        written = [task.tokenizer.token(i) for i in hypothesis.ids]
        assert one.output == written + (names if hypothesis.finished else [])
        assert one.weights.shape == (2, 2, len(one.output), len(one.source))
        torch.testing.assert_close(one.weights.sum(-1), torch.ones(2, 2, len(one.output)))


def test_training_is_the_same_with_and_without(folder: Path) -> None:
    def weights(*callbacks: AttentionPictures) -> dict[str, torch.Tensor]:
        seed_everything(0)
        task, data = tiny.make("pairs", folder)
        settings = {"max_epochs": 1, "callbacks": list(callbacks)}
        run = tiny.trainer(folder, **settings)
        run.fit(task, data)
        run.fit_loop.max_epochs = 2
        run.fit(task, data)
        return {**task.state_dict(), "random": torch.get_rng_state()}

    without, drawn = weights(), weights(AttentionPictures(1))
    assert all(torch.equal(without[name], drawn[name]) for name in without)


def test_without_validation_there_is_none_at_the_end(folder: Path) -> None:
    task, data = tiny.make("pairs", folder)
    settings = {"max_steps": 1, "limit_val_batches": 0, "callbacks": [AttentionPictures()]}
    tiny.trainer(folder, **settings).fit(task, data)
    assert not (folder / "attention").exists()


def test_pairs_that_are_left_out_are_not_drawn(folder: Path) -> None:
    task, data = tiny.make("pairs", folder, max_length=6, overlong="skip")
    tiny.trainer(folder, max_steps=1, callbacks=[AttentionPictures(3)]).fit(task, data)
    kept = data.rows("val").index[:3].tolist()
    assert kept != [0, 1, 2]
    assert len(list((folder / "attention").iterdir())) == 3


def test_a_task_without_a_source_is_refused(folder: Path) -> None:
    task, data = tiny.make("causal", folder)
    run = tiny.trainer(folder, max_steps=1, callbacks=[AttentionPictures()])
    with pytest.raises(InputError, match="CausalLM reads none"):
        run.fit(task, data)


def test_a_full_disk_does_not_stop_a_run(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(pictures, "draw", full)
    task, data = tiny.make("pairs", folder)
    with pytest.warns(UserWarning, match="No space left on device"):
        tiny.trainer(folder, max_steps=1, callbacks=[AttentionPictures()]).fit(task, data)


@pytest.mark.parametrize(("layers", "S", "T"), [(1, 1, 1), (6, 41, 43), (8, 200, 3)])
def test_any_tokens_can_be_drawn(layers: int, S: int, T: int, tmp_path: Path) -> None:
    odd = ["東京", "$x_{$", "\n", "", "🙂", "نص", "\\frac", "a" * 50, "\x00"]
    tokens = odd * 30
    weights = np.random.default_rng(0).dirichlet(np.ones(S), (layers, 2, T))
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        pictures.draw(tokens[:S], tokens[:T], weights, str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)
