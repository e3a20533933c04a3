"""Masked language modelling and next-sentence prediction: BERT's pre-training."""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor
from torch.nn import functional as F

from lit_lm.data.batches import IGNORE, BatchSize, MaskedBatch
from lit_lm.errors import check_counts
from lit_lm.losses import LossSum, cross_entropy, widen
from lit_lm.models.base import MaskedArchitecture, MaskedNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.base import Task


class Fill(NamedTuple):
    """One way to fill a gap."""

    token: str
    probability: float


class Filled(NamedTuple):
    """A text with gaps, the most likely fills of each gap, and the text with the best of each in place."""

    text: str
    fills: list[list[Fill]]
    output: str


class MaskedLM(Task):
    """An encoder that fills gaps, and where rows have two segments tells whether the second follows the first
    (Devlin et al. 2019, section 3.1).

    The loss is the mean over gaps of their cross-entropy plus that of their row's next-sentence label: one
    denominator, so that the gradient is exact over any division into micro-batches and ranks. For rows with
    equally many gaps this is BERT's sum of two means.

    Args:
        net: the architecture, such as ``BERTConfig``.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        pll_rows: rows of the test split whose pseudo-log-likelihood is measured (Salazar et al. 2020,
            https://arxiv.org/abs/1910.14659): each token is guessed with it alone hidden, which takes a
            row of computation for each token. 0 for none.
    """

    league = "language models"
    batch_type = MaskedBatch
    net: MaskedNetwork

    def __init__(
        self,
        net: MaskedArchitecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        pll_rows: int = 16,
    ) -> None:
        spec = spec or DataSpec()
        super().__init__(
            net=net,
            spec=spec,
            optim=optim or OptimConfig(),
            sums=("mlm", "nsp", "pll"),
            pll_rows=pll_rows,
        )
        self.next_sentence, self.pll_rows = spec.next_sentence, pll_rows
        check_counts(self, "pll_rows", least=0, most=1 << 62)

    def loss(self, batch: MaskedBatch) -> LossSum:
        """See :class:`Task`; parts ``mlm`` and, for rows of two segments, ``nsp``."""
        h_BLD = self.net(batch.ids_BL, batch.mask_BL, batch.segments_BL)
        mlm = cross_entropy(
            h_BLD, self.net.head, batch.labels_BL, accuracy=True, count=batch.size.labels
        )
        if not self.next_sentence:
            return mlm._replace(parts={"mlm": mlm})
        logits_B2 = widen(self.net.next_sentence(h_BLD))
        losses_B = F.cross_entropy(logits_B2, batch.next_B, ignore_index=IGNORE, reduction="none")
        correct = (logits_B2.argmax(-1) == batch.next_B).sum()
        nsp = LossSum(losses_B.sum(), (batch.next_B != IGNORE).sum(), correct)
        gaps_B = (batch.labels_BL != IGNORE).sum(1)
        total = mlm.total + (losses_B * gaps_B).sum()
        return LossSum(total, mlm.targets, parts={"mlm": mlm, "nsp": nsp})

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        return (size.tokens + size.input_tokens) / size.rows, size.labels / size.rows

    def sums_of(self, stage: str) -> tuple[str, ...]:
        """See :class:`Task`: next sentences in rows of two segments, the pseudo-log-likelihood on ``test``."""
        second = ("nsp",) if self.next_sentence else ()
        pseudo = ("pll",) if stage == "test" and self.pll_rows else ()
        return ("whole", "mlm", *second, *pseudo)

    def measures(self, stage: str, values: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """``loss``; loss and accuracy of ``mlm`` and ``nsp``; on ``test`` the pseudo-log-likelihood as
        ``pll_ppl`` and ``pll_bpb``, its accuracy, and what the best possible reader would reach.
        """
        out = {"loss": values["whole"]["loss"]}
        for part in ("mlm", "nsp"):
            if part in values:
                out |= {f"{part}_{name}": values[part][name] for name in ("loss", "accuracy")}
        if "pll" in values:
            pll = values["pll"]
            out |= {f"pll_{name}": pll[name] for name in ("ppl", "bpb", "accuracy")}
            out |= self._best_guess(int(pll["tokens"]))
        return out

    def _best_guess(self, tokens: int) -> dict[str, Tensor]:
        """What no reader can exceed, where the data knows it for just the tokens that were guessed."""
        data = self.require_data()
        rows = data.rows("test")
        count = min(self.pll_rows, len(rows))
        best = data.cloze("test", count)
        if best is None or best.words != tokens:
            return {}
        ppl = torch.tensor(best.surprisal / best.words).exp()
        return {"pll_optimal_ppl": ppl, "pll_optimal_accuracy": torch.tensor(best.accuracy)}

    def on_test_epoch_end(self) -> None:
        """Measures the pseudo-log-likelihood, and logs everything."""
        rows: Any = self.require_data().rows("test") if self.pll_rows else ()
        for i in range(min(self.pll_rows, len(rows)))[
            self.trainer.global_rank :: self.trainer.world_size
        ]:
            ids, num_bytes = rows.whole(i)
            self.metric("test", "pll").update(self.pseudo_log_likelihood(ids), num_bytes, 1)
        super().on_test_epoch_end()

    @torch.no_grad()
    def pseudo_log_likelihood(self, ids: list[int], batch_size: int = 64) -> LossSum:
        """Minus the log-probability of each token given all others of a text, summed.

        Args:
            ids: the text, without special tokens around it; an eos in it is read and not guessed.
            batch_size: copies of the text, with a gap each, that are read together.
        """
        tokenizer = self.require_tokenizer()
        row = torch.tensor(self.frame(ids)[0], device=self.device)
        guessed = (row[1:-1] != tokenizer.eos_id).nonzero().squeeze(1)
        total = torch.zeros((), dtype=torch.float64, device=self.device)
        correct = torch.zeros((), dtype=torch.long, device=self.device)
        for start in range(0, len(guessed), batch_size):
            at = guessed[start : start + batch_size]
            gaps = torch.zeros(len(at), len(row), dtype=torch.bool, device=self.device)
            gaps[torch.arange(len(at)), at + 1] = True
            ids_BL = row.expand(len(at), -1).masked_fill(gaps, tokenizer.mask_id)
            labels_BL = row.expand(len(at), -1).masked_fill(~gaps, IGNORE)
            h_BLD = self.net.encode(ids_BL, torch.ones_like(gaps))
            loss = cross_entropy(h_BLD, self.net.head, labels_BL, accuracy=True)
            total += loss.total
            correct += loss.correct or 0
        return LossSum(total, torch.tensor(len(guessed), device=self.device), correct)

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """See :class:`Task`: a row of one segment."""
        return self.require_tokenizer().frame(ids)[0], 1

    def predict_step(self, batch: MaskedBatch, batch_idx: int) -> Tensor:
        """The most likely token at each gap, int64 (B, L); -100 elsewhere."""
        h_BLD = self.net(batch.ids_BL, batch.mask_BL, batch.segments_BL)
        out = torch.full_like(batch.labels_BL, IGNORE)
        gaps = batch.labels_BL != IGNORE
        out[gaps] = self.net.head(h_BLD[gaps]).argmax(-1)
        return out

    @torch.no_grad()
    def fill_mask(self, texts: list[str], top_k: int = 5) -> list[Filled]:
        """Fills the gaps of texts, each from everything but the other gaps.

        Args:
            texts: texts in which ``<mask>`` stands for a token.
            top_k: fills to give for each gap.

        Raises:
            InputError: a text has more tokens than the network has positions, or the output layer has
                never been trained.
        """
        self.require_trained("head")
        tokenizer = self.require_tokenizer()
        framed = [self.frame(tokenizer.encode_masked(text))[0] for text in texts]
        self.check_lengths(texts, framed)
        ids_BL, mask_BL, _ = self.batch_rows(framed)
        was_training = self.training
        self.eval()
        h_BLD = self.net.encode(ids_BL, mask_BL)
        self.train(was_training)
        out = []
        for text, row, h_LD in zip(texts, framed, h_BLD, strict=True):
            gaps = [i for i, token in enumerate(row) if token == tokenizer.mask_id]
            probs = self.net.head(h_LD[gaps]).float().softmax(-1)
            # Special tokens and ids behind the tokenizer's are no text: they cannot fill a gap.
            probs[:, tokenizer.vocab_size :] = 0
            probs[:, [i for i in tokenizer.special_ids if i != tokenizer.unk_id]] = 0
            best = probs.topk(min(top_k, probs.size(-1)), dim=-1)
            fills = [
                [Fill(tokenizer.token(i), p) for i, p in zip(ids, ps, strict=True)]
                for ids, ps in zip(best.indices.tolist(), best.values.tolist(), strict=True)
            ]
            for gap, ids in zip(gaps, best.indices.tolist(), strict=True):
                row[gap] = ids[0]
            out.append(Filled(text, fills, tokenizer.decode(row)))
        return out

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """Rows with gaps, as the model fills them and as they were."""
        tokenizer = self.require_tokenizer()
        rows: Any = data.rows(split)  # type: ignore[attr-defined]
        out = []
        for i in range(min(count, len(rows))):
            row = rows[i]
            batch = rows.collate([row])
            with torch.no_grad():
                found = self.predict_step(self.transfer_batch_to_device(batch, self.device, 0), 0)
            guess = torch.where(found[0] >= 0, found[0], found.new_tensor(row.ids))
            truth = [
                label if label != IGNORE else token
                for token, label in zip(row.ids.tolist(), row.labels.tolist(), strict=True)
            ]
            texts = (row.ids.tolist(), guess.tolist(), truth)
            names = ("gaps", "output", "reference")
            out.append({n: tokenizer.decode(t) for n, t in zip(names, texts, strict=True)})
        return out
