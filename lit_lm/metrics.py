"""Metrics that accumulate sums and counts, so that they do not depend on batches, padding or ranks."""

from __future__ import annotations

import math
from collections.abc import Sequence

import torch
from sacrebleu.metrics.bleu import BLEU
from torch import Tensor
from torchmetrics import Metric

from lit_lm.losses import LossSum


class TokenMetrics(Metric):
    """Loss, perplexity, bits per byte and accuracy over predicted tokens.

    Args:
        total, count and correct of every batch, and the raw bytes that its tokens stand for.
    """

    full_state_update = False
    total: Tensor
    count: Tensor
    correct: Tensor
    bytes: Tensor

    def __init__(self) -> None:
        super().__init__()
        for name in ("total", "count", "correct", "bytes"):
            # float64 is exact for counts up to 2^53, and not to be turned into half precision.
            self.add_state(name, torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, loss: LossSum, num_bytes: int) -> None:
        """Adds one batch."""
        self.total += loss.total.detach()
        self.count += loss.targets
        self.bytes += num_bytes
        if loss.correct is not None:
            self.correct += loss.correct

    def compute(self) -> dict[str, Tensor]:
        """``loss`` (nats per token), ``ppl``, ``bpb`` (bits per raw byte), ``accuracy``, ``tokens``."""
        loss = self.total / self.count
        return {
            "loss": loss,
            "ppl": loss.exp(),
            "bpb": self.total / self.bytes / math.log(2),
            "accuracy": self.correct / self.count,
            "tokens": self.count,
        }

    def set_dtype(self, dst_type: str | torch.dtype) -> TokenMetrics:
        """Sums stay float64 whatever the module's precision."""
        return self


class TranslationMetrics(Metric):
    """Corpus BLEU as sacrebleu computes it, and exact match.

    BLEU: Papineni et al. 2002; Post 2018, https://aclanthology.org/W18-6319. The n-gram statistics of
    each sentence are summed over batches and ranks; BLEU is computed once, from the sums.
    """

    full_state_update = False
    statistics: Tensor
    exact: Tensor
    sentences: Tensor

    def __init__(self) -> None:
        super().__init__()
        self.bleu = BLEU()
        size = 2 + 2 * self.bleu.max_ngram_order
        self.add_state("statistics", torch.zeros(size, dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("exact", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")
        self.add_state("sentences", torch.zeros((), dtype=torch.float64), dist_reduce_fx="sum")

    def update(self, outputs: Sequence[str], references: Sequence[str]) -> None:
        """Adds sentences: detokenised outputs, and one raw reference each."""
        for output, reference in zip(outputs, references, strict=True):
            score = self.bleu.corpus_score([output], [[reference]])
            row = [score.sys_len, score.ref_len, *score.counts, *score.totals]
            self.statistics += torch.tensor(row, dtype=torch.float64, device=self.statistics.device)
            self.exact += output == reference
            self.sentences += 1

    def compute(self) -> dict[str, Tensor]:
        """``bleu`` (0 to 100) and ``exact_match`` (0 to 1)."""
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
        return {"bleu": torch.tensor(score.score), "exact_match": self.exact / self.sentences}

    def set_dtype(self, dst_type: str | torch.dtype) -> TranslationMetrics:
        """Sums stay float64 whatever the module's precision."""
        return self
