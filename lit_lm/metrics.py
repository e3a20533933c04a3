"""Metrics that accumulate sums and counts, so that they do not depend on batches, padding or ranks."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Self

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor
from torchmetrics import Metric

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
    """Corpus BLEU and chrF as sacrebleu computes them by default, and exact match.

    BLEU: Papineni et al. 2002; Post 2018, https://aclanthology.org/W18-6319. chrF: Popović 2015,
    https://aclanthology.org/W15-3049 (n-grams of 1 to 6 characters without spaces, beta 2). The n-gram
    statistics of each sentence are summed over batches and ranks; both are computed once, from the sums.
    """

    statistics: Tensor
    characters: Tensor
    exact: Tensor
    sentences: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bleu = BLEU()
        self.add_sum("statistics", 2 + 2 * self.bleu.max_ngram_order)
        self.add_sum("characters", _CHARACTERS, 3)
        self.add_sum("exact")
        self.add_sum("sentences")

    def update(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        """Adds sentences: detokenised outputs, and one raw reference each."""
        for output, reference in zip(outputs, references, strict=True):
            score = self.bleu.corpus_score([output], [[reference]])
            row = [score.sys_len, score.ref_len, *score.counts, *score.totals]
            self.statistics += self.statistics.new_tensor(row)
            self.characters += self.characters.new_tensor(list(_matches(output, reference)))
            self.exact += output == reference
            self.sentences += 1

    def compute(self) -> dict[str, Tensor]:
        """``bleu`` and ``chrf`` (0 to 100), ``exact_match`` (0 to 1)."""
        sys_len, ref_len, *rest = (int(x) for x in self.statistics.tolist())
        order = self.bleu.max_ngram_order
        score = BLEU.compute_bleu(
            rest[:order],
            rest[order:],
            sys_len,
            ref_len,
            smooth_method=self.bleu.smooth_method,
            smooth_value=self.bleu.smooth_value,
            effective_order=self.bleu.effective_order,
            max_ngram_order=order,
        )
        return {
            "bleu": torch.tensor(score.score),
            "chrf": self._chrf(),
            "exact_match": self.exact / self.sentences,
        }

    def _chrf(self) -> Tensor:
        """Mean precision and recall over the n-gram lengths that both sides have, and their F2."""
        counts = self.characters[(self.characters[:, :2] > 0).all(1)]
        if not counts[:, 2].any():
            return self.characters.new_zeros(())
        precision, recall = (counts[:, 2:] / counts[:, :2]).mean(0)
        score: Tensor = 100 * 5 * precision * recall / (4 * precision + recall)
        return score


_CHARACTERS = 6


def _matches(output: str, reference: str) -> Iterator[tuple[int, int, int]]:
    """Of each length: n-grams of the output (0 where the reference has none), of the reference, of both."""
    texts = ["".join(text.split()) for text in (output, reference)]
    for n in range(1, _CHARACTERS + 1):
        ours, theirs = (Counter(t[i : i + n] for i in range(len(t) - n + 1)) for t in texts)
        yield ours.total() if theirs else 0, theirs.total(), (ours & theirs).total()


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
