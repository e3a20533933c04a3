"""What tasks with labels share: an encoder without its language-model head, a head of their own, and how much of both
learns.
"""

from __future__ import annotations

import dataclasses
from abc import abstractmethod
from collections.abc import Iterator, Sequence
from contextlib import nullcontext
from typing import Any, ClassVar, Literal, Self, TypeVar, get_args

import torch
from lightning.pytorch import LightningDataModule
from torch import Tensor, distributed

from lit_lm.data.batches import BatchSize, LabelledBatch, move
from lit_lm.data.labelled.forms import frame
from lit_lm.data.labelled.rows import LabelledRow
from lit_lm.data.labelled.unlabelled import Unlabelled
from lit_lm.errors import InputError, check_reals
from lit_lm.flops import TRAINING_FACTOR
from lit_lm.losses import LossSum
from lit_lm.models.base import Architecture
from lit_lm.nn.heads import Head, HeadConfig, Pooling
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec, Target
from lit_lm.tasks.base import Task

T = TypeVar("T")
Mode = Literal["full", "frozen", "gradual"]
_POOLING: dict[str, Pooling] = {"bert": "first", "gpt": "last"}
_TARGETS = {
    "class": "classes",
    "number": "numbers",
    "tags": "tags of words",
    "answer": "answers in texts",
}
_DATA = {
    "class": "lit_lm.data.ClassificationData",
    "number": "lit_lm.data.RegressionData",
    "tags": "lit_lm.data.TaggingData",
    "answer": "lit_lm.data.AnswerData",
}


