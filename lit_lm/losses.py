"""Losses as sums and counts, so that any mean can be taken exactly once, over any set of tokens.

Shape letters: B rows, L positions, D width, N predicted positions, V vocabulary.
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F


class LossSum(NamedTuple):
    """A loss summed over targets.

    Args:
        total: float scalar, nats summed over targets; what is differentiated.
        targets: int64 scalar, how many there are.
        correct: int64 scalar, targets that had the largest logit; None where it was not asked for.
    """

    total: Tensor
    targets: Tensor
    correct: Tensor | None = None


def cross_entropy(
    h_BLD: Tensor,
    head: nn.Linear,
    labels_BL: Tensor,
    *,
    label_smoothing: float = 0.0,
    accuracy: bool = False,
) -> LossSum:
    """Cross-entropy of an output layer's logits, projected at the predicted positions only.

    Label smoothing is Szegedy et al. 2016, section 7, as in Vaswani et al. 2017, section 5.4.

    Args:
        h_BLD: float hidden vectors.
        head: maps them to logits over the vocabulary.
        labels_BL: int64 targets, -100 where nothing is predicted.
        label_smoothing: share of probability spread over the whole vocabulary, 0 to 1.
        accuracy: also count correct predictions.
    """
    keep = labels_BL != -100
    labels_N = labels_BL[keep]
    logits_NV = head(h_BLD[keep])
    wide = logits_NV if logits_NV.dtype == torch.float64 else logits_NV.float()
    total = F.cross_entropy(wide, labels_N, reduction="sum", label_smoothing=label_smoothing)
    correct = (logits_NV.argmax(-1) == labels_N).sum() if accuracy else None
    return LossSum(total, torch.tensor(labels_N.numel(), device=labels_BL.device), correct)
