"""Texts and pairs of texts: one of several classes, or a number."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.data.batches import LabelledBatch
from lit_lm.data.labelled.unlabelled import Told
from lit_lm.label_metrics import ClassificationMetrics, RegressionMetrics
from lit_lm.losses import LossSum, widen
from lit_lm.models.base import Architecture
from lit_lm.nn.heads import HeadConfig
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.adaptation import Adaptation, Mode


class Classified(NamedTuple):
    """A text's most likely class, and the probability of each."""

    label: str
    probabilities: dict[str, float]


class Classification(Adaptation):
    """One of several classes for a text or a pair of texts, by cross-entropy.

    Args:
        net: the encoder's architecture: any of the suite's, or one of your own.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        head: what stands between the encoder's vectors and the scores.
        mode: what learns: "full": everything. "frozen": the head alone, the encoder is fixed and without dropout.
            "gradual": everything in the end, but one layer after the other, from the top, over the first half of training
            (Howard and Ruder 2018, section 3.3, https://aclanthology.org/P18-1031).
        layer_decay: each layer learns at this share of the rate of the one above it, the head at the whole rate (Clark et al.
            2020, appendix B, https://arxiv.org/abs/2003.10555).
    """

    target = "class"

    def __init__(
        self,
        net: Architecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        head: HeadConfig | None = None,
        mode: Mode = "full",
        layer_decay: float = 1.0,
    ) -> None:
        spec = spec or DataSpec()
        super().__init__(
            net,
            spec,
            optim or OptimConfig(),
            head or HeadConfig(),
            mode,
            layer_decay,
            num_outputs=max(len(spec.labels), 2),
            whole=True,
        )
        self.classes = nn.ModuleDict(
            {stage: ClassificationMetrics(max(len(spec.labels), 2)) for stage in ("val", "test")}
        )

    def loss_of(self, scores: Tensor, batch: LabelledBatch) -> LossSum:
        """See :class:`Adaptation`."""
        total = F.cross_entropy(widen(scores), batch.labels, reduction="sum")
        return LossSum(total, torch.full((), batch.size.labels, device=scores.device))

    def judge(self, stage: str, scores: Tensor, batch: LabelledBatch) -> None:
        """See :class:`Adaptation`."""
        metrics: Any = self.classes[stage]
        metrics.update(widen(scores).softmax(-1), batch.labels)

    def judged(self, stage: str) -> dict[str, Tensor]:
        """See :class:`Adaptation`: accuracy, F1, Matthews' correlation, calibration error."""
        metrics: Any = self.classes[stage]
        found: dict[str, Tensor] = metrics.compute()
        metrics.reset()
        return found

    def confusion(self, stage: str) -> tuple[list[str], Tensor]:
        """Names of the classes, and how often each was taken for which at the end of a stage, int64 (true, predicted)."""
        metrics: Any = self.classes[stage]
        return self.labels, metrics.matrix

    def described(
        self, scores: Tensor, batch: LabelledBatch, data: Any, split: str
    ) -> list[tuple[str, str]]:
        """See :class:`Adaptation`."""
        labels = self.labels
        best, true = scores.argmax(-1).tolist(), batch.labels.tolist()
        return [(labels[b], labels[t]) for b, t in zip(best, true, strict=True)]

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> list[tuple[int, Classified]]:
        """Each row's class, with the number of its example."""
        return list(zip(batch.index_B.tolist(), self.classified(self.scores(batch)), strict=True))

    def classify(
        self,
        texts: Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        told: Told | None = None,
        batch_tokens: int = 4096,
    ) -> list[Classified]:
        """The class of each text, or pair of texts.

        Args:
            texts: the texts, or the first ones of pairs.
            seconds: the second ones.
            told: of a text that is longer than the rows of training the beginning is read, and this is told the text's
                number, from 0, and its tokens; such a text is an error when None.
            batch_tokens: most positions that are computed together.

        Raises:
            InputError: a text is too long.
        """
        reader, out = self.unlabelled(), dict[int, Classified]()
        rows = reader.texts(texts, seconds, told)
        for which, scores, _ in self.scored(reader, rows, batch_tokens):
            out |= dict(zip(which, self.classified(scores), strict=True))
        return [out[i] for i in range(len(rows))]

    def classified(self, scores_BC: Tensor) -> list[Classified]:
        """Scores as classes with probabilities."""
        labels = self.labels
        probabilities = widen(scores_BC).softmax(-1).tolist()
        return [
            Classified(labels[row.index(max(row))], dict(zip(labels, row, strict=True)))
            for row in probabilities
        ]


class Regression(Adaptation):
    """A number for a text or a pair of texts, by mean squared error.

    Args:
        net: the encoder's architecture: any of the suite's, or one of your own.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        head: what stands between the encoder's vectors and the scores.
        mode: what learns, as in :class:`Classification`.
        layer_decay: how much less lower layers learn, as in :class:`Classification`.
    """

    target = "number"

    def __init__(
        self,
        net: Architecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        head: HeadConfig | None = None,
        mode: Mode = "full",
        layer_decay: float = 1.0,
    ) -> None:
        super().__init__(
            net,
            spec or DataSpec(),
            optim or OptimConfig(),
            head or HeadConfig(),
            mode,
            layer_decay,
            num_outputs=1,
            whole=True,
        )
        self.numbers = nn.ModuleDict({stage: RegressionMetrics() for stage in ("val", "test")})

    def loss_of(self, scores: Tensor, batch: LabelledBatch) -> LossSum:
        """See :class:`Adaptation`."""
        total = F.mse_loss(widen(scores).squeeze(-1), batch.labels, reduction="sum")
        return LossSum(total, torch.full((), batch.size.labels, device=scores.device))

    def judge(self, stage: str, scores: Tensor, batch: LabelledBatch) -> None:
        """See :class:`Adaptation`."""
        metrics: Any = self.numbers[stage]
        metrics.update(widen(scores).squeeze(-1), batch.labels)

    def judged(self, stage: str) -> dict[str, Tensor]:
        """See :class:`Adaptation`: Pearson's and Spearman's correlation, mean squared error."""
        metrics: Any = self.numbers[stage]
        found: dict[str, Tensor] = metrics.compute()
        metrics.reset()
        return found

    def described(
        self, scores: Tensor, batch: LabelledBatch, data: Any, split: str
    ) -> list[tuple[str, str]]:
        """See :class:`Adaptation`."""
        pairs = zip(scores.squeeze(-1).tolist(), batch.labels.tolist(), strict=True)
        return [(f"{found:.3f}", f"{true:.3f}") for found, true in pairs]

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> list[tuple[int, float]]:
        """Each row's number, with the number of its example."""
        found = widen(self.scores(batch)).squeeze(-1).tolist()
        return list(zip(batch.index_B.tolist(), found, strict=True))

    def rate(
        self,
        texts: Sequence[str],
        seconds: Sequence[str] | None = None,
        *,
        told: Told | None = None,
        batch_tokens: int = 4096,
    ) -> list[float]:
        """The number of each text, or pair of texts; see :meth:`Classification.classify`."""
        reader, out = self.unlabelled(), dict[int, float]()
        rows = reader.texts(texts, seconds, told)
        for which, scores, _ in self.scored(reader, rows, batch_tokens):
            out |= dict(zip(which, widen(scores).squeeze(-1).tolist(), strict=True))
        return [out[i] for i in range(len(rows))]
