"""Pictures of confusion: what is drawn, files, loggers and tasks without classes."""

from __future__ import annotations

import warnings
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch
from lightning.pytorch.demos.boring_classes import BoringModel
from matplotlib.figure import Figure
from torch import Tensor

from lit_lm.callbacks import ConfusionPictures, confusion
from lit_lm.errors import InputError
from tests import tiny
from tests.callbacks.test_pictures import PNG, Images

MATRIX = torch.tensor([[1200, 3, 0], [0, 0, 0], [41, 0, 7]])
NAMES = ["sports", "$x_{$", "world"]


class Classifier(BoringModel):
    """Knows its matrix once the test has ended."""

    matrix: Tensor

    def on_test_epoch_end(self) -> None:
        self.matrix = MATRIX

    def confusion(self, stage: str) -> tuple[list[str], Tensor]:
        assert stage == "test"
        return NAMES, self.matrix


def drawn(monkeypatch: pytest.MonkeyPatch, names: list[str], matrix: Tensor) -> Figure:
    kept: list[Figure] = []
    monkeypatch.setattr(Figure, "savefig", lambda self, *args, **kwargs: kept.append(self))
    confusion.draw(names, matrix, "")
    return kept[0]


def test_a_test_leaves_a_picture(tmp_path: Path) -> None:
    logger = Images(tmp_path / "run")
    settings = {"logger": logger, "callbacks": [ConfusionPictures()], "limit_test_batches": 1}
    tiny.trainer(tmp_path, **settings).test(Classifier(), verbose=False)
    path = tmp_path / "run" / "confusion" / "test.png"
    assert path.read_bytes().startswith(PNG)
    assert logger.images == [("test/confusion", [str(path)], 0)]


def test_rows_are_true_and_columns_predicted(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(monkeypatch, NAMES, MATRIX).axes[0]
    assert (axes.get_xlabel(), axes.get_ylabel()) == ("predicted", "true")
    for labels in (axes.get_xticklabels(), axes.get_yticklabels()):
        assert [label.get_text() for label in labels] == NAMES
    cells = {text.get_position()[::-1]: text.get_text() for text in axes.texts}
    assert cells == {(0, 0): "1200", (0, 1): "3", (2, 0): "41", (2, 2): "7"}
    shares = axes.images[0].get_array()
    wanted = [[1200 / 1203, 3 / 1203, 0], [0, 0, 0], [41 / 48, 0, 7 / 48]]
    np.testing.assert_allclose(shares, wanted)
    assert axes.get_title() == "1,207 of 1,251 are right"


def test_many_classes_have_colours_only(monkeypatch: pytest.MonkeyPatch) -> None:
    axes = drawn(monkeypatch, [f"c{i}" for i in range(77)], torch.eye(77).long()).axes[0]
    assert not axes.texts
    assert [label.get_text() for label in axes.get_xticklabels()][:2] == ["c0", "c2"]


def test_any_names_can_be_drawn(tmp_path: Path) -> None:
    odd = ["東京", "$x_{$", "a\n b", "", "🙂", "نص", "\\frac", "a" * 50, "\x00"]
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        confusion.draw(odd, torch.zeros(9, 9, dtype=torch.int64), str(tmp_path / "a.png"))
    assert (tmp_path / "a.png").read_bytes().startswith(PNG)


def test_a_task_without_classes_is_refused(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="BoringModel has none"):
        tiny.trainer(tmp_path, callbacks=[ConfusionPictures()]).test(BoringModel())


def test_a_full_disk_does_not_stop_a_test(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    def full(*args: Any) -> None:
        raise OSError(28, "No space left on device")

    monkeypatch.setattr(confusion, "draw", full)
    with pytest.warns(UserWarning, match="No space left on device"):
        tiny.trainer(tmp_path, callbacks=[ConfusionPictures()], limit_test_batches=1).test(
            Classifier(), verbose=False
        )
