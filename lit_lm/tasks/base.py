"""What every objective shares: counting targets, exact gradients, metrics, the tokenizer in the checkpoint.

The gradient of an optimizer step is that of the loss summed over all its targets divided by their
number, over all micro-batches of an accumulation window and all ranks: never a mean of means.
"""

from __future__ import annotations

import dataclasses
import math
from abc import abstractmethod
from collections.abc import Callable
from typing import Any, ClassVar

import torch
from lightning.pytorch import Callback, LightningDataModule, LightningModule
from torch import Tensor
from torch.optim.lr_scheduler import LambdaLR

from lit_lm.callbacks.meter import Meter
from lit_lm.data import Tokenizer
from lit_lm.data.batches import BatchSize
from lit_lm.errors import InputError
from lit_lm.flops import TRAINING_FACTOR
from lit_lm.losses import LossSum
from lit_lm.models.base import Architecture, Network
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec

# Keeps summed losses in the range of half precision; a power of two, so that it changes no bit.
_SCALE = 1024.0


class Task(LightningModule):
    """Base of all objectives.

    Args:
        net: the architecture.
        spec: what the network must know of the data; the command line links it from the data module.
        optim: optimizer and schedule.
        settings: the subclass's own arguments, as they stand in YAML.

    Attributes:
        net: the network.
        tokenizer: the run's tokenizer, from the data module or the checkpoint.
        league: what the task can be compared with.
        batch_type: the batch it takes.
        meter: counts what training consumes, and keeps the budget.
    """

    league: ClassVar[str]
    batch_type: ClassVar[type]

    def __init__(
        self, *, net: Architecture, spec: DataSpec, optim: OptimConfig, **settings: Any
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
        self.optim = optim
        self.net: Network = net.build(spec)
        self.tokenizer: Tokenizer | None = None
        self.meter = Meter()
        self._window: Tensor | None = None

    @abstractmethod
    def loss(self, batch: Any) -> LossSum:
        """The batch's loss, summed; with correct predictions counted when not training."""

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
        return TRAINING_FACTOR * size.rows * self.net.row_flops(*self.row_lengths(size))

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

    # ---- Lightning's hooks -------------------------------------------------------------------

    def setup(self, stage: str) -> None:
        """Takes the tokenizer from the data module."""
        data = getattr(self.trainer, "datamodule", None)
        expected = getattr(data, "batch_type", self.batch_type)
        if expected is not self.batch_type:
            raise InputError(
                f"{type(self).__name__} takes {self.batch_type.__name__}, but {type(data).__name__} makes "
                f"{expected.__name__}: choose a data module for this task"
            )
        self.tokenizer = getattr(data, "tokenizer", None) or self.tokenizer

    def configure_callbacks(self) -> list[Callback]:
        """Every run is metered, from the command line and from Python."""
        return [self.meter]

    def training_step(self, batch: Any, batch_idx: int) -> Tensor:
        """The summed loss; the step's denominator is applied to the gradient in :meth:`optimizer_step`."""
        loss = self.loss(batch)
        counted = torch.stack((loss.total.detach().double(), loss.targets.double()))
        self._window = counted if self._window is None else self._window + counted
        return loss.total / _SCALE

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
        total, count = self.trainer.strategy.reduce(self._window, reduce_op="sum").unbind()
        self._window = None
        # Lightning has divided by the window's micro-batches, the strategy by the ranks: undo both.
        means = self.trainer.accumulate_grad_batches * self.trainer.world_size
        factor = _SCALE * means / count.clamp(min=1)
        gradients = [p.grad for p in self.parameters() if p.grad is not None]
        torch._foreach_mul_(gradients, factor.to(gradients[0].dtype))
        self.log("train/loss", (total / count.clamp(min=1)).float(), prog_bar=True)

    def configure_optimizers(self) -> Any:
        """The optimizer, and a schedule that is updated after every step."""
        optimizer = self.optim.build(self)
        schedule = LambdaLR(optimizer, lambda step: self.optim.factor(step, self.progress))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    @property
    def progress(self) -> float:
        """Share of the run that is done, 0 to 1: of its steps, its epochs or its budget, whichever ends first."""
        steps = self.trainer.estimated_stepping_batches
        return max(self.trainer.global_step / steps if steps > 0 else 0.0, self.meter.share)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Puts the tokenizer in: a checkpoint alone can generate."""
        if self.tokenizer is not None:
            checkpoint["tokenizer"] = self.tokenizer.state()

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Takes the tokenizer out; refuses data that was tokenised otherwise."""
        if "tokenizer" not in checkpoint:
            return
        if self.tokenizer is not None and self.tokenizer.state() != checkpoint["tokenizer"]:
            raise InputError(
                "the checkpoint was trained with another tokenizer than this data's: its ids would mean other "
                "words. Test it with the data configuration it was trained with"
            )
        self.tokenizer = Tokenizer.from_state(checkpoint["tokenizer"])


def plain(value: Any) -> Any:
    """Configuration dataclasses as the plain types that YAML and checkpoints hold.

    An architecture becomes ``{"class_path": ..., "init_args": ...}``, any other dataclass a dict.
    """
    if isinstance(value, Architecture):
        kind = type(value)
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": _fields(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return list(value) if isinstance(value, tuple) else value


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
