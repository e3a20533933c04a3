"""Metrics that accumulate sums and counts, so that they do not depend on batches, padding or ranks. Those of labels
are in ``label_metrics.py``.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Self

import torch
from torch import Tensor
from torchmetrics import Metric

from lit_lm import scores
from lit_lm.losses import LossSum


class Sums(Metric):
    """States that are added over batches and ranks."""

    full_state_update = False

    def add_sum(self, name: str, *shape: int, dtype: torch.dtype = torch.float64) -> None:
        # float64 is exact for counts up to 2^53, and not to be turned into half precision.
        self.add_state(name, torch.zeros(shape, dtype=dtype), dist_reduce_fx="sum")

    def set_dtype(self, dst_type: str | torch.dtype) -> Self:
        """Sums stay as they are whatever the module's precision."""
        return self


class TokenMetrics(Sums):
    """Loss, perplexity, bits per byte and accuracy over predicted tokens, from total, count and correct of every batch, the
    raw bytes that its tokens stand for, and its rows.
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


class TranslationMetrics(Sums):
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
