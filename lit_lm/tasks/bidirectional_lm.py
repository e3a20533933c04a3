"""Language modelling in both directions: ELMo's pre-training."""

from __future__ import annotations

from typing import Any

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_lm.data.batches import IGNORE, BatchSize, TextBatch
from lit_lm.errors import InputError, check_counts
from lit_lm.losses import LossSum, SampledSoftmax, cross_entropy, log_uniform
from lit_lm.models.base import BidirectionalArchitecture, BidirectionalNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.base import Task


class BidirectionalLM(Task):
    """Two language models, from the left and from the right, trained together (Peters et al. 2018, section 3.1).

    Every token is predicted twice: from the tokens before it and from those behind it. Over whole documents
    both directions have the same least possible loss, since both multiply to the text's probability.

    Args:
        net: the architecture, such as ``ELMoConfig``.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        sampled_softmax: words to draw for training against a sample of the vocabulary; 0 for all of it.
            Evaluation always takes all. The output layer's bias then starts at the distribution of the draws.
    """

    league = "language models"
    batch_type = TextBatch
    net: BidirectionalNetwork

    def __init__(
        self,
        net: BidirectionalArchitecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        sampled_softmax: int = 0,
    ) -> None:
        spec = spec or DataSpec()
        super().__init__(
            net=net,
            spec=spec,
            optim=optim or OptimConfig(),
            sums=("forward", "backward"),
            sampled_softmax=sampled_softmax,
        )
        self.consecutive, self.sampled_softmax = spec.consecutive, sampled_softmax
        check_counts(self, "sampled_softmax", least=0)
        head: Any = self.net.head
        if sampled_softmax and head.bias is not None:
            # What is seldom drawn is seldom corrected: words start as frequent as the draws take them to be.
            head.bias.data.copy_(log_uniform(head.out_features).log())
        # What the left-to-right model remembers of each row, in training and in evaluation.
        self._memory: dict[bool, Any] = {}

    def setup(self, stage: str) -> None:
        """See :class:`Task`; refuses windows of which only the end is predicted: from the right that end has
        the least context.
        """
        super().setup(stage)
        stride = getattr(getattr(self.trainer, "datamodule", None), "eval_stride", None)
        if stride is not None:
            raise InputError(
                f"eval_stride={stride} gives context from the left only, and BidirectionalLM predicts from both "
                "sides: set `eval_stride: null`."
            )

    def loss(self, batch: TextBatch) -> LossSum:
        """See :class:`Task`; parts ``forward`` and ``backward``."""
        forward, backward, state = self._read(batch)
        if self.consecutive:
            self._memory[self.training] = state
        labels = {
            "forward": (forward, batch.labels_BL),
            "backward": (backward, batch.ids_BL.masked_fill(~batch.mask_BL, IGNORE)),
        }
        head: Any = self.net.head
        if self.training and self.sampled_softmax:
            every = torch.stack([label for _, label in labels.values()])
            sampled = SampledSoftmax(head, every, self.sampled_softmax)
            parts = {name: sampled.cross_entropy(*pair) for name, pair in labels.items()}
        else:
            parts = {
                name: cross_entropy(h, head, label, accuracy=not self.training)
                for name, (h, label) in labels.items()
            }
        f, b = parts.values()
        return LossSum(f.total + b.total, f.targets + b.targets, _both(f, b), parts)

    def _read(self, batch: TextBatch) -> tuple[Tensor, Tensor, Any]:
        """See :meth:`BidirectionalNetwork.forward`."""
        out: tuple[Tensor, Tensor, Any] = self.net(
            batch.ids_BL,
            batch.labels_BL.clamp(min=0),
            batch.mask_BL,
            chars=batch.chars,
            state=self._recall(batch),
            **self.documents(batch.docs_BL),
        )
        return out

    def _recall(self, batch: TextBatch) -> Any:
        """The state behind the rows' earlier text, where rows go on; the last batch may have fewer."""
        state = self._memory.get(self.training)
        if state is None or not self.consecutive:
            return None
        rows = len(batch.ids_BL)
        return [tuple(part[:, :rows] for part in layer) for layer in state]

    def carried(self) -> dict[str, Any]:
        """See :class:`Task`: also what the left-to-right model remembers of each row."""
        memory = self._memory.get(True)
        kept = {} if memory is None else {"memory": [list(layer) for layer in memory]}
        return super().carried() | kept

    def carry_on(self, carried: dict[str, Any]) -> None:
        """See :class:`Task`."""
        super().carry_on(carried)
        if "memory" in carried:
            self._memory[True] = [
                tuple(part.to(self.device) for part in layer) for layer in carried["memory"]
            ]

    def on_train_epoch_start(self) -> None:
        """An epoch starts at the beginning of the text."""
        self._memory.pop(True, None)

    def on_validation_epoch_start(self) -> None:
        """So does an evaluation."""
        self._memory.pop(False, None)

    on_test_epoch_start = on_predict_epoch_start = on_validation_epoch_start

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        return size.tokens / size.texts, size.distinct / size.texts

    def measures(self, stage: str, values: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """``loss``, ``ppl``, ``bpb`` and ``accuracy`` over both directions; ``ppl`` of each direction; the
        optimum, which is the same for both.
        """
        whole = values["whole"]
        whole["bpb"] = whole["bpb"] / 2  # every byte is predicted twice
        whole["tokens"] = values["forward"]["tokens"]
        out = super().measures(stage, values)
        return out | {f"{part}_ppl": values[part]["ppl"] for part in ("forward", "backward")}

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """See :class:`Task`: a document between two ends, or between a beginning and an end."""
        tokenizer = self.require_tokenizer()
        bos_first = self.hparams["spec"]["bos_first"]
        first = tokenizer.bos_id if bos_first else tokenizer.eos_id
        return [first, *ids, tokenizer.eos_id], 1

    def predict_step(self, batch: TextBatch, batch_idx: int) -> Tensor:
        """Log-probability of each token from the left and from the right, float (2, B, L) in nats; 0 at padding."""
        logits, labels = self._logits(batch)
        picked = logits.log_softmax(-1).gather(-1, labels.unsqueeze(-1)).squeeze(-1)
        return picked * batch.mask_BL

    def _logits(self, batch: TextBatch) -> tuple[Tensor, Tensor]:
        f, b, _ = self._read(batch)
        logits: Tensor = self.net.head(torch.stack((f, b))).float()
        return logits, torch.stack((batch.labels_BL.clamp(min=0), batch.ids_BL))

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """Texts, and the most likely token at each place, from the left and from the right."""
        decode = self.require_tokenizer().decode
        rows: Any = data.rows(split)  # type: ignore[attr-defined]
        out = []
        for i in range(min(count, len(rows))):
            batch = self.transfer_batch_to_device(rows.collate([rows[i]]), self.device, 0)
            with torch.no_grad():
                f, b = self._logits(batch)[0].argmax(-1)[:, 0, : int(batch.mask_BL.sum())]
            names = ("reference", "output", "output from the right")
            # From the right, the first token of the row is guessed too: the end of the text before.
            texts = (batch.labels_BL[0][batch.mask_BL[0]], f, b[1:])
            out.append({n: decode(t.tolist()) for n, t in zip(names, texts, strict=True)})
        return out


def _both(f: LossSum, b: LossSum) -> Tensor | None:
    return None if f.correct is None or b.correct is None else f.correct + b.correct
