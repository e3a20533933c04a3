"""Pictures of what a translator reads as it writes."""

from __future__ import annotations

import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_warn

from lit_lm import sharding
from lit_lm.errors import InputError, check_counts

_MOST_LABELS = 60
"""Labels of an axis; of more tokens every second is named, or every third, and so on."""

_ACROSS = 6
"""Small panels in a row."""


class AttentionPictures(Callback):
    """Draws attention over the source (Bahdanau et al. 2015, figure 3) at the end of training, for the first validation
    pairs, and of a test, for the first test pairs: ``attention/val_0.png`` and so on in the run's folder, and to loggers
    that take images (W&B). The outputs are those of the task's own beam. Nothing in training depends on it.

    Args:
        count: pictures.
    """

    def __init__(self, count: int = 4) -> None:
        self.count = count
        check_counts(self, "count", least=0)

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Refuses tasks that have no source."""
        if not hasattr(pl_module, "align"):
            raise InputError(
                f"AttentionPictures draws what a Translation reads of its source; {type(pl_module).__name__} reads none: "
                "take it out of trainer.callbacks"
            )

    def on_fit_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws validation pairs, if there was validation."""
        if trainer.enable_validation:
            with sharding.whole(pl_module):
                self._draw(trainer, pl_module, "val")

    def on_test_end(self, trainer: Trainer, pl_module: LightningModule) -> None:
        """Draws test pairs."""
        self._draw(trainer, pl_module, "test")

    def _draw(self, trainer: Trainer, pl_module: LightningModule, split: str) -> None:
        folder = Path(trainer.log_dir or trainer.default_root_dir) / "attention"  # every rank asks
        data: Any = getattr(trainer, "datamodule", None)
        if not trainer.is_global_zero or data is None:
            return
        picked = data.rows(split).index[: self.count].tolist()  # overlong pairs are left out
        paths = []
        try:
            folder.mkdir(parents=True, exist_ok=True)
            found = pl_module.align([data.source_text(split, i) for i in picked])  # type: ignore[operator]
            for i, aligned in enumerate(found):
                paths.append(str(folder / f"{split}_{i}.png"))
                draw(aligned.source, aligned.output, aligned.weights.numpy(), paths[-1])
        except OSError as error:
            rank_zero_warn(f"{folder}: no picture could be written ({error.strerror or error})")
            return
        step = trainer.fit_loop.epoch_loop._batches_that_stepped  # that of the metrics
        for logger in trainer.loggers:
            if hasattr(logger, "log_image"):
                for path in paths:  # one by one: W&B shows pictures of unequal sizes together badly
                    name = Path(path).stem.replace("_", "/attention_")
                    logger.log_image(name, [path], step=step)


def draw(source: Sequence[str], output: Sequence[str], weights: Any, path: str) -> None:
    """Draws one sentence: the last layer, mean over its heads, and where there are more layers a small panel of each.

    Args:
        source: S tokens, from left to right.
        output: T tokens, from top to bottom.
        weights: float (layers, heads, T, S).
        path: the PNG file to write.
    """
    # Only here: importing it takes half a second. Its pyplot, which keeps figures and changes backends, stays out.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    layers = np.asarray(weights).mean(1)
    rows = math.ceil(len(layers) / _ACROSS) if len(layers) > 1 else 0
    across = min(len(layers), _ACROSS)
    width = min(max(0.26 * len(source) + 2.5, 5.0), 18.0)
    height = min(max(0.24 * len(output) + 1.5, 3.0), 16.0)
    small = 0.9 * width / _ACROSS
    figure = Figure(figsize=(width, height + small * rows), dpi=120, layout="constrained")
    FigureCanvasAgg(figure)
    grid = figure.add_gridspec(1 + rows, across, height_ratios=[height, *[small] * rows])
    main = figure.add_subplot(grid[0, :])
    image = main.imshow(layers[-1], cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
    figure.colorbar(image, ax=main, fraction=0.03, aspect=30, pad=0.01).ax.tick_params(labelsize=8)
    main.xaxis.tick_top()
    for axis, tokens, rotation in ((main.xaxis, source, 90), (main.yaxis, output, 0)):
        ticks = range(0, len(tokens), math.ceil(len(tokens) / _MOST_LABELS))
        axis.set_ticks(ticks, [_visible(tokens[i]) for i in ticks], parse_math=False)
        axis.set_tick_params(labelsize=8, labelrotation=rotation, length=2)
    for i, layer in enumerate(layers if rows else []):
        panel = figure.add_subplot(grid[1 + i // _ACROSS, i % _ACROSS])
        panel.imshow(layer, cmap="Blues", vmin=0, aspect="auto", interpolation="nearest")
        panel.set_title(f"layer {i + 1}", fontsize=8)
        panel.set_xticks([])
        panel.set_yticks([])
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")  # a script that no font has is drawn as boxes
        figure.savefig(path)


def _visible(token: str) -> str:
    """A token as a label."""
    text = token if token.isprintable() and token.strip() else repr(token)[1:-1]
    return text if len(text) <= 16 else f"{text[:15]}…"
