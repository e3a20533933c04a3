"""Causal language modelling: predict each token from those before it."""

from __future__ import annotations

from typing import NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_lm import generation
from lit_lm.data.batches import BatchSize, TextBatch
from lit_lm.generation import Sampling
from lit_lm.losses import LossSum, cross_entropy
from lit_lm.metrics import TokenMetrics
from lit_lm.models.base import CausalArchitecture, CausalNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.base import Task


class Completion(NamedTuple):
    """A prompt, what the model added, and both as one text."""

    prompt: str
    continuation: str
    text: str


class CausalLM(Task):
    """A left-to-right language model: log p(text) = sum of log p(token | tokens before).

    Args:
        net: the architecture, such as ``GPTConfig``.
        spec: filled in from the data module.
        optim: optimizer and schedule.
    """

    league = "language models"
    batch_type = TextBatch
    net: CausalNetwork

    def __init__(
        self,
        net: CausalArchitecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
    ) -> None:
        super().__init__(net=net, spec=spec or DataSpec(), optim=optim or OptimConfig())
        self.val_metrics, self.test_metrics = TokenMetrics(), TokenMetrics()

    def loss(self, batch: TextBatch) -> LossSum:
        """See :class:`Task`."""
        h_BLD = self.net(batch.ids_BL, batch.mask_BL)
        return cross_entropy(h_BLD, self.net.head, batch.labels_BL, accuracy=not self.training)

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        return (size.tokens / size.rows,)

    def validation_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Adds a batch to the validation metrics."""
        self.val_metrics.update(self.loss(batch), batch.size.bytes)

    def test_step(self, batch: TextBatch, batch_idx: int) -> None:
        """Adds a batch to the test metrics."""
        self.test_metrics.update(self.loss(batch), batch.size.bytes)

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss``, ``val/ppl``, ``val/bpb``, ``val/accuracy``."""
        self._log_metrics("val", self.val_metrics)

    def on_test_epoch_end(self) -> None:
        """Logs the same for ``test``, and ``test/optimal_ppl`` where the data knows its own entropy."""
        self._log_metrics("test", self.test_metrics)

    def _log_metrics(self, stage: str, metrics: TokenMetrics) -> None:
        values = metrics.compute()
        tokens = values.pop("tokens").item()
        metrics.reset()
        values |= self.optimum(stage, tokens)
        shown = stage == "val"
        self.log_dict(
            {f"{stage}/{key}": value.float() for key, value in values.items()}, prog_bar=shown
        )

    def predict_step(self, batch: TextBatch, batch_idx: int) -> Tensor:
        """Log-probability of each label, float (B, L) in nats; 0 at padding."""
        logits: Tensor = self.net.head(self.net(batch.ids_BL, batch.mask_BL)).float()
        labels = batch.labels_BL.clamp(min=0).unsqueeze(-1)
        return logits.log_softmax(-1).gather(-1, labels).squeeze(-1) * (batch.labels_BL >= 0)

    @torch.no_grad()
    def generate(
        self,
        prompts: list[str],
        *,
        max_new_tokens: int = 64,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> list[Completion]:
        """Continues texts.

        A text that outgrows the network's positions goes on from its second half: the network never
        sees more than it was built for, and no output is cut short for it.

        Args:
            prompts: texts to continue; an empty one starts a document.
            max_new_tokens: most tokens to add to each.
            sampling: how tokens are drawn; greedy when None.
            generator: the source of randomness.

        Returns:
            One completion a prompt.
        """
        assert self.tokenizer is not None
        eos = self.tokenizer.eos_id
        rows = [[eos, *self.tokenizer.encode(prompt)] for prompt in prompts]
        new: list[list[int]] = [[] for _ in rows]
        open_rows = list(range(len(rows))) if max_new_tokens > 0 else []
        room = self.net.max_length
        was_training = self.training
        self.eval()
        while open_rows:
            # All rows take the same number of steps, so that they share batches.
            left = max_new_tokens - len(new[open_rows[0]])
            context = [
                (rows[i] + new[i]) if room is None else _tail(rows[i] + new[i], room)
                for i in open_rows
            ]
            longest = max(len(ids) for ids in context)
            steps = left if room is None else min(left, room - longest + 1)
            logits, state = self.net.start(*self._pad(context), longest + steps)
            added = generation.generate(
                self.net,
                logits,
                state,
                max_new_tokens=steps,
                eos_id=eos,
                sampling=sampling,
                generator=generator,
            )
            for i, hypothesis in zip(open_rows, added, strict=True):
                new[i] += hypothesis.ids
            ended = [hypothesis.finished for hypothesis in added]
            open_rows = [
                i for i, end in zip(open_rows, ended, strict=True) if not end and steps < left
            ]
        self.train(was_training)
        decode = self.tokenizer.decode
        return [
            Completion(prompt, decode(ids), decode(row[1:] + ids))
            for prompt, row, ids in zip(prompts, rows, new, strict=True)
        ]

    def _pad(self, rows: list[list[int]]) -> tuple[Tensor, Tensor]:
        lengths = torch.tensor([len(row) for row in rows], device=self.device)
        pad = self.hparams["spec"]["pad_id"]
        width = max(len(row) for row in rows)
        ids = torch.tensor([row + [pad] * (width - len(row)) for row in rows], device=self.device)
        return ids, lengths

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """The first words of some texts, how the model goes on (greedily) and how the text did."""
        assert self.tokenizer is not None
        decode = self.tokenizer.decode
        out = []
        store = data.store(split, "text")  # type: ignore[attr-defined]
        for i in range(min(count, len(store))):
            ids = store.doc(i)[:96].tolist()
            cut = max(1, len(ids) // 3)
            found = self.generate([decode(ids[:cut])], max_new_tokens=max(len(ids) - cut, 1))[0]
            out.append(
                {
                    "prompt": found.prompt,
                    "output": found.continuation,
                    "reference": decode(ids[cut:]),
                }
            )
        return out


def _tail(ids: list[int], room: int) -> list[int]:
    return ids if len(ids) <= room else ids[-max(room // 2, 1) :]
