"""What every objective shares: counting targets, exact gradients, metrics, the tokenizer in the checkpoint.

The gradient of an optimizer step is that of the loss summed over all its targets divided by their
number, over all micro-batches of an accumulation window and all ranks: never a mean of means.
"""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar, NamedTuple, Self

import numpy as np
import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import Tensor, nn
from torch.distributed import broadcast
from torch.nn.parallel import DistributedDataParallel
from torch.optim.lr_scheduler import LambdaLR

from lit_lm.callbacks import Meter, Resume
from lit_lm.callbacks.resume import arrange
from lit_lm.data import Tokenizer
from lit_lm.data.batches import BatchSize
from lit_lm.data.open_words import OpenWords
from lit_lm.data.rows import characters, pad
from lit_lm.errors import InputError
from lit_lm.flops import TRAINING_FACTOR
from lit_lm.losses import LossSum
from lit_lm.metrics import TokenMetrics
from lit_lm.models.base import Architecture, Network
from lit_lm.optim import OptimConfig, adopt
from lit_lm.specs import DataSpec
from lit_lm.tasks.plain import check_weights, plain

# Keeps summed losses in the range of half precision; a power of two, so that it changes no bit.
_SCALE = 1024.0


class Embedded(NamedTuple):
    """A text, its tokens, and a vector for each of them, float (tokens, dim)."""

    text: str
    tokens: list[str]
    vectors: Tensor


class StepLosses(NamedTuple):
    """Losses of an optimizer step, on the device.

    Attributes:
        mean: float (): over all targets of the step, the same on every rank.
        micro_sums: float (micro-batches): this rank's summed loss of each micro-batch.
    """

    mean: Tensor
    micro_sums: Tensor