class Adaptation(Task):
    """An encoder under a task with labels.

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
        num_outputs: scores of a text or word.
        whole: scores are of texts, not of words.
        settings: the subclass's own arguments.
    """

    league: ClassVar[str] = "encoders"
    batch_type = LabelledBatch
    target: ClassVar[Target]

    def __init__(
        self,
        net: Architecture,
        spec: DataSpec,
        optim: OptimConfig,
        head: HeadConfig,
        mode: Mode,
        layer_decay: float,
        *,
        num_outputs: int,
        whole: bool,
        **settings: Any,
    ) -> None:
        super().__init__(
            net=net,
            spec=spec,
            optim=optim,
            head=head,
            mode=mode,
            layer_decay=layer_decay,
            **settings,
        )
        self.mode, self.layer_decay = mode, layer_decay
        check_reals(self, "layer_decay", most=1, above=True)
        if mode not in get_args(Mode):
            raise InputError(f"mode={mode!r}: choose one of {', '.join(get_args(Mode))}")
        if whole and head.crf:
            raise InputError(
                f"head.crf=true scores sequences of tags; {type(self).__name__} has none: drop it"
            )
        if not whole and head.pooling is not None:
            raise InputError(
                f"head.pooling={head.pooling} makes one vector of a text; {type(self).__name__} scores each word: drop it"
            )
        if spec.target not in (None, self.target):
            raise InputError(
                f"{type(self).__name__} learns {_TARGETS[self.target]}, and this data has {_TARGETS[spec.target]}: choose "
                f"data.class_path={_DATA[self.target]}, or a task for this data"
            )
        if spec.form is not None and not spec.form.startswith(net.form):
            raise InputError(
                f"the data's rows are in the form of {spec.form!r}, and {type(net).__name__} reads that of {net.form!r}: "
                f"set data.form={net.form}, or leave it out on the command line"
            )
        self.net.to_encoder()
        self._depths = self.net.depths
        pooling = head.pooling or ("max" if head.d_lstm else _POOLING.get(net.form, "mean"))
        self.head = Head(
            head, self.net.dim, self.net.num_vectors, num_outputs, pooling if whole else None
        )
        if mode == "frozen":
            self.net.requires_grad_(False).eval()

    def scores(self, batch: LabelledBatch) -> Tensor:
        """Scores of texts, float (B, C), or of words, float (B, W, C)."""
        with torch.no_grad() if self.mode == "frozen" else nullcontext():
            layers = self.net.vectors(
                batch.ids_BL, batch.mask_BL, segments_BL=batch.segments_BL, chars=batch.chars
            )
        out: Tensor = self.head(layers, batch.mask_BL, batch.first_BW)
        return out

    @abstractmethod
    def loss_of(self, scores: Tensor, batch: LabelledBatch) -> LossSum:
        """The loss of scores."""

    @abstractmethod
    def judge(self, stage: str, scores: Tensor, batch: LabelledBatch) -> None:
        """Adds an evaluation batch to the task's own metrics."""

    @abstractmethod
    def judged(self, stage: str) -> dict[str, Tensor]:
        """What the task's own metrics say at the end of a stage; they start anew."""

    def loss(self, batch: LabelledBatch) -> LossSum:
        """See :class:`Task`."""
        return self.loss_of(self.scores(batch), batch)

    def update_metrics(self, stage: str, batch: LabelledBatch) -> None:
        """See :class:`Task`."""
        scores = self.scores(batch)
        loss = self.loss_of(scores, batch)
        self.metric(stage).update(loss, batch.size.bytes, batch.size.rows)
        self.judge(stage, scores, batch)

    def measures(self, stage: str, values: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """See :class:`Task`: ``loss``, and what the task itself measures."""
        return {"loss": values["whole"]["loss"]} | self.judged(stage)

    def train(self, mode: bool = True) -> Self:
        """A frozen encoder stays as it is in evaluation: no dropout."""
        super().train(mode)
        if self.mode == "frozen":
            self.net.eval()
        return self

    # ---- what it costs and how it learns -----------------------------------------------------

    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """See :class:`Task`."""
        distinct = (size.distinct / size.rows,) if size.distinct else ()
        return size.tokens / size.rows, *distinct

    def flops(self, size: BatchSize) -> float:
        """Training FLOPs of a batch, padding not counted: of a frozen encoder the forward ones."""
        factor = 1 if self.mode == "frozen" else TRAINING_FACTOR
        encoder = factor * self.net.encode_flops(*self.row_lengths(size))
        head = TRAINING_FACTOR * self.head.flops((size.words or size.tokens) / size.rows)
        return size.rows * (encoder + head)

    def depth_of(self, name: str) -> int | None:
        """See :class:`Steps`: the head is above all layers."""
        if self.mode != "gradual" and self.layer_decay == 1:
            return None
        part, _, rest = name.partition(".")
        return self.net.depth(rest) if part == "net" else self._depths

    def share(self, depth: int, progress: float) -> float:
        """See :class:`Steps`."""
        below = self._depths - depth  # 0 for the head, 1 for the top layer
        waits = self.mode == "gradual" and progress < 0.5 * below / self._depths
        return 0.0 if waits else float(self.layer_decay**below)

    # ---- texts -------------------------------------------------------------------------------

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """See :class:`Task`."""
        framed = frame(self.require_tokenizer(), self.form, ids)
        return framed.ids, framed.first

    @property
    def form(self) -> Any:
        """How texts are framed."""
        return self.hparams["spec"]["form"]

    @property
    def labels(self) -> list[str]:
        """Names of classes or tags, in the order of their ids."""
        return list(self.hparams["spec"]["labels"])

    @property
    def limit(self) -> int:
        """Most tokens of a row: as many as in training, if the network has so many positions."""
        rows: int = self.hparams["spec"]["max_length"]
        return min(rows, self.net.max_length or rows)

    def unlabelled(self) -> Unlabelled:
        """What makes rows of texts that have no labels."""
        spec = self.hparams["spec"]
        return Unlabelled(
            self.require_tokenizer(),
            self.form,
            self.limit,
            spec["max_characters"],
            spec.get("paired"),
        )

    @torch.no_grad()
    def scored(
        self, reader: Unlabelled, rows: Sequence[LabelledRow], batch_tokens: int
    ) -> Iterator[tuple[list[int], Tensor, LabelledBatch]]:
        """Scores of rows without labels, by batches of similar lengths: the numbers of a batch's rows, its scores, and
        itself.
        """
        was_training = self.training
        self.eval()
        for which, batch in reader.batches(rows, batch_tokens):
            moved = move(batch, self.device)
            yield which, self.scores(moved), moved
        self.train(was_training)

    def of_all_ranks(self, found: T) -> list[T]:
        """What each rank has found."""
        world = self.trainer.world_size
        every: list[Any] = [found] * world
        if world > 1:
            distributed.all_gather_object(every, found)
        return every

    def counts(self, number: int) -> bool:
        """Whether this rank is the one that counts an example of which others have read parts."""
        return bool(number % self.trainer.world_size == self.trainer.global_rank)

    def setup(self, stage: str) -> None:
        """See :class:`Task`; refuses data with other labels than the task was made for."""
        super().setup(stage)
        data: Any = getattr(self.trainer, "datamodule", None)
        if (spec := getattr(data, "spec", None)) is not None:
            self._compare(dataclasses.asdict(spec), "this task was made for")

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """See :class:`Task`; refuses data with other labels than the checkpoint's, and another way of learning."""
        hparams = checkpoint["hyper_parameters"]
        self._compare(self.hparams["spec"], "the checkpoint was trained on", hparams["spec"])
        fits = self._trainer is not None and self.trainer.state.fn == "fit"
        for key in ("mode", "layer_decay") if fits else ():
            before, after = hparams[key], self.hparams[key]
            regrouped = before != after and (key == "mode" or 1 in (before, after))
            if regrouped:
                raise InputError(
                    f"the checkpoint was trained with {key}={before}, and {key}={after} moves other groups of weights: leave "
                    "it as it was, or start anew from the checkpoint's weights with --pretrained.path and no --ckpt_path"
                )
        super().on_load_checkpoint(checkpoint)

    def _compare(
        self, data: dict[str, Any], whose: str, spec: dict[str, Any] | None = None
    ) -> None:
        """Raises InputError unless data has the labels of a spec, the task's own if none is given, and pairs where it has."""
        spec = spec or self.hparams["spec"]
        pairs = data.get("paired"), spec.get("paired")  # older checkpoints do not say
        if None not in pairs and pairs[0] != pairs[1]:
            found, wanted = ("pairs of texts" if paired else "single texts" for paired in pairs)
            raise InputError(
                f"the data are {found}, and {whose} {wanted}: give the data that it was trained on, or train anew"
            )
        if list(data["labels"]) != list(spec["labels"]) or data["target"] != spec["target"]:
            found, wanted = (
                ", ".join(its["labels"][:12]) or _TARGETS.get(its["target"] or "", "no labels")
                for its in (data, spec)
            )
            raise InputError(
                f"the data's labels are {found}, and {whose} {wanted}: give the data that it was trained on, or train anew"
            )

    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """Some examples with what was predicted and what is true."""
        source: Any = data
        rows = source.rows(split)
        examples = source.examples(split)
        out = []
        was_training = self.training
        self.eval()
        for i in range(min(count, len(rows))):
            batch = rows.collate([rows[i]])
            with torch.no_grad():
                moved = self.transfer_batch_to_device(batch, self.device, 0)
                found = self.described(self.scores(moved), moved, source, split)[0]
            example = examples[rows[i].example]
            text = example.text if example.second is None else f"{example.text} | {example.second}"
            out.append({"text": text, "output": found[0], "reference": found[1]})
        self.train(was_training)
        return out

    @abstractmethod
    def described(
        self, scores: Tensor, batch: LabelledBatch, data: Any, split: str
    ) -> list[tuple[str, str]]:
        """For each row what is predicted and what is true, for people to read."""
