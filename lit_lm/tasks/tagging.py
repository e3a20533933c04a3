"""Words with tags: named entities."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, NamedTuple, cast

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.data.batches import IGNORE, LabelledBatch
from lit_lm.data.labelled import tags
from lit_lm.data.labelled.answers import words_of
from lit_lm.data.labelled.contexts import joined
from lit_lm.data.labelled.sources import Example
from lit_lm.label_metrics import EntityMetrics
from lit_lm.losses import LossSum, widen
from lit_lm.models.base import Architecture
from lit_lm.nn.crf import CRF
from lit_lm.nn.heads import HeadConfig
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.adaptation import Adaptation, Mode


class Tagged(NamedTuple):
    """The tags of a sentence's words in IOB2, and the probability of each word's."""

    tags: list[str]
    probabilities: list[float]


class Entity(NamedTuple):
    """An entity in a text: its type, its own text, its first character and the one behind its last, and the probability
    of the tag of its least certain word.
    """

    type: str
    text: str
    start: int
    end: int
    probability: float


class Tagging(Adaptation):
    """A tag for each word (Devlin et al. 2019, section 5.3): of each word alone, by cross-entropy, or of whole sentences,
    by a conditional random field (``head.crf``).

    Args:
        net: the encoder's architecture: any of the suite's, or one of your own.
        spec: filled in from the data module.
        optim: optimizer and schedule.
        head: what stands between the encoder's vectors and the scores.
        mode: what learns: "full": everything. "frozen": the head alone, the encoder is fixed and without dropout.
            "gradual": everything in the end, but one layer after the other, from the top, over the first half of training
            (Howard and Ruder 2018, section 3.3, https://aclanthology.org/P18-1031).
        layer_decay: each layer learns at this share of the rate of the one above it, the head at the whole rate (Clark et al.
            2020, appendix B, https://arxiv.org/abs/2003.10555).
    """

    target = "tags"

    def __init__(
        self,
        net: Architecture,
        spec: DataSpec | None = None,
        optim: OptimConfig | None = None,
        head: HeadConfig | None = None,
        mode: Mode = "full",
        layer_decay: float = 1.0,
    ) -> None:
        spec, head = spec or DataSpec(), head or HeadConfig()
        names = spec.labels if spec.target == "tags" else ()
        super().__init__(
            net,
            spec,
            optim or OptimConfig(),
            head,
            mode,
            layer_decay,
            num_outputs=max(len(spec.labels), 1),
            whole=False,
        )
        marks = {tags.split(name)[0] for name in names}
        self.scheme: tags.Scheme = "bioes" if "S" in marks else "iob2"
        self.kinds = sorted({tags.split(name)[1] for name in names} - {""})
        allowed = tags.allowed(names, self.scheme) if names else None
        self.crf = CRF(max(len(spec.labels), 1), allowed) if head.crf else None
        self.entities = nn.ModuleDict({s: EntityMetrics(self.kinds) for s in ("val", "test")})
        self._found: dict[str, dict[int, list[int]]] = {"val": {}, "test": {}}

    def loss_of(self, scores: Tensor, batch: LabelledBatch) -> LossSum:
        """See :class:`Adaptation`: in nats a word."""
        if self.crf is not None:
            total = self.crf.loss(scores, batch.labels.clamp(min=0), batch.labels != IGNORE)
        else:
            flat = widen(scores).flatten(0, 1)
            total = F.cross_entropy(
                flat, batch.labels.flatten(), ignore_index=IGNORE, reduction="sum"
            )
        return LossSum(total, torch.full((), batch.size.labels, device=scores.device))

    def best(self, scores_BWT: Tensor, mask_BW: Tensor) -> Tensor:
        """The best tags, int64 (B, W), meaningless at padding."""
        if self.crf is not None:
            return self.crf.decode(scores_BWT, mask_BW)
        return scores_BWT.argmax(-1)

    def probabilities(self, scores_BWT: Tensor, mask_BW: Tensor) -> Tensor:
        """The probability of each tag of each word, float (B, W, T)."""
        if self.crf is not None:
            return self.crf.marginals(scores_BWT, mask_BW)
        return widen(scores_BWT).softmax(-1)

    def names(self, tags_BW: Tensor, mask_BW: Tensor) -> list[list[str]]:
        """Ids of tags as tags in IOB2, without padding."""
        labels, out = self.labels, []
        for row, mask in zip(tags_BW.tolist(), mask_BW.tolist(), strict=True):
            found = [labels[t] for t, real in zip(row, mask, strict=True) if real]
            out.append(tags.written(tags.entities(found), len(found), "iob2"))
        return out

    def judge(self, stage: str, scores: Tensor, batch: LabelledBatch) -> None:
        """See :class:`Adaptation`: keeps the tags of each row."""
        mask = batch.labels != IGNORE
        for row, ids, size in zip(
            batch.index_B.tolist(),
            self.best(scores, mask).tolist(),
            mask.sum(1).tolist(),
            strict=True,
        ):
            self._found[stage][row] = ids[:size]

    def judged(self, stage: str) -> dict[str, Tensor]:
        """See :class:`Adaptation`: precision, recall and F1 of whole entities, of all and of each kind, sentence by sentence
        of the source, however they were joined or cut into rows.
        """
        data, metrics = self.require_data(), cast(EntityMetrics, self.entities[stage])
        examples: Sequence[Example] = data.examples(stage)
        labels, tags_of = self.labels, dict[int, dict[int, str]]()
        for its in self.of_all_ranks(self._found[stage]):
            for row, ids in its.items():
                number, begin = data.piece(stage, row)
                words = tags_of.setdefault(number, {})
                words |= {i: labels[t] for i, t in enumerate(ids, begin)}
        predicted, true = [], []
        for number in filter(self.counts, tags_of):
            words, right, begin = tags_of[number], examples[number].label, 0
            for size in examples[number].sizes or (len(right),):
                # All words, unless rows were left out (limit_val_batches).
                places = [i for i in range(begin, begin + size) if i in words]
                predicted.append([words[i] for i in places])
                true.append([right[i] for i in places])
                begin += size
        metrics.update(predicted, true)
        found = metrics.compute()
        metrics.reset()
        self._found[stage] = {}
        return found

    def described(
        self, scores: Tensor, batch: LabelledBatch, data: Any, split: str
    ) -> list[tuple[str, str]]:
        """See :class:`Adaptation`."""
        mask = batch.labels != IGNORE
        found = self.names(self.best(scores, mask), mask)
        true = self.names(batch.labels.clamp(min=0), mask)
        return [(" ".join(f), " ".join(t)) for f, t in zip(found, true, strict=True)]

    def predict_step(self, batch: LabelledBatch, batch_idx: int) -> list[tuple[int, list[str]]]:
        """Each row's tags in IOB2, with its number (``TaggingData.piece``)."""
        scores, mask = self.scores(batch), batch.labels != IGNORE
        return list(
            zip(batch.index_B.tolist(), self.names(self.best(scores, mask), mask), strict=True)
        )

    def tag_words(
        self,
        sentences: Sequence[Sequence[str]],
        documents: Sequence[Hashable] | None = None,
        *,
        batch_tokens: int = 4096,
    ) -> list[Tagged]:
        """A tag for each word of each sentence. Sentences longer than the rows of training are read in pieces.

        Args:
            sentences: words, cut as those of training were.
            documents: which document each sentence is of; those of one that follow each other are then read together, if
                those of training were (``ConllTags.context_words``). None reads each on its own.
            batch_tokens: most positions that are computed together.
        """
        most = self.hparams["spec"].get("context_words", 0) if documents is not None else 0
        if documents is None:
            documents = range(len(sentences))
        groups = joined([len(words) for words in sentences], documents, most)
        reader = self.unlabelled()
        rows = reader.sentences(
            [[word for i in group for word in sentences[i]] for group in groups]
        )
        found: dict[int, tuple[list[int], list[float]]] = {}
        for which, scores, batch in self.scored(reader, rows, batch_tokens):
            assert batch.first_BW is not None
            mask = batch.first_BW >= 0
            best = self.best(scores, mask).clamp(min=0)
            sure = self.probabilities(scores, mask).gather(-1, best.unsqueeze(-1)).squeeze(-1)
            for i, ids, chances, size in zip(
                which, best.tolist(), sure.tolist(), mask.sum(1).tolist(), strict=True
            ):
                found[i] = ids[:size], chances[:size]
        names: list[list[str]] = [[] for _ in groups]
        values: list[list[float]] = [[] for _ in groups]
        labels = self.labels
        for i, row in enumerate(rows):
            names[row.example] += [labels[t] for t in found[i][0]]
            values[row.example] += found[i][1]
        out = []
        for group, its, sure_of in zip(groups, names, values, strict=True):
            begin = 0
            for i in group:
                end = begin + len(sentences[i])
                # Pieces are put together before entities are found: one that was cut may be whole again.
                mine = its[begin:end]
                written = tags.written(tags.entities(mine), len(mine), "iob2")
                out.append(Tagged(written, sure_of[begin:end]))
                begin = end
        return out

    def tag(self, texts: Sequence[str], *, batch_tokens: int = 4096) -> list[list[Entity]]:
        """The entities of each text, in order. Words are runs of letters and digits, and single marks."""
        places = [words_of(text) for text in texts]
        words = [
            [text[w.begin : w.end] for w in its] for text, its in zip(texts, places, strict=True)
        ]
        out: list[list[Entity]] = []
        for text, its, tagged in zip(
            texts, places, self.tag_words(words, batch_tokens=batch_tokens), strict=True
        ):
            out.append([])
            for span in tags.entities(tagged.tags):
                begin, end = its[span.begin].begin, its[span.end - 1].end
                sure = min(tagged.probabilities[span.begin : span.end])
                out[-1].append(Entity(span.kind, text[begin:end], begin, end, sure))
        return out
