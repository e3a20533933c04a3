"""A picture of which classes a classifier takes for which."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn
from torch import Tensor

from lit_lm.callbacks.pictures import _MOST_LABELS
from lit_lm.errors import InputError

_MOST_NUMBERS = 30
"""Of more classes than that there are colours only."""

_MOST_LETTERS = 32
"""Of a name."""


class ConfusionPictures(Callback):
    """Draws the confusion matrix at the end of a test: ``confusion/test.png`` in the run's folder, and to loggers that
    take images (W&B). The task hands it out: ``confusion(stage)`` gives the names of classes and an int64 tensor
    (true, predicted).
    """

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses tasks that have no classes."""
        if not hasattr(pl_module, "confusion"):
            raise InputError(
                f"ConfusionPictures draws which classes a Classification confuses; {type(pl_module).__name__} has none: "
                "take it out of trainer.callbacks"
            )

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws the test's matrix."""
        path = (
            Path(trainer.log_dir or trainer.default_root_dir) / "confusion" / "test.png"
        )  # every rank asks
        names, matrix = pl_module.confusion("test")  # type: ignore[operator]
        if not trainer.is_global_zero:
            return
        try:
            path.parent.mkdir(parents=True, exist_ok=True)
            draw(names, matrix, str(path))
        except OSError as error:
            rank_zero_warn(f"{path}: the picture could not be written ({error.strerror or error})")
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # that of the metrics
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                logger.log_image("test/confusion", [str(path)], step=step)


def draw(names: Sequence[str], matrix: Tensor, path: str) -> None:
    """Draws a confusion matrix: counts, coloured by their share of the true class.

    Args:
        names: C classes.
        matrix: int64 (C, C), true classes from top to bottom, predicted ones from left to right.
        path: the PNG file to write.
    """
    # Only here: importing it takes half a second.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    counts = matrix.cpu().numpy()
    shares = counts / np.maximum(counts.sum(1, keepdims=True), 1)
    size = min(max(0.45 * len(names), 2.0), 14.0)
    room = 0.07 * max(len(_short(name)) for name in names)  # inches for names
    figure = Figure(figsize=(size + room + 1.6, size + room + 0.9), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    axes = figure.add_subplot()
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1, interpolation="nearest")
    bar = figure.colorbar(image, ax=axes, fraction=0.04, aspect=40, pad=0.02)
    bar.ax.tick_params(labelsize=8)
    bar.set_label("share of the true class", fontsize=8)
    ticks = range(0, len(names), math.ceil(len(names) / _MOST_LABELS))
    for axis, label, rotation in ((axes.xaxis, "predicted", 90), (axes.yaxis, "true", 0)):
        axis.set_ticks(ticks, [_short(names[i]) for i in ticks], parse_math=False)
        axis.set_tick_params(labelsize=8, labelrotation=rotation, length=2)
        axis.set_label_text(label, fontsize=9)
    axes.set_title(f"{counts.trace():,} of {counts.sum():,} are right", fontsize=9)
    if len(names) <= _MOST_NUMBERS:
        for (i, j), count in np.ndenumerate(counts):
            if count:
                color = "white" if shares[i, j] > 0.6 else "black"
                axes.text(j, i, f"{count}", color=color, fontsize=7, ha="center", va="center")
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a script that no font has is drawn as boxes
        figure.savefig(path, bbox_inches="tight")


def _short(name: str) -> str:
    """A name as a label of one line."""
    text = " ".join(name.split())
    return text if len(text) <= _MOST_LETTERS else f"{text[: _MOST_LETTERS - 1]}…"