class Task(LightningModule):
    """Base of all objectives.

    Args:
        net: the architecture.
        spec: what the network must know of the data; the command line links it from the data module.
        optim: optimizer and schedule.
        sums: names of further sums that evaluation keeps, such as the parts of the loss.
        settings: the subclass's own arguments, as they stand in YAML.

    Attributes:
        net: the network.
        tokenizer: the run's tokenizer, from the data module or the checkpoint.
        fresh: parameters that an imported file said nothing about and nobody has trained yet.
        league: what the task can be compared with.
        batch_type: the batch it takes.
        meter: counts what training consumes, and keeps the budget.
        resume: lets training go on from checkpoints exactly.
        step_losses: those of the optimizer step that is being taken, or was taken last.
    """

    league: ClassVar[str]
    batch_type: ClassVar[type]

    def __init__(
        self,
        *,
        net: Architecture,
        spec: DataSpec,
        optim: OptimConfig,
        sums: tuple[str, ...] = (),
        **settings: Any,
    ) -> None:
        super().__init__()
        hparams = {"net": net, "spec": spec, "optim": optim, **settings}
        # The same plain form from the command line and from Python: what a checkpoint can hold safely.
        self.save_hyperparameters(
            {
                "_class_path": f"{type(self).__module__}.{type(self).__qualname__}",
                **{key: plain(value) for key, value in hparams.items()},
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
            }
        )
        self.optim, self.sums = optim, ("whole", *sums)
        self.net: Network = _build(net, spec)
        self.tokenizer: Tokenizer | None = None
        self.fresh: tuple[str, ...] = ()
        self.meter, self.resume = Meter(), Resume()
        # "forward" is a name that a ModuleDict cannot hold, hence the endings.
        self.metrics = nn.ModuleDict(
            {f"{name}_{stage}": TokenMetrics() for stage in ("val", "test") for name in self.sums}
        )
        self._window: Tensor | None = None
        self._micro_losses: list[Tensor] = []
        self._parts: tuple[str, ...] = ()
        self._optim_changed = False
        self.step_losses: StepLosses | None = None
        self._syncs = True

    @abstractmethod
    def loss(self, batch: Any) -> LossSum:
        """The batch's loss, summed over its targets; with correct predictions counted when not training.

        A loss of several parts has one total, which is differentiated, and one number of targets, by
        which it is divided.
        """

    @abstractmethod
    def row_lengths(self, size: BatchSize) -> tuple[float, ...]:
        """Mean real lengths of a batch's rows, as ``Network.row_flops`` takes them."""

    @abstractmethod
    def samples(
        self, data: LightningDataModule, split: str = "val", count: int = 8
    ) -> list[dict[str, str]]:
        """Some inputs of a split with the model's outputs, for people to read."""

    def flops(self, size: BatchSize) -> float:
        """Training FLOPs of a batch, padding not counted."""
        return TRAINING_FACTOR * size.texts * self.net.row_flops(*self.row_lengths(size))

    def documents(self, docs_BL: Tensor | None) -> dict[str, Tensor]:
        """What a network is told of rows packed of several documents; nothing of other rows.

        Raises:
            InputError: the network's ``forward`` has no argument for it.
        """
        if docs_BL is None:
            return {}
        if "docs_BL" not in inspect.signature(self.net.forward).parameters:
            raise InputError(
                f"{type(self.net).__name__}.forward takes no docs_BL, so that packed documents would see each "
                "other: set data.rows to documents (or windows), or give it that argument"
            )
        return {"docs_BL": docs_BL}

    # ---- evaluation --------------------------------------------------------------------------

    def update_metrics(self, stage: str, batch: Any) -> None:
        """Adds an evaluation batch to the metrics of "val" or "test"."""
        loss = self.loss(batch)
        for name, part in {"whole": loss, **(loss.parts or {})}.items():
            self.metric(stage, name).update(part, batch.size.bytes, batch.size.rows)

    def metric(self, stage: str, name: str = "whole") -> TokenMetrics:
        """The sums of a stage: of the whole loss, or of one of its parts."""
        sums: Any = self.metrics[f"{name}_{stage}"]
        return sums  # type: ignore[no-any-return]

    def sums_of(self, stage: str) -> tuple[str, ...]:
        """The sums that are kept in a stage, the same on every rank."""
        return self.sums

    def measures(self, stage: str, values: dict[str, dict[str, Tensor]]) -> dict[str, Tensor]:
        """What is logged at the end of a stage.

        Args:
            stage: "val" or "test".
            values: what `TokenMetrics.compute` found, for "whole" and for all further sums.
        """
        whole = values["whole"]
        kept = {name: whole[name] for name in ("loss", "ppl", "bpb", "accuracy")}
        return kept | self.optimum(stage, whole["tokens"].item())

    def optimum(self, stage: str, tokens: float) -> dict[str, Tensor]:
        """``optimal_ppl``, the best possible perplexity, where the data knows its own entropy.

        Args:
            stage: "val" or "test".
            tokens: predicted tokens of the whole split; nothing is known of a part of it.
        """
        data: Any = getattr(self.trainer, "datamodule", None)
        whole = getattr(self.trainer, f"limit_{stage}_batches") == 1.0
        if not whole or self.trainer.sanity_checking or not hasattr(data, "surprisal"):
            return {}
        surprisal = data.surprisal(stage)
        return (
            {} if surprisal is None else {"optimal_ppl": torch.tensor(math.exp(surprisal / tokens))}
        )

    # ---- vectors -----------------------------------------------------------------------------

    def frame(self, ids: list[int]) -> tuple[list[int], int]:
        """A text as the network read texts in training: a row of ids, and where in it the text starts."""
        return ids, 0

    @torch.no_grad()
    def embed(self, texts: list[str]) -> list[Embedded]:
        """A vector for each token of each text, in its context. A network over characters reads those of
        words that the vocabulary does not hold.

        Raises:
            InputError: a text has more tokens than the network has positions.
        """
        tokenizer = self.require_tokenizer()
        words = OpenWords(tokenizer, self.hparams["spec"]["max_characters"])
        found = words.encode_batch(texts)
        framed = [self.frame(ids) for ids, _ in found]
        self.check_lengths(texts, [row for row, _ in framed])
        inputs = self.batch_rows([row for row, _ in framed], words)
        was_training = self.training
        self.eval()
        h_BLD = self.net.encode(*inputs[:2], chars=inputs[2])
        self.train(was_training)
        return [
            Embedded(text, names, h[start : start + len(names)])
            for text, (_, names), (_, start), h in zip(texts, found, framed, h_BLD, strict=True)
        ]

    def check_lengths(self, texts: list[str], rows: list[list[int]]) -> None:
        """Raises InputError if a text's row is longer than the network's positions."""
        room = self.net.max_length
        for i, (text, row) in enumerate(zip(texts, rows, strict=True), 1):
            if room is not None and len(row) > room:
                raise InputError(
                    f"text {i} has {len(row)} tokens, more than the {room} positions of this network: "
                    f"split it, or train with longer rows. It starts: {text[:60]!r}"
                )

    def batch_rows(
        self, rows: list[list[int]], words: OpenWords | None = None
    ) -> tuple[Tensor, Tensor, tuple[Tensor, Tensor] | None]:
        """Rows of ids as a network reads them.

        Args:
            rows: ids.
            words: unknown words whose ids stand among them.

        Returns:
            int64 (B, L) ids, padded on the right; bool (B, L), True at real tokens; and the characters
            (see ``Network.encode``) where the network reads them.
        """
        tokenizer = self.require_tokenizer()
        width = self.hparams["spec"]["max_characters"]
        ids_BL, mask_BL = pad([np.array(row, dtype=np.int64) for row in rows], tokenizer.pad_id)
        chars = None
        if width:
            unknown = words.characters() if words is not None else None
            found = characters(ids_BL.numpy(), tokenizer.characters(width), unknown)
            chars = (found.chars_UW.to(self.device), found.words_BL.to(self.device))
            ids_BL.masked_fill_(ids_BL >= tokenizer.vocab_size, tokenizer.unk_id)
        return ids_BL.to(self.device), mask_BL.to(self.device), chars

    def require_tokenizer(self) -> Tokenizer:
        """The tokenizer, which every trained task has."""
        if self.tokenizer is None:
            raise InputError("this task has no tokenizer yet: train it, or load a checkpoint")
        return self.tokenizer

    def require_data(self) -> Any:
        """The trainer's data module: some measures need the raw texts, which batches do not carry."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise InputError(
                f"{type(self).__name__} measures against the raw texts of a data module: call the trainer "
                "with datamodule=..., not with bare dataloaders"
            )
        return data

    def require_trained(self, part: str = "") -> None:
        """Raises InputError if parameters of the network whose names start with ``part`` are fresh."""
        fresh = [name for name in self.fresh if name.startswith(part)]
        if fresh:
            raise InputError(
                f"the imported weights had none for {', '.join(fresh[:6])}"
                f"{' and more' if fresh[6:] else ''}: what they compute means nothing before training"
            )

    # ---- Lightning's hooks -------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Takes the tokenizer from the data module, and puts the callbacks in order."""
        arrange(self.trainer)
        data = getattr(self.trainer, "datamodule", None)
        expected = getattr(data, "batch_type", self.batch_type)
        if expected is not self.batch_type:
            raise InputError(
                f"{type(self).__name__} takes {self.batch_type.__name__}, but {type(data).__name__} makes "
                f"{expected.__name__}: choose a data module for this task"
            )
        self.tokenizer = getattr(data, "tokenizer", None) or self.tokenizer

    def on_train_start(self) -> None:
        """From here on nothing is as it was made; what a checkpoint has left to do is done."""
        self.fresh = ()
        if self._optim_changed:
            step = self.trainer.global_step
            adopt(self.trainer.optimizers[0], self.optim.build(self))
            scheduler: Any = self.trainer.lr_scheduler_configs[0].scheduler
            groups = self.trainer.optimizers[0].param_groups
            scheduler.base_lrs = [group["initial_lr"] for group in groups]
            for group in groups:
                group["lr"] = group["initial_lr"] * self.optim.factor(step, self.progress)
        self.resume.go_on(self.trainer, self)

    def on_test_start(self) -> None:
        """Refuses to measure what nobody has trained."""
        self.require_trained()

    def configure_callbacks(self) -> list[Callback]:
        """Every run is metered and can be resumed exactly, from the command line and from Python."""
        return [self.meter, self.resume]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The summed loss; the step's denominator is applied to the gradient in :meth:`optimizer_step`."""
        loss = self.loss(batch)
        parts = loss.parts or {}
        counted = torch.stack([_counts(loss), *map(_counts, parts.values())])
        self._parts = tuple(parts)
        self._window = counted if self._window is None else self._window + counted
        self._micro_losses.append(counted[0, 0])
        return loss.total / _SCALE

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds a batch to the validation metrics."""
        self.update_metrics("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Adds a batch to the test metrics."""
        self.update_metrics("test", batch)

    def on_validation_start(self) -> None:
        """Brings buffers together, here and then no more: DDP would do so in forward passes, of which ranks
        may have unequal numbers.
        """
        ddp = self.trainer.strategy.model
        if not isinstance(ddp, DistributedDataParallel):
            return
        if ddp.broadcast_buffers:
            for buffer in self.buffers():
                broadcast(buffer, 0, ddp.process_group)
        self._syncs = ddp.require_forward_param_sync
        ddp.require_forward_param_sync = False

    def on_validation_end(self) -> None:
        """Leaves DDP and training's random numbers as they were."""
        self.resume.back_to_training(self)
        ddp = self.trainer.strategy.model
        if isinstance(ddp, DistributedDataParallel):
            ddp.require_forward_param_sync = self._syncs

    def on_validation_epoch_end(self) -> None:
        """Logs ``val/rows``, ``val/loss`` and what else the task measures."""
        self._log_measures("val")

    def on_test_epoch_end(self) -> None:
        """Logs the same for ``test``, and what is measured there only."""
        self._log_measures("test")

    def _log_measures(self, stage: str) -> None:
        sums = {name: self.metric(stage, name) for name in self.sums_of(stage)}
        values = {name: its.compute() for name, its in sums.items()}
        measured = {"rows": values["whole"]["rows"], **self.measures(stage, values)}
        for its in sums.values():
            its.reset()
        self.log_dict(
            {f"{stage}/{name}": value.double() for name, value in measured.items()},
            prog_bar=stage == "val",
        )

    def optimizer_step(
        self,
        epoch: int,
        batch_idx: int,
        optimizer: Any,
        optimizer_closure: Callable[[], Any] | None = None,
    ) -> None:
        """Divides the gradient by the step's number of targets before anything looks at it."""

        def closure() -> Any:
            result = optimizer_closure() if optimizer_closure else None
            self._divide_gradients()
            return result

        super().optimizer_step(epoch, batch_idx, optimizer, closure)

    def _divide_gradients(self) -> None:
        if self._window is None:
            return
        window = self.trainer.strategy.reduce(self._window, reduce_op="sum")
        self._window = None
        count = window[0, 1]
        # Lightning has divided by the window's micro-batches, the strategy by the ranks: undo both.
        means = self.trainer.accumulate_grad_batches * self.trainer.world_size
        factor = _SCALE * means / count.clamp(min=1)
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
        total, targets, correct = window.unbind(1)
        losses = total / targets.clamp(min=1)
        self.step_losses = StepLosses(losses[0], torch.stack(self._micro_losses))
        self._micro_losses = []
        self.log("train/loss", losses[0], prog_bar=True)
        for i, name in enumerate(self._parts, 1):
            self.log(f"train/{name}_loss", losses[i])
            if correct[i] >= 0:
                self.log(f"train/{name}_accuracy", correct[i] / targets[i].clamp(min=1))

    def configure_optimizers(self) -> Any:
        """The optimizer, and a schedule that is updated after every step."""
        optimizer = self.optim.build(self)
        schedule = LambdaLR(optimizer, lambda step: self.optim.factor(step, self.progress))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, **settings: Any) -> Self:  # type: ignore[override]
        """A trained task, with its tokenizer, from a file or an address. Whatever stands there cannot run code.

        Args:
            checkpoint_path: where it is.
            settings: further arguments of Lightning's method; arguments of the task replace the checkpoint's.
        """
        settings["weights_only"] = True
        return super().load_from_checkpoint(checkpoint_path, **settings)

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1: of its steps, its epochs or its budget, whichever ends first."""
        steps = self.trainer.estimated_stepping_batches
        return max(self.trainer.global_step / steps if steps > 0 else 0.0, self.meter.share)

    def _other_optim(self, checkpoint: dict[str, Any]) -> None:
        """Notes that training goes on with other settings of the optimizer, which Lightning would lose."""
        if self._trainer is None or self.trainer.state.fn != "fit":
            return
        before, now = checkpoint["hyper_parameters"].get("optim", {}), self.hparams["optim"]
        if before.get("optimizer", now["optimizer"]) != now["optimizer"]:
            raise InputError(
                f"the checkpoint holds the state of optimizer {before['optimizer']!r}, which {now['optimizer']!r} cannot "
                "take up: leave it as it was, or start anew without --ckpt_path"
            )
        self._optim_changed = before != now

    def carried(self) -> dict[str, Any]:
        """What this rank carries from batch to batch besides weights, in tensors and plain types: of an accumulation
        window that is not complete, the gradients and the sums so far.
        """
        if self._window is None:
            return {}
        gradients = {n: p.grad for n, p in self.named_parameters() if p.grad is not None}
        return {
            "window": self._window,
            "losses": torch.stack(self._micro_losses),
            "gradients": gradients,
            "parts": list(self._parts),
        }

    def carry_on(self, carried: dict[str, Any]) -> None:
        """Goes on with what :meth:`carried` gave."""
        if "window" not in carried:
            return
        self._window, self._parts = carried["window"].to(self.device), tuple(carried["parts"])
        self._micro_losses = list(carried["losses"].to(self.device))
        for name, parameter in self.named_parameters():
            if name in carried["gradients"]:
                parameter.grad = carried["gradients"][name].to(parameter)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the tokenizer in: a checkpoint alone can generate."""
        if self.tokenizer is not None:
            checkpoint["tokenizer"] = self.tokenizer.state()
        if self.fresh:
            checkpoint["fresh"] = list(self.fresh)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the tokenizer out; refuses data that was tokenised otherwise, and weights of other shapes."""
        self.fresh = tuple(checkpoint.get("fresh", ()))
        tokenizer = checkpoint.get("tokenizer")
        if (
            tokenizer is not None
            and self.tokenizer is not None
            and self.tokenizer.state() != tokenizer
        ):
            raise InputError(
                "the checkpoint was trained with another tokenizer than this data's: its ids would mean other "
                "words. Give the data configuration it was trained with"
            )
        check_weights(self, checkpoint)
        self._other_optim(checkpoint)
        if tokenizer is not None:
            self.tokenizer = Tokenizer.from_state(tokenizer)


def _build(net: Architecture, spec: DataSpec) -> Network:
    try:
        return net.build(spec)
    except (MemoryError, RuntimeError) as error:
        if isinstance(error, RuntimeError) and "allocate" not in str(error):
            raise
        raise InputError(
            f"{type(net).__name__} does not fit into memory ({str(error).splitlines()[0][:200]}): `lit-lm describe` "
            "shows what it takes"
        ) from error


def _counts(loss: LossSum) -> Tensor:
    """Total, targets and correct predictions (negative where nobody counted them), float64 (3,)."""
    unknown = torch.full_like(loss.targets, -1)
    correct = unknown if loss.correct is None else loss.correct
    return torch.stack([x.detach().double() for x in (loss.total, loss.targets, correct)])
