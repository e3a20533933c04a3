"""Questions on texts in which the answers stand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, NamedTuple

import torch
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.data.batches import LabelledBatch
from lit_lm.errors import InputError, check_counts
from lit_lm.label_metrics import AnswerMetrics
from lit_lm.losses import LossSum, widen
from lit_lm.models.base import Architecture
from lit_lm.nn.heads import HeadConfig
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.adaptation import Adaptation, Mode


class Found(NamedTuple):
    """The best answer in a window: first and last word, and its score less that of no answer."""

    first: int
    last: int
    score: float


class Answered(NamedTuple):
    """An answer, empty for none; its score less that of no answer, in nats, minus infinity where the text has no words;
    and where in the text it stands: its first character, and the one behind its last.
    """

    answer: str
    score: float
    start: int
    end: int


class QuestionAnswering(Adaptation):
    """The first and the last word of the answer (Devlin et al. 2019, sections 4.2 and 4.3); the row's first token stands for
    no answer. Of the windows of a long text the one whose answer stands out most from no answer counts.

    Args:
        net: the encoder's architecture: any of the suite's, or one of your own.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        head: what stands between the encoder's vectors and the scores.
        mode: what learns, as in :class:`Classification`.
        layer_decay: how much less lower layers learn, as in :class:`Classification`.
        max_words: longest answer.
        must_answer: always give an answer (SQuAD 1.1); otherwise none where that scores more (SQuAD 2.0).
    """

    target = "answer"

    def __init__(
        self,
        net: Architecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        head: HeadConfig | None = None,
        mode: Mode = "full",
        layer_decay: float = 1.0,
        max_words: int = 30,
        must_answer: bool = True,
    ) -> None:
        super().__init__(
            net,
            spec or DataSpec(),
            optim or OptimConfig(),
            head or HeadConfig(),
            mode,
            layer_decay,
            num_outputs=2,
            whole=False,
            max_words=max_words,
            must_answer=must_answer,
        )
        self.max_words, self.must_answer = max_words, must_answer
        check_counts(self, "max_words")
        self.answers = nn.ModuleDict({stage: AnswerMetrics() for stage in ("val", "test")})
        self._found: dict[str, dict[int, tuple[float, str]]] = {"val": {}, "test": {}}

    def setup(self, stage: str) -> None:
        """See :class:`Adaptation`; says so where questions without an answer must be answered, and refuses questions of
        which none has one.
        """
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        if data is None or not self.must_answer:
            return
        for split in {"fit": ("train", "val"), "validate": ("val",)}.get(stage, ("test",)):
            examples = data.examples(split)
            count = sum(not example.label for example in examples)
            if count == len(examples):
                raise InputError(
                    f"{split}: none of the {count:,} questions has an answer, so there is nothing to learn or to measure. For "
                    "answers to such questions use lit-lm answer."
                )
            if count:
                rank_zero_info(
                    f"{split}: {count:,} of {len(examples):,} questions have no answer, and must_answer=true gives one to every "
                    "question: for data like SQuAD 2.0 set model.must_answer=false."
                )

    def loss_of(self, scores: Tensor, batch: LabelledBatch) -> LossSum:
        """See :class:`Adaptation`: the sum for first and last word, in nats a place."""
        assert batch.first_BW is not None
        outside = (batch.first_BW < 0).unsqueeze(-1)
        scores_B2W = widen(scores).masked_fill(outside, float("-inf")).transpose(1, 2)
        total = F.cross_entropy(scores_B2W.flatten(0, 1), batch.labels.flatten(), reduction="sum")
        return LossSum(total, torch.full((), batch.size.labels, device=scores.device))

    def found(self, scores_BW2: Tensor, first_BW: Tensor) -> list[Found]:
        """The best answer of each row that is no longer than allowed; words of a row count from 1."""
        begin_BW, end_BW = (
            widen(scores_BW2).masked_fill(first_BW.unsqueeze(-1) < 0, -1e30).unbind(-1)
        )
        W = begin_BW.size(1)
        places = torch.arange(W, device=begin_BW.device)
        length = places[None, :] - places[:, None]
        allowed = (length >= 0) & (length < self.max_words) & (places[:, None] > 0)
        both_BWW = begin_BW[:, :, None] + end_BW[:, None, :]
        best = both_BWW.masked_fill(~allowed, -2e30).flatten(1).max(-1)
        none_B = begin_BW[:, 0] + end_BW[:, 0]
        return [
            Found(place // W, place % W, score) if W > 1 else Found(0, 0, float("-inf"))
            for place, score in zip(
                best.indices.tolist(), (best.values - none_B).tolist(), strict=True
            )
        ]

    def judge(self, stage: str, scores: Tensor, batch: LabelledBatch) -> None:
        """See :class:`Adaptation`: keeps the best answer to each question so far."""
        assert batch.first_BW is not None
        data, kept = self.require_data(), self._found[stage]
        found = self.found(scores, batch.first_BW)
        for row, its in zip(batch.index_B.tolist(), found, strict=True):
            number = data.window(stage, row).row.example
            if number not in kept or its.score > kept[number][0]:
                kept[number] = its.score, data.answer(stage, row, its.first, its.last)

    def judged(self, stage: str) -> dict[str, Tensor]:
        """See :class:`Adaptation`: exact match and F1 of answers."""
        examples = self.require_data().examples(stage)
        metrics: Any = self.answers[stage]
        mine = self._together(stage)
        answers = {
            n: text if self.must_answer or score > 0 else "" for n, (score, text) in mine.items()
        }
        metrics.update(
            list(answers.values()), [[a.text for a in examples[n].label] for n in answers]
        )
        found: dict[str, Tensor] = metrics.compute()
        metrics.reset()
        self._found[stage] = {}
        return found

    def _together(self, stage: str) -> dict[int, tuple[float, str]]:
        """Of the answers of all ranks, those that this one counts: windows of a text may be on several."""
        best: dict[int, tuple[float, str]] = {}
        for its in self.of_all_ranks(self._found[stage]):
            for number, found in its.items():
                best[number] = max(found, best.get(number, found))
        return {n: found for n, found in best.items() if self.counts(n)}

    def described(
        self, scores: Tensor, batch: LabelledBatch, data: Any, split: str
    ) -> list[tuple[str, str]]:
        """See :class:`Adaptation`."""
        assert batch.first_BW is not None
        out = []
        for row, its in zip(
            batch.index_B.tolist(), self.found(scores, batch.first_BW), strict=True
        ):
            example = data.examples(split)[data.window(split, row).row.example]
            answer = data.answer(split, row, its.first, its.last)
            out.append((answer, " / ".join(a.text for a in example.label)))
        return out

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> list[tuple[int, Found]]:
        """The best answer of each window, with the window's number."""
        assert batch.first_BW is not None
        return list(
            zip(batch.index_B.tolist(), self.found(self.scores(batch), batch.first_BW), strict=True)
        )

    def answer(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        *,
        stride: int = 128,
        names: Sequence[str] | None = None,
        batch_tokens: int = 4096,
    ) -> list[Answered]:
        """The answer to each question in its text. Long texts are read in windows, the best of which counts.

        Args:
            questions: the questions.
            contexts: the text of each.
            stride: how far the windows of a text are apart, in tokens.
            names: what messages call the questions.
            batch_tokens: most positions that are computed together.

        Raises:
            InputError: a question leaves hardly any room for its text.
        """
        reader = self.unlabelled()
        windows = reader.questions(questions, contexts, stride, names)
        best: dict[int, tuple[float, int, int]] = {}
        rows = [window.row for window in windows]
        for which, scores, batch in self.scored(reader, rows, batch_tokens):
            assert batch.first_BW is not None
            for i, its in zip(which, self.found(scores, batch.first_BW), strict=True):
                row, words = windows[i]
                begin, end = words[its.first].begin, words[its.last].end
                # Of equal ones the first: batches must not matter.
                before = best.get(row.example, (float("-inf"), 0, 0))
                best[row.example] = max(before, (its.score, begin, end), key=_rank)
        out = []
        for i, context in enumerate(contexts):
            score, begin, end = best.get(i, (float("-inf"), 0, 0))
            if not self.must_answer and score <= 0:
                begin = end = 0
            out.append(Answered(context[begin:end], score, begin, end))
        return out


def _rank(found: tuple[float, int, int]) -> tuple[float, int, int]:
    """Better answers, then earlier and shorter ones, rank higher."""
    score, begin, end = found
    return score, -begin, -end
