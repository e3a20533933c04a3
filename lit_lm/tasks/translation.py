"""Sequence-to-sequence learning on sentence pairs: translation, summarisation, any text to text."""

from __future__ import annotations

from dataclasses import replace
from pathlib import Path
from typing import Any, ClassVar, NamedTuple

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, distributed, nn

from lit_lm import generation, scores
from lit_lm.data.batches import BatchSize, PairBatch
from lit_lm.errors import check_counts, check_reals
from lit_lm.generation import Beam, Hypothesis, Randomness, Sampling
from lit_lm.losses import LossSum, cross_entropy
from lit_lm.metrics import TranslationMetrics
from lit_lm.models.base import Seq2SeqArchitecture, Seq2SeqNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.base import Task


class Aligned(NamedTuple):
    """An output, and what it read of its source.

    Args:
        source: tokens, eos included.
        output: tokens, eos included where it ended.
        weights: float (layers, heads, output tokens, source tokens), on the CPU: each row is the attention that
            chose the output's token.
    """

    source: list[str]
    output: list[str]
    weights: Tensor


class Translation(Task):
    """An encoder-decoder trained by teacher forcing, tested by decoding.

    Args:
        net: the architecture, such as ``TransformerConfig``.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        label_smoothing: share of the target's probability spread over the vocabulary in training
            (Vaswani et al. 2017, section 5.4); evaluation losses are never smoothed.
        beam: decoding on ``test`` and of the inference commands; size 1 and no length penalty is greedy.
        length_factor: outputs may have this many times the source's tokens, and ``length_extra`` more.
        length_extra: tokens that outputs may have beyond that.
        decode_validation: decode the validation split too, and log ``val/bleu``, ``val/chrf`` and
            ``val/exact_match``.
        rouge: log ``rouge1``, ``rouge2`` and ``rougeL`` too: for summaries.
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
        length_extra: int = 10,
        decode_validation: bool = False,
        rouge: bool = False,
    ) -> None:
        beam = beam or Beam()
        super().__init__(
            net=net,
            spec=spec or DataSpec(),
            optim=optim or OptimConfig(),
            label_smoothing=label_smoothing,
            beam=beam,
            length_factor=length_factor,
            length_extra=length_extra,
            decode_validation=decode_validation,
            rouge=rouge,
        )
        self.label_smoothing, self.beam = label_smoothing, beam
        self.length_factor, self.length_extra = length_factor, length_extra
        self.decode_validation = decode_validation
        self._written: dict[int, tuple[str, str]] = {}
        check_reals(self, "label_smoothing", most=1, below=True)
        check_reals(self, "length_factor", most=1000)
        check_counts(self, "length_extra")
        self.outputs = nn.ModuleDict(
            {
                stage: TranslationMetrics(full=stage == "test", rouge=rouge)
                for stage in ("val", "test")
            }
        )

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
            count=batch.size.labels,
        )

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        return size.input_tokens / size.rows, size.tokens / size.rows

    def update_metrics(self, stage: str, batch: PairBatch) -> None:
        """Adds a batch; on ``test``, and where asked for on ``val``, it is decoded too."""
        super().update_metrics(stage, batch)
        if self._decodes(stage):
            data = self.require_data()
            found = self.decode(batch.src_ids_BS, batch.src_mask_BS, count=1)
            index = batch.index_B.tolist()
            references = [data.reference(stage, i) for i in index]
            sources = [data.source_text(stage, i) for i in index]
            outputs = [self.text(hypotheses[0]) for hypotheses in found]
            self.outputs[stage].update(outputs, references, sources)  # type: ignore[operator]
            if stage == "test":
                self._written |= dict(
                    zip(index, zip(outputs, references, strict=True), strict=True)
                )

    def _decodes(self, stage: str) -> bool:
        """Whether outputs are made in a stage: the same on every rank, also on one without a batch."""
        return stage == "test" or self.decode_validation

    def measures(self, stage: str, values: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """Adds what :class:`TranslationMetrics` finds."""
        found = super().measures(stage, values)
        outputs = self.outputs[stage]
        if self._decodes(stage):
            found |= outputs.compute()  # type: ignore[operator]
            outputs.reset()  # type: ignore[operator]
        return found

    def on_test_end(self) -> None:
        """Writes the signatures of the scores to ``signatures.txt``, beside the rows of metrics, and what was scored to
        ``outputs.txt`` and ``references.txt``, a line a pair, in the order of the split.
        """
        folder = self.trainer.log_dir  # every rank asks
        written = self._gathered()
        if folder is None or not self.trainer.loggers or not self.trainer.is_global_zero:
            return
        signatures = scores.signatures(self.outputs["test"].scores)  # type: ignore[arg-type]
        texts = {"signatures": [f"test/{name} {text}" for name, text in signatures.items()]}
        for name, place in (("outputs", 0), ("references", 1)):
            texts[name] = [" ".join(written[i][place].split("\n")) for i in sorted(written)]
        Path(folder).mkdir(parents=True, exist_ok=True)
        for name, lines in texts.items():
            text = "".join(f"{line}\n" for line in lines)
            (Path(folder) / f"{name}.txt").write_text(text, encoding="utf-8")

    def _gathered(self) -> dict[int, tuple[str, str]]:
        """Outputs and references of all ranks by their pairs' numbers."""
        mine, self._written = self._written, {}
        every: list[Any] = [mine]
        if self.trainer.world_size > 1:
            every = [None] * self.trainer.world_size
            distributed.all_gather_object(every, mine)
        return {i: pair for its in every for i, pair in its.items()}

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """See :class:`Task`: a source ends in eos."""
        return [*ids, self.require_tokenizer().eos_id], 0

    def predict_step(self, batch: PairBatch, batch_idx: int) -> list[tuple[int, str]]:
        """The best output of each pair, with the pair's index in its split."""
        found = self.decode(batch.src_ids_BS, batch.src_mask_BS, count=1)
        outputs = [self.text(hypotheses[0]) for hypotheses in found]
        return list(zip(batch.index_B.tolist(), outputs, strict=True))

    @torch.inference_mode()
    def decode(
        self,
        src_ids_BS: Tensor,
        src_mask_BS: Tensor,
        *,
        beam: Beam | None = None,
        sampling: Sampling | None = None,
        generator: Randomness = None,
        count: int | None = None,
    ) -> list[list[Hypothesis]]:
        """Outputs for sources: by beam search, or by sampling when ``sampling`` is given.

        Args:
            src_ids_BS: int64 source ids, ending in eos.
            src_mask_BS: bool, True at real tokens.
            beam: the search's settings; the task's own when None.
            sampling: draw instead of searching.
            generator: the source of randomness for sampling, or one for each source.
            count: how many outputs of a beam search are wanted, at most the beam's size; all when None. Fewer are
                found sooner, and are the same.

        Returns:
            For each source its hypotheses, best first (one when sampling).
        """
        beam = beam or self.beam
        lengths = src_mask_BS.sum(1).tolist()
        # Each row has a limit of its own: what stands beside it in the batch must not matter.
        limits = [int(self.length_factor * length) + self.length_extra for length in lengths]
        if self.net.max_length is not None:
            limits = [min(limit, self.net.max_length) for limit in limits]
        eos = self.hparams["spec"]["eos_id"]
        logits, state = self.net.start(src_ids_BS, src_mask_BS, max(limits))
        if sampling is None and beam.size > 1:
            return generation.beam_search(
                self.net,
                logits,
                state,
                max_new_tokens=limits,
                eos_id=eos,
                beam=beam,
                count=count,
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
        if sampling is None:
            found = [
                replace(h, score=h.score / beam.divisor(len(h.ids) + h.finished)) for h in found
            ]
        return [[hypothesis] for hypothesis in found]

    def translate(self, sources: list[str], **settings: Any) -> list[list[Hypothesis]]:
        """Outputs for texts; see :meth:`decode`. An empty text gives an empty output.

        Args:
            sources: texts, in any order of length.
            settings: passed on to :meth:`decode`; one ``generator`` for all.

        Raises:
            InputError: a text has more tokens than the network has positions.
        """
        tokenizer = self.require_tokenizer()
        out: list[list[Hypothesis]] = [[Hypothesis([], 0.0, True)] for _ in sources]
        rows = {i: self.frame(tokenizer.encode(s))[0] for i, s in enumerate(sources) if s.strip()}
        self.check_lengths([sources[i] for i in rows], list(rows.values()))
        order = sorted(rows, key=lambda i: len(rows[i]))
        if order:
            found = self.decode_rows([rows[i] for i in order], **settings)
            for i, hypotheses in zip(order, found, strict=True):
                out[i] = hypotheses
        return out

    def decode_rows(self, rows: list[list[int]], **settings: Any) -> list[list[Hypothesis]]:
        """Outputs for sources as ids, each framed (:meth:`frame`); see :meth:`decode`."""
        was_training = self.training
        self.eval()
        ids, mask, _ = self.batch_rows(rows)
        out = self.decode(ids, mask, **settings)
        self.train(was_training)
        return out

    @torch.inference_mode()
    def align(self, sources: list[str]) -> list[Aligned]:
        """Decodes texts, and looks at what each output token read of its source.

        Returns:
            One for each text that is not blank; none from a network without attention over its source.
        """
        tokenizer = self.require_tokenizer()
        sources = [source for source in sources if source.strip()]
        decoded = self.translate(sources, count=1)
        was_training = self.training
        self.eval()
        out = []
        for source, (hypothesis, *_) in zip(sources, decoded, strict=True):
            src = self.frame(tokenizer.encode(source))[0]
            ids = hypothesis.ids + ([tokenizer.eos_id] if hypothesis.finished else [])
            src_ids_1S, src_mask_1S, _ = self.batch_rows([src])
            tgt_ids_1T = self.batch_rows([[tokenizer.bos_id, *ids[:-1]]])[0]
            weights = self.net.alignment(src_ids_1S, src_mask_1S, tgt_ids_1T)
            if weights is not None:
                read, written = ([tokenizer.token(i) for i in row] for row in (src, ids))
                out.append(Aligned(read, written, weights[0].float().cpu()))
        self.train(was_training)
        return out

    def text(self, hypothesis: Hypothesis) -> str:
        """A hypothesis as text, detokenised."""
        return self.require_tokenizer().decode(hypothesis.ids)

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """Some sources, the outputs and the references."""
        source: Any = data
        picked = range(min(count, len(source.store(split, "src"))))
        sources = [source.source_text(split, i) for i in picked]
        outputs = [self.text(found[0]) for found in self.translate(sources, count=1)]
        return [
            {"source": s, "output": o, "reference": source.reference(split, i)}
            for i, s, o in zip(picked, sources, outputs, strict=True)
        ]
