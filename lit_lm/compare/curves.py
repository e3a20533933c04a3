"""Learning curves from the CSV that Lightning writes."""

from __future__ import annotations

import csv
import math
from collections.abc import Iterable
from pathlib import Path

AXES = ("tokens", "bytes", "flops", "seconds")
_TEXT = ("val/loss", "val/bpb", "val/ppl", "val/optimal_ppl", "val/accuracy", "val/bleu")
_GAPS = ("val/mlm_loss", "val/mlm_accuracy", "val/nsp_loss", "val/nsp_accuracy")
_VALUES = (*_TEXT, *_GAPS, "train/loss")
# More points than a screen has pixels only make the page heavy.
_MOST_POINTS = 400

Curve = dict[str, list[float | None]]


def read_curves(folder: Path, also: Iterable[str] = ()) -> dict[str, Curve]:
    """The curves of a run, by metric.

    Args:
        folder: the run's; ``metrics.csv`` may lie deeper in it.
        also: metrics to read beside those that a page shows.

    Returns:
        For each metric that was logged, ``step``, the counters and ``value``: lists of one length.
    """
    found = sorted(folder.rglob("metrics.csv"), key=lambda path: (len(path.parts), path))
    if not found:
        return {}
    with found[0].open(encoding="utf-8", newline="") as file:
        rows = [_numbers(row) for row in csv.DictReader(file)]
    curves: dict[str, Curve] = {}
    counters: dict[str, float] = {}
    for row in rows:
        # A row without counters stands where the last row with counters stood.
        counters |= {axis: row[axis] for axis in AXES if axis in row}
        for metric in dict.fromkeys((*_VALUES, *also)):
            if metric in row:
                curve = curves.setdefault(metric, {key: [] for key in ("step", *AXES, "value")})
                for key, value in {
                    "step": row.get("step"),
                    **counters,
                    "value": row[metric],
                }.items():
                    curve[key].append(value)
                for axis in AXES:
                    if axis not in counters:
                        curve[axis].append(None)
    return {metric: _thin(curve) for metric, curve in curves.items()}


def _numbers(row: dict[str, str]) -> dict[str, float]:
    out = {}
    for key, text in row.items():
        try:
            value = float(text)
        except (TypeError, ValueError):
            continue
        if math.isfinite(value):
            out[key] = value
    return out


def _thin(curve: Curve) -> Curve:
    count = len(curve["value"])
    if count <= _MOST_POINTS:
        return curve
    kept = {round(i * (count - 1) / (_MOST_POINTS - 1)) for i in range(_MOST_POINTS)}
    ordered = sorted(range(count), key=lambda i: curve["value"][i] or 0.0)
    keep = sorted(kept | {ordered[0], ordered[-1]})  # with the best, whichever end that is
    return {key: [values[i] for i in keep] for key, values in curve.items()}
