"""Metrics of adapted models: of classes, numbers, entities and answers. They too accumulate sums and counts; only a
correlation of ranks must keep every example.
"""

from __future__ import annotations

import math
import re
import string
from collections import Counter
from collections.abc import Sequence

import torch
from torch import Tensor
from torchmetrics import Metric
from torchmetrics.utilities import dim_zero_cat

from lit_lm.data.labelled.tags import entities
from lit_lm.metrics import Sums

_BINS = 15
"""Of confidence, as in Guo et al. 2017."""

_PUNCTUATION = str.maketrans("", "", string.punctuation)


class ClassificationMetrics(Sums):
    """Accuracy, F1, Matthews' correlation (Matthews 1975; Gorodkin 2004 for more than two classes) and the expected
    calibration error (Guo et al. 2017, https://arxiv.org/abs/1706.04599).

    Args:
        num_classes: how many classes there are.

    Attributes:
        matrix: int64 (true, predicted), the confusion matrix of all ranks at the last ``compute``; outlives ``reset``.
    """

    confusion: Tensor
    gaps: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Rows are true classes, columns predicted ones.
        self.add_sum("confusion", num_classes, num_classes, dtype=torch.int64)
        # Of each bin: right answers minus confidences.
        self.add_sum("gaps", _BINS)
        self.matrix: Tensor | None = None

    def update(self, probabilities_BC: Tensor, labels_B: Tensor) -> None:
        """Adds a batch.

        Args:
            probabilities_BC: float probability of each class.
            labels_B: int64 true classes.

        Raises:
            ValueError: shapes do not fit, or a class is not below ``num_classes``.
        """
        if probabilities_BC.shape != (*labels_B.shape, self.num_classes) or labels_B.dim() != 1:
            raise ValueError(
                f"{list(probabilities_BC.shape)} probabilities of {self.num_classes} classes for "
                f"{list(labels_B.shape)} labels"
            )
        if ((labels_B < 0) | (labels_B >= self.num_classes)).any():
            raise ValueError(f"a class is not between 0 and {self.num_classes - 1}")
        confidence_B, predicted_B = probabilities_BC.double().max(1)
        cells = labels_B * self.num_classes + predicted_B
        self.confusion += torch.bincount(cells, minlength=self.num_classes**2).view_as(
            self.confusion
        )
        bins_B = ((confidence_B * _BINS).ceil().long() - 1).clamp(0, _BINS - 1)
        self.gaps.index_add_(0, bins_B, (predicted_B == labels_B).double() - confidence_B)

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``macro_f1``, ``mcc`` (-1 to 1), ``ece`` (0 to 1, 0 is best), and of two classes ``f1`` of class 1.

        Macro F1 is the mean over the classes that labels or predictions have; F1 of a class that neither has is
        0. The correlation is 0 where labels or predictions are all of one class. The calibration error is over 15
        bins of the largest probability, equally wide, each with its upper end. Without examples all are NaN.
        """
        self.matrix = self.confusion.clone()
        matrix = self.confusion.double()
        total, right = matrix.sum(), matrix.diagonal()
        true, predicted = matrix.sum(1), matrix.sum(0)
        f1 = _share(2 * right, true + predicted)
        covariance = right.sum() * total - true @ predicted
        spread = (total**2 - true @ true) * (total**2 - predicted @ predicted)
        found = {
            "accuracy": right.sum() / total,
            "macro_f1": f1[true + predicted > 0].mean(),
            "mcc": _share(covariance, spread.sqrt()),
            "ece": self.gaps.abs().sum() / total,
            "classes_predicted": (predicted > 0).sum().double(),
        }
        if self.num_classes == 2:
            found["f1"] = f1[1]
        return found if total else {name: matrix.new_tensor(math.nan) for name in found}


class RegressionMetrics(Metric):
    """Pearson's correlation, Spearman's (of ranks, equal values sharing theirs) and the mean squared error."""

    full_state_update = False
    predicted: list[Tensor]  # float64 (B,) of each batch; after a gathering one tensor of all
    labels: list[Tensor]

    def __init__(self) -> None:
        super().__init__()
        self.set_dtype(torch.float64)  # also that of what a rank without examples sends
        for name in ("predicted", "labels"):
            self.add_state(name, [], dist_reduce_fx="cat")

    def update(self, predicted_B: Tensor, labels_B: Tensor) -> None:
        """Adds a batch of floats.

        Raises:
            ValueError: shapes differ.
        """
        if predicted_B.shape != labels_B.shape:
            raise ValueError(
                f"{list(predicted_B.shape)} predictions for {list(labels_B.shape)} labels"
            )
        self.predicted.append(predicted_B.detach().flatten().double())
        self.labels.append(labels_B.flatten().double())

    def compute(self) -> dict[str, Tensor]:
        """``pearson`` and ``spearman`` (-1 to 1), 0 where labels or predictions are all one number, and ``mse``. Without
        examples all are NaN.
        """
        predicted, labels = (
            dim_zero_cat(state) if len(state) else torch.zeros(0, dtype=torch.float64)
            for state in (self.predicted, self.labels)
        )
        return {
            "pearson": _correlation(predicted, labels),
            "spearman": _correlation(_ranks(predicted), _ranks(labels)),
            "mse": (predicted - labels).square().mean(),
        }


class EntityMetrics(Sums):
    """Precision, recall and F1 of whole entities in tag sequences (Tjong Kim Sang and De Meulder 2003,
    https://aclanthology.org/W03-0419), counted as seqeval does by default: see
    :func:`lit_lm.data.labelled.tags.entities`. An entity is right when type, first and last token are.

    Args:
        types: names of the types of entities.
    """

    counts: Tensor

    def __init__(self, types: Sequence[str]) -> None:
        super().__init__()
        self.types = list(types)
        # Of each type: predicted, true, and both.
        self.add_sum("counts", len(self.types), 3, dtype=torch.int64)

    def update(self, predicted: Sequence[Sequence[str]], true: Sequence[Sequence[str]]) -> None:
        """Adds sentences: for each a tag per token, predicted and true, in any scheme.

        Raises:
            ValueError: lengths differ, or a tag is none of a known type.
        """
        rows = [[0, 0, 0] for _ in self.types]
        for ours, theirs in zip(predicted, true, strict=True):
            if len(ours) != len(theirs):
                raise ValueError(f"{len(ours)} predicted tags for a sentence of {len(theirs)}")
            found = set(entities(ours)), set(entities(theirs))
            for column, spans in enumerate((*found, found[0] & found[1])):
                for kind, _, _ in spans:
                    if kind not in self.types:
                        raise ValueError(f"entity of type {kind!r}; known are {self.types}")
                    rows[self.types.index(kind)][column] += 1
        self.counts += self.counts.new_tensor(rows).reshape(self.counts.shape)

    def compute(self) -> dict[str, Tensor]:
        """``precision``, ``recall`` and ``f1`` (0 to 1) over all entities, and of each type as ``f1_TYPE``
        and so on. A share of nothing is 0.
        """
        groups = {"": self.counts.sum(0)}
        groups |= {f"_{kind}": row for kind, row in zip(self.types, self.counts, strict=True)}
        out: dict[str, Tensor] = {}
        for suffix, (predicted, true, right) in groups.items():
            out[f"precision{suffix}"] = _share(right, predicted)
            out[f"recall{suffix}"] = _share(right, true)
            out[f"f1{suffix}"] = _share(2 * right, predicted + true)
        out["entities_predicted"] = self.counts[:, 0].sum().double()
        return out


class AnswerMetrics(Sums):
    """Exact match and F1 of words between answers, after SQuAD's normalisation (Rajpurkar et al. 2016, section 6,
    https://aclanthology.org/D16-1264): no capitals, punctuation or articles. Each answer counts as beside the reference
    that fits it best; a question without references wants the empty answer (Rajpurkar et al. 2018,
    https://aclanthology.org/P18-2124).
    """

    exact: Tensor
    overlap: Tensor
    count: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("exact", "overlap", "count"):
            self.add_sum(name)

    def update(self, answers: Sequence[str], references: Sequence[Sequence[str]]) -> None:
        """Adds questions: for each an answer, and all that would be right."""
        for answer, wanted in zip(answers, references, strict=True):
            ours = _words(answer)
            theirs = [words for words in map(_words, wanted) if words] or [[]]
            self.exact += ours in theirs
            self.overlap += max(_f1(ours, words) for words in theirs)
        self.count += len(answers)

    def compute(self) -> dict[str, Tensor]:
        """``exact_match`` and ``f1``, means over questions (0 to 1); without questions NaN."""
        return {"exact_match": self.exact / self.count, "f1": self.overlap / self.count}


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """A quotient in float64; of nothing it is 0."""
    return torch.where(whole == 0, 0.0, part.double() / whole)


def _correlation(x: Tensor, y: Tensor) -> Tensor:
    """Pearson's, of float64 vectors; NaN of nothing."""
    if len(x) and (x.min() == x.max() or y.min() == y.max()):
        return x.new_zeros(())
    x, y = x - x.mean(), y - y.mean()
    return x @ y / ((x @ x) * (y @ y)).sqrt()


def _ranks(x: Tensor) -> Tensor:
    """From 1; equal values share the mean of theirs, and what is not a number has none."""
    _, which, counts = torch.unique(x, return_inverse=True, return_counts=True)
    last = counts.cumsum(0).double()
    return torch.where(x.isnan(), x, (last - (counts - 1) / 2)[which])


def _words(answer: str) -> list[str]:
    return re.sub(r"\b(a|an|the)\b", " ", answer.lower().translate(_PUNCTUATION)).split()


def _f1(ours: list[str], theirs: list[str]) -> float:
    """Of two bags of words; two empty ones are the same."""
    if not ours or not theirs:
        return float(ours == theirs)
    return 2 * (Counter(ours) & Counter(theirs)).total() / (len(ours) + len(theirs))
