"""The mean of several checkpoints' weights, which often translates better than any of them (Vaswani et al. 2017,
section 6.1; Popel and Bojar 2018, https://arxiv.org/abs/1804.00247, section 4.10).
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from lit_lm import checkpoints
from lit_lm.errors import InputError

_BELONGS_TO_TRAINING = (
    "optimizer_states",
    "lr_schedulers",
    "loops",
    "callbacks",
    "resume",
    "current_model_state",  # beside a running mean
    "averaging_state",
)


def average(paths: Sequence[str | Path]) -> dict[str, Any]:
    """A checkpoint whose weights are the mean of others'. It can be tested and used, but not be trained on from.

    Args:
        paths: checkpoints of one run, or of several that differ in nothing but what was learned. What is no number
            with a fraction (a counter, say), and everything beside the weights, is the last one's.

    Returns:
        Its content; ``averaged`` names the files.

    Raises:
        InputError: there are none, or they do not hold the same weights by names and shapes, or other tokenizers.
    """
    if not paths:
        raise InputError("there are no checkpoints to average: name at least one")
    last = checkpoints.load(paths[-1])
    sums = {n: w.double() for n, w in last["state_dict"].items() if _has_mean(w)}
    for path in paths[:-1]:
        other = checkpoints.load(path)
        _check_alike(path, other, paths[-1], last)
        for name, total in sums.items():
            total += other["state_dict"][name]
    means = {name: total / len(paths) for name, total in sums.items()}
    weights = {n: means[n].to(w.dtype) if n in means else w for n, w in last["state_dict"].items()}
    weights = _tied(weights, last["state_dict"])
    content = {key: value for key, value in last.items() if key not in _BELONGS_TO_TRAINING}
    return content | {"state_dict": weights, "averaged": [Path(path).name for path in paths]}


def _tied(weights: dict[str, Tensor], like: dict[str, Tensor]) -> dict[str, Tensor]:
    """The same weights; those under several names that are one tensor there, and equal, are one: a file holds it once."""
    first: dict[int, str] = {}
    out = {}
    for name, weight in weights.items():
        same = weights[first.setdefault(like[name].data_ptr(), name)]
        out[name] = same if torch.equal(same, weight) else weight
    return out


def _has_mean(weight: Tensor) -> bool:
    return torch.is_floating_point(weight)


def _check_alike(
    path: str | Path, other: dict[str, Any], last_path: str | Path, last: dict[str, Any]
) -> None:
    theirs, ours = ({n: list(w.shape) for n, w in c["state_dict"].items()} for c in (other, last))
    if theirs != ours:
        name = next(n for n in (*ours, *theirs) if ours.get(n) != theirs.get(n))
        one, two = (f"has {s[name]}" if name in s else "lacks it" for s in (theirs, ours))
        raise InputError(
            f"these checkpoints hold different networks, which have no mean: of {name}, {path} {one} and {last_path} {two}"
        )
    if other.get("tokenizer") != last.get("tokenizer"):
        raise InputError(
            f"{path} and {last_path} have different tokenizers: their weights have no mean"
        )
