"""Metrics that accumulate sums and counts, so that they do not depend on batches, padding or ranks."""

from __future__ import annotations

import math
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_lm import scores
from lit_lm.losses import LossSum


class _Sums(Metric):
    """States that are added over batches and ranks."""

    full_state_update = False

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        # float64 is exact for counts up to 2^53, and not to be turned into half precision.
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def set_dtype(self, dst_type: str | torch.dtype) -> Self:
        """Sums stay as they are whatever the module's precision."""
        return self


class TokenMetrics(_Sums):
    """Loss, perplexity, bits per byte and accuracy over predicted tokens.

    Args:
        total, count and correct of every batch, the raw bytes that its tokens stand for, and its rows.
    """

    total: Tensor
    count: Tensor
    correct: Tensor
    bytes: Tensor
    rows: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count", "correct", "bytes", "rows"):
            self.add_sum(name)

    def update(self, loss: LossSum, num_bytes: int, rows: int) -> None:
        """Adds one batch."""
        self.total += loss.total.detach()
        self.count += loss.targets
        self.bytes += num_bytes
        self.rows += rows
        if loss.correct is not None:
            self.correct += loss.correct

    def compute(self) -> dict[str, Tensor]:
        """``loss`` (nats per token), ``ppl``, ``bpb`` (bits per raw byte), ``accuracy``, ``tokens``, ``rows``."""
        loss = self.total / self.count
        return {
            "loss": loss,
            "ppl": loss.exp(),
            "bpb": self.total / self.bytes / math.log(2),
            "accuracy": self.correct / self.count,
            "tokens": self.count,
            "rows": self.rows,
        }


class TranslationMetrics(_Sums):
    """Corpus BLEU and chrF as sacrebleu computes them by default, exact match, and what else is asked for.

    BLEU: Papineni et al. 2002; Post 2018, https://aclanthology.org/W18-6319. chrF: Popović 2015,
    https://aclanthology.org/W15-3049. TER: Snover et al. 2006, https://aclanthology.org/2006.amta-papers.25.
    sacrebleu's statistics of each sentence are summed over batches and ranks; scores are computed once, from the sums.

    Args:
        full: TER, and BLEU by the length of the source too.
        rouge: ROUGE-1, -2 and -L too, see :class:`lit_lm.scores.Rouge`.
    """

    lengths: Tensor
    exact: Tensor

    def __init__(self, *, full: bool = True, rouge: bool = False) -> None:
        super().__init__()
        self.full = full
        self.scores = scores.metrics(ter=full, rouge=rouge)
        buckets = len(scores.LENGTHS)
        for name, metric in self.scores.items():
            width = scores.statistics(metric, [""], [""]).shape[1]
            self.add_sum(f"{name}_sums", *([buckets] if name == "bleu" else []), width)
        self.add_sum("lengths", buckets)
        self.add_sum("exact")

    def update(
        self, outputs: Sequence[str], references: Sequence[str], sources: Sequence[str]
    ) -> None:
        """Adds sentences: detokenised outputs, one raw reference each, and their sources.

        Raises:
            ValueError: their numbers differ.
        """
        if not len(outputs) == len(references) == len(sources):
            raise ValueError(
                f"{len(outputs)} outputs, {len(references)} references, {len(sources)} sources"
            )
        buckets = torch.tensor([scores.length_bucket(s) for s in sources], device=self.exact.device)
        for name, metric in self.scores.items():
            found = scores.statistics(metric, outputs, references)
            rows, sums = self.exact.new_tensor(found), getattr(self, f"{name}_sums")
            if name == "bleu":
                sums.index_add_(0, buckets, rows)
            else:
                sums += rows.sum(0)
        self.lengths += torch.bincount(buckets, minlength=len(self.lengths))
        self.exact += sum(o == r for o, r in zip(outputs, references, strict=True))

    def compute(self) -> dict[str, Tensor]:
        """``bleu`` and ``chrf`` (0 to 100), ``exact_match`` (0 to 1); where asked for ``ter`` (0 is best), ``bleu_len_1_10``
        and so on for the lengths that there are, and ``rouge1``, ``rouge2`` and ``rougeL`` (0 to 100).
        """
        sums = {name: getattr(self, f"{name}_sums") for name in self.scores}
        by_length = {
            f"bleu_len_{bucket}": row
            for bucket, row, count in zip(scores.LENGTHS, sums["bleu"], self.lengths, strict=True)
            if self.full and count > 0
        }
        sums["bleu"] = sums["bleu"].sum(0)
        found = {name: self._score(name, row) for name, row in sums.items()}
        found["exact_match"] = self.exact / self.lengths.sum()
        return found | {name: self._score("bleu", row) for name, row in by_length.items()}

    def _score(self, name: str, sums: Tensor) -> Tensor:
        return self.exact.new_tensor(scores.score(self.scores[name], sums.tolist()))


