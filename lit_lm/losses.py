"""Losses as sums and counts, so that any mean can be taken exactly once, over any set of tokens.

Shape letters: B rows, L positions, D width, N predicted positions, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
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
        parts: the losses that this one is made of, by name, to be logged each on its own.
    """

    total: Tensor
    targets: Tensor
    correct: Tensor | None = None
    parts: Mapping[str, LossSum] | None = None


def cross_entropy(
    h_BLD: Tensor,
    head: Callable[[Tensor], Tensor],
    labels_BL: Tensor,
    *,
    label_smoothing: float = 0.0,
    accuracy: bool = False,
) -> LossSum:
    """Cross-entropy of an output layer's logits, projected at the predicted positions only.

    Label smoothing is Szegedy et al. 2016, section 7, as in Vaswani et al. 2017, section 5.4.

    Args:
        h_BLD: float hidden vectors, of any leading shape.
        head: maps them to logits.
        labels_BL: int64 targets of the same leading shape, -100 where nothing is predicted.
        label_smoothing: share of probability spread over the whole vocabulary, 0 to 1.
        accuracy: also count correct predictions.
    """
    keep = labels_BL != -100
    labels_N = labels_BL[keep]
    logits_NV = head(h_BLD[keep])
    total = F.cross_entropy(
        widen(logits_NV), labels_N, reduction="sum", label_smoothing=label_smoothing
    )
    correct = (logits_NV.argmax(-1) == labels_N).sum() if accuracy else None
    return LossSum(total, torch.tensor(labels_N.numel(), device=labels_BL.device), correct)


def widen(logits: Tensor) -> Tensor:
    """Logits in single precision at least: a softmax in half precision loses what is learned."""
    return logits if logits.dtype == torch.float64 else logits.float()


class SampledSoftmax:
    """Cross-entropies whose normaliser is estimated from a sample of the vocabulary (Bengio and Senecal 2008;
    Jean et al. 2015, section 3): exact in the limit of many draws. For training only.

    Words are drawn from the log-uniform distribution over ids, which suits a vocabulary in order of
    frequency (Jozefowicz et al. 2016, section 3.1). A word that was drawn, however often, counts by one over
    the probability that it is (Horvitz and Thompson 1952). The target itself always counts once.

    The rows of the output layer that are needed are taken from it once, for all losses of a step.

    Args:
        head: the output layer.
        labels: int64 targets of any shape, all that will be asked for; -100 where nothing is predicted.
        num_samples: words to draw, the same for all targets.
    """

    def __init__(self, head: nn.Linear, labels: Tensor, num_samples: int) -> None:
        size = head.out_features
        draws = torch.rand(num_samples, device=labels.device)
        drawn = (torch.exp(draws * math.log(size + 1)) - 1).long().clamp(max=size - 1)
        sample_S: Tensor = torch.unique(drawn)
        share_S = log_uniform(size, sample_S.device)[sample_S]
        # The logarithm of 1 - (1 - share)^num_samples.
        self.log_chance_S = (-torch.expm1(num_samples * torch.log1p(-share_S))).log().float()
        needed = torch.cat((sample_S, labels[labels != -100]))
        self.ids_K: Tensor = torch.unique(needed)
        self.sample_S = torch.searchsorted(self.ids_K, sample_S)
        # Each row is taken once: its gradient is added to the layer's once.
        self.weight_KD = head.weight.index_select(0, self.ids_K)
        bias = head.bias if head.bias is not None else head.weight.new_zeros(size)
        self.bias_K = bias.index_select(0, self.ids_K)

    def cross_entropy(self, h_BLD: Tensor, labels_BL: Tensor) -> LossSum:
        """The loss of some of the targets.

        Args:
            h_BLD: float hidden vectors, of any leading shape.
            labels_BL: int64 targets of the same leading shape, -100 where nothing is predicted.
        """
        keep = labels_BL != -100
        labels_N, h_ND = torch.searchsorted(self.ids_K, labels_BL[keep]), h_BLD[keep]
        weight_ND, bias_N = F.embedding(labels_N, self.weight_KD), self.bias_K[labels_N]
        own_N = (h_ND * weight_ND).sum(-1).float() + bias_N
        weight_SD = self.weight_KD.index_select(0, self.sample_S)
        others_NS = F.linear(h_ND, weight_SD, self.bias_K.index_select(0, self.sample_S)).float()
        others_NS = others_NS - self.log_chance_S
        others_NS = others_NS.masked_fill(labels_N.unsqueeze(1) == self.sample_S, float("-inf"))
        logits = torch.cat((own_N.unsqueeze(1), others_NS), dim=1)
        total = F.cross_entropy(logits, torch.zeros_like(labels_N), reduction="sum")
        return LossSum(total, torch.tensor(labels_N.numel(), device=labels_BL.device))


def log_uniform(size: int, device: torch.device | None = None) -> Tensor:
    """float64 (size): the distribution over ids that words are drawn from, of a vocabulary in order of frequency."""
    ids = torch.arange(size, dtype=torch.float64, device=device)
    return torch.log1p(1 / (ids + 1)) / math.log(size + 1)
