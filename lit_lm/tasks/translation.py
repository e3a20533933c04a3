"""Sequence-to-sequence learning on sentence pairs: translation, summarisation, any text to text."""

from __future__ import annotations

from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor

from lit_lm import generation
from lit_lm.data.batches import BatchSize, PairBatch
from lit_lm.errors import InputError
from lit_lm.generation import Beam, Hypothesis, Sampling
from lit_lm.losses import LossSum, cross_entropy
from lit_lm.metrics import TokenMetrics, TranslationMetrics
from lit_lm.models.base import Seq2SeqArchitecture, Seq2SeqNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.base import Task


class Translation(Task):
    """An encoder-decoder trained by teacher forcing, tested by decoding.

    Args:
        net: the architecture, such as ``TransformerConfig``.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        label_smoothing: share of the target's probability spread over the vocabulary in training
            (Vaswani et al. 2017, section 5.4); evaluation losses are never smoothed.
        beam: decoding on ``test`` and of the inference commands; size 1 and no length penalty is greedy.
        length_factor: outputs may have this many times the source's tokens, plus 10.
        decode_validation: decode the validation split too, and log ``val/bleu`` and ``val/exact_match``.
    """

    league: ClassVar[str] = "translators"
    batch_type = PairBatch
    net: Seq2SeqNetwork

    def __init__(
        self,
        net: Seq2SeqArchitecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        label_smoothing: float = 0.1,
        beam: Beam | None = None,
        length_factor: float = 2.0,
        decode_validation: bool = False,
    ) -> None:
        beam = beam or Beam()
        super().__init__(
            net=net,
            spec=spec or DataSpec(),
            optim=optim or OptimConfig(),
            label_smoothing=label_smoothing,
            beam=beam,
            length_factor=length_factor,
            decode_validation=decode_validation,
        )
        self.label_smoothing, self.beam = label_smoothing, beam
        self.length_factor, self.decode_validation = length_factor, decode_validation
        self.val_metrics, self.test_metrics = TokenMetrics(), TokenMetrics()
        self.val_translation, self.test_translation = TranslationMetrics(), TranslationMetrics()

    def loss(self, batch: PairBatch) -> LossSum:
        """See :class:`Task`."""
        h_BTD = self.net(batch.src_ids_BS, batch.src_mask_BS, batch.tgt_ids_BT)
        smoothing = self.label_smoothing if self.training else 0.0
        return cross_entropy(
            h_BTD,
            self.net.head,
            batch.labels_BT,
            label_smoothing=smoothing,
            accuracy=not self.training,
        )

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        return size.input_tokens / size.rows, size.tokens / size.rows

    def validation_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Adds a batch to the validation metrics."""
        self.val_metrics.update(self.loss(batch), batch.size.bytes)
        if self.decode_validation:
            self._update_translation(self.val_translation, batch, "val")

    def test_step(self, batch: PairBatch, batch_idx: int) -> None:
        """Decodes a batch and adds it to the test metrics."""
        self.test_metrics.update(self.loss(batch), batch.size.bytes)
        self._update_translation(self.test_translation, batch, "test")

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/loss``, ``val/ppl``, ``val/accuracy``, and where asked for ``val/bleu``, ``val/exact_match``."""
        self._log_metrics(
            "val", self.val_metrics, self.val_translation if self.decode_validation else None
        )

    def on_test_epoch_end(self) -> None:
        """Logs the same for ``test``, always with ``test/bleu`` and ``test/exact_match``."""
        self._log_metrics("test", self.test_metrics, self.test_translation)

    def _update_translation(
        self, metrics: TranslationMetrics, batch: PairBatch, split: str
    ) -> None:
        data: Any = self.trainer.datamodule  # type: ignore[attr-defined]
        found = self.decode(batch.src_ids_BS, batch.src_mask_BS)
        references = [data.reference(split, i) for i in batch.index_B.tolist()]
        metrics.update([self.text(hypotheses[0]) for hypotheses in found], references)

    def _log_metrics(
        self, stage: str, tokens: TokenMetrics, translation: TranslationMetrics | None
    ) -> None:
        values = tokens.compute()
        values |= self.optimum(stage, values.pop("tokens").item())
        tokens.reset()
        if translation is not None:
            values |= translation.compute()
            translation.reset()
        shown = stage == "val"
        self.log_dict(
            {f"{stage}/{key}": value.float() for key, value in values.items()}, prog_bar=shown
        )

    def predict_step(self, batch: PairBatch, batch_idx: int) -> list[tuple[int, str]]:
        """The best output of each pair, with the pair's index in its split."""
        found = self.decode(batch.src_ids_BS, batch.src_mask_BS)
        outputs = [self.text(hypotheses[0]) for hypotheses in found]
        return list(zip(batch.index_B.tolist(), outputs, strict=True))

    @torch.no_grad()
    def decode(
        self,
        src_ids_BS: Tensor,
        src_mask_BS: Tensor,
        *,
        beam: Beam | None = None,
        sampling: Sampling | None = None,
        generator: torch.Generator | None = None,
    ) -> list[list[Hypothesis]]:
        """Outputs for sources: by beam search, or by sampling when ``sampling`` is given.

        Args:
            src_ids_BS: int64 source ids, ending in eos.
            src_mask_BS: bool, True at real tokens.
            beam: the search's settings; the task's own when None.
            sampling: draw instead of searching.
            generator: the source of randomness for sampling.

        Returns:
            For each source its hypotheses, best first (one when sampling).
        """
        beam = beam or self.beam
        lengths = src_mask_BS.sum(1).tolist()
        # Each row has a limit of its own: what stands beside it in the batch must not matter.
        limits = [int(self.length_factor * length) + 10 for length in lengths]
        if self.net.max_length is not None:
            limits = [min(limit, self.net.max_length) for limit in limits]
        eos = self.hparams["spec"]["eos_id"]
        logits, state = self.net.start(src_ids_BS, src_mask_BS, max(limits))
        if sampling is None and beam.size > 1:
            return generation.beam_search(
                self.net, logits, state, max_new_tokens=limits, eos_id=eos, beam=beam
            )
        found = generation.generate(
            self.net,
            logits,
            state,
            max_new_tokens=limits,
            eos_id=eos,
            sampling=sampling,
            generator=generator,
        )
        return [[hypothesis] for hypothesis in found]

    def translate(self, sources: list[str], **settings: Any) -> list[list[Hypothesis]]:
        """Outputs for texts; see :meth:`decode`. An empty text gives an empty output.

        Args:
            sources: texts, in any order of length.
            settings: passed on to :meth:`decode`.

        Raises:
            InputError: a text has more tokens than the network has positions.
        """
        assert self.tokenizer is not None
        out: list[list[Hypothesis]] = [[Hypothesis([], 0.0, True)] for _ in sources]
        rows = {
            i: [*self.tokenizer.encode(s), self.tokenizer.eos_id]
            for i, s in enumerate(sources)
            if s.strip()
        }
        room = self.net.max_length
        for i, row in rows.items():
            if room is not None and len(row) > room:
                raise InputError(
                    f"text {i + 1} has {len(row)} tokens, more than the {room} positions of this network: "
                    f"split it, or train with a larger max_length. It starts: {sources[i][:60]!r}"
                )
        was_training = self.training
        self.eval()
        order = sorted(rows, key=lambda i: len(rows[i]))
        if order:
            width = len(rows[order[-1]])
            pad = self.tokenizer.pad_id
            ids = torch.tensor(
                [rows[i] + [pad] * (width - len(rows[i])) for i in order], device=self.device
            )
            lengths = torch.tensor([len(rows[i]) for i in order], device=self.device)
            mask = torch.arange(width, device=self.device) < lengths.unsqueeze(1)
            for i, found in zip(order, self.decode(ids, mask, **settings), strict=True):
                out[i] = found
        self.train(was_training)
        return out

    def text(self, hypothesis: Hypothesis) -> str:
        """A hypothesis as text, detokenised."""
        assert self.tokenizer is not None
        return self.tokenizer.decode(hypothesis.ids)

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """Some sources, the outputs and the references."""
        source: Any = data
        picked = range(min(count, len(source.store(split, "src"))))
        sources = [source.source_text(split, i) for i in picked]
        outputs = [self.text(found[0]) for found in self.translate(sources)]
        return [
            {"source": s, "output": o, "reference": source.reference(split, i)}
            for i, s, o in zip(picked, sources, outputs, strict=True)
        ]