class EntityMetrics(_Sums):
    """Precision, recall and F1 of whole entities in tag sequences (Tjong Kim Sang and De Meulder 2003,
    https://aclanthology.org/W03-0419), counted as seqeval does by default.

    Tags are ``O``, and ``B-TYPE`` and ``I-TYPE`` for the first and the later tokens of an entity. An ``I-``
    behind ``O`` or behind another type begins an entity too. An entity is right when type, first and last token are.

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
        """Adds sentences: for each a tag per token, predicted and true.

        Raises:
            ValueError: lengths differ, or a tag is none of a known type.
        """
        rows = [[0, 0, 0] for _ in self.types]
        for ours, theirs in zip(predicted, true, strict=True):
            if len(ours) != len(theirs):
                raise ValueError(f"{len(ours)} predicted tags for a sentence of {len(theirs)}")
            found = set(_entities(ours)), set(_entities(theirs))
            for column, entities in enumerate((*found, found[0] & found[1])):
                for kind, _, _ in entities:
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
        return out


def _entities(tags: Sequence[str]) -> Iterator[tuple[str, int, int]]:
    """Type, first token and the one behind the last of each entity."""
    begin, kind = 0, ""
    for i, tag in enumerate([*tags, "O"]):
        mark, _, new = tag.partition("-")
        if (mark, bool(new)) not in (("O", False), ("B", True), ("I", True)):
            raise ValueError(f"tag {tag!r}; O, B-TYPE or I-TYPE is wanted")
        if kind and (mark != "I" or new != kind):
            yield kind, begin, i
            kind = ""
        if new and not kind:
            begin, kind = i, new


class ClassificationMetrics(_Sums):
    """Accuracy, F1 and Matthews' correlation (Matthews 1975; Gorodkin 2004 for more than two classes), from one
    confusion matrix.

    Args:
        num_classes: how many classes there are.
    """

    confusion: Tensor

    def __init__(self, num_classes: int) -> None:
        super().__init__()
        self.num_classes = num_classes
        # Rows are true classes, columns predicted ones.
        self.add_sum("confusion", num_classes, num_classes, dtype=torch.int64)

    def update(self, predicted_B: Tensor, labels_B: Tensor) -> None:
        """Adds a batch.

        Args:
            predicted_B: int64 predicted classes.
            labels_B: int64 true classes.

        Raises:
            ValueError: shapes differ, or a class is not below ``num_classes``.
        """
        if predicted_B.shape != labels_B.shape:
            raise ValueError(
                f"{list(predicted_B.shape)} predictions for {list(labels_B.shape)} labels"
            )
        both = torch.stack([labels_B.flatten(), predicted_B.flatten()])
        if ((both < 0) | (both >= self.num_classes)).any():
            raise ValueError(f"a class is not between 0 and {self.num_classes - 1}")
        cells = torch.bincount(both[0] * self.num_classes + both[1], minlength=self.num_classes**2)
        self.confusion += cells.view_as(self.confusion)

    def compute(self) -> dict[str, Tensor]:
        """``accuracy``, ``macro_f1``, ``mcc`` (-1 to 1), and of two classes ``f1`` of class 1.

        Macro F1 is the mean over the classes that labels or predictions have; F1 of a class that neither has is
        0. The correlation is 0 where labels or predictions are all of one class. Without examples all are NaN.
        """
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
        }
        if self.num_classes == 2:
            found["f1"] = f1[1]
        return found if total else {name: matrix.new_tensor(math.nan) for name in found}


def _share(part: Tensor, whole: Tensor) -> Tensor:
    """A quotient in float64; of nothing it is 0."""
    return torch.where(whole == 0, 0.0, part.double() / whole)
