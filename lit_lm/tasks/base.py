"""What every objective shares: metrics, the tokenizer in the checkpoint, Lightning's hooks. How it is trained is in
``steps.py``, what it makes of texts in ``texts.py``.
"""

from __future__ import annotations

import inspect
import math
from abc import abstractmethod
from pathlib import Path
from typing import Any, ClassVar, Self

import torch
from lightning.pytorch import Callback, LightningDataModule
from lightning.pytorch.plugins.precision import DoublePrecision
from lightning.pytorch.strategies import FSDPStrategy
from torch import Tensor, nn
from torch.distributed import broadcast
from torch.nn.parallel import DistributedDataParallel

from lit_lm import shard_files, sharding
from lit_lm.callbacks import Resume
from lit_lm.callbacks.resume import arrange
from lit_lm.data import Tokenizer
from lit_lm.data.batches import BatchSize
from lit_lm.errors import InputError
from lit_lm.flops import TRAINING_FACTOR
from lit_lm.metrics import TokenMetrics
from lit_lm.models.base import Architecture, Network
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks.plain import check_weights, plain
from lit_lm.tasks.steps import Steps
from lit_lm.tasks.texts import Texts


class Task(Steps, Texts):
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
        resume: lets training go on from checkpoints exactly.
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
        super().__init__(optim)
        hparams = {"net": net, "spec": spec, "optim": optim, **settings}
        # The same plain form from the command line and from Python: what a checkpoint can hold safely.
        self.save_hyperparameters(
            {
                "_class_path": f"{type(self).__module__}.{type(self).__qualname__}",
                **{key: plain(value) for key, value in hparams.items()},
                "_instantiator": "lightning.pytorch.cli.instantiate_module",
            }
        )
        self.sums = ("whole", *sums)
        self.net: Network = _build(net, spec)
        self.tokenizer: Tokenizer | None = None
        self.fresh: tuple[str, ...] = ()
        self.resume = Resume()
        # "forward" is a name that a ModuleDict cannot hold, hence the endings.
        self.metrics = nn.ModuleDict(
            {f"{name}_{stage}": TokenMetrics() for stage in ("val", "test") for name in self.sums}
        )
        self._syncs = True

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

    def require_data(self) -> Any:
        """The trainer's data module: some measures need the raw texts, which batches do not carry."""
        data = getattr(self.trainer, "datamodule", None)
        if data is None:
            raise InputError(
                f"{type(self).__name__} measures against the raw texts of a data module: call the trainer "
                "with datamodule=..., not with bare dataloaders"
            )
        return data

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

    def configure_model(self) -> None:
        """Under a strategy that has processes share weights, this is where they are shared out: those of each of the
        network's layers, and all others together. Evaluation without training holds them whole.
        """
        if self._trainer is None:
            return
        if isinstance(self.trainer.strategy, FSDPStrategy):
            raise InputError(
                "trainer.strategy='fsdp' flattens weights, so that groups of the optimizer, the watchdog and clipping would "
                "take them for something else: take --config trainer/fsdp, which keeps their shapes (FSDP2)"
            )
        mesh = self.device_mesh
        if mesh is None or self.trainer.state.fn != "fit" or sharding.is_sharded(self):
            return
        if mesh.size() != mesh["data_parallel"].size():
            raise InputError(
                f"trainer.strategy: tensor_parallel_size={mesh['tensor_parallel'].size()} splits single matrices, which no "
                "network here is written for: take --config trainer/fsdp, which shares them out over all devices"
            )
        if self.optim.optimizer == "muon":
            raise InputError(
                "model.optim.optimizer='muon' orthogonalises whole matrices, and trainer.strategy shards them: take adamw, "
                "or trainer/ddp"
            )
        sharding.shard(self, self.net.stacked(), mesh["data_parallel"], "loss")

    def on_train_start(self) -> None:
        """From here on nothing is as it was made; what a checkpoint has left to do is done."""
        super().on_train_start()
        self.fresh = ()
        self.take_up_optim()
        self.resume.go_on(self.trainer, self)

    def on_test_start(self) -> None:
        """Refuses to measure what nobody has trained."""
        self.require_trained()

    def configure_callbacks(self) -> list[Callback]:
        """Every run is metered and can be resumed exactly, from the command line and from Python."""
        return [self.meter, self.resume]

    def validation_step(self, batch: Any, batch_idx: int) -> None:
        """Adds a batch to the validation metrics."""
        self.update_metrics("val", batch)

    def test_step(self, batch: Any, batch_idx: int) -> None:
        """Adds a batch to the test metrics."""
        self.update_metrics("test", batch)

    def on_validation_start(self) -> None:
        """Brings buffers and shards of weights together, here and then no more: DDP and FSDP would do so in forward
        passes, of which ranks may have unequal numbers.
        """
        sharding.gather(self)
        ddp = self.trainer.strategy.model
        if not isinstance(ddp, DistributedDataParallel):
            return
        if ddp.broadcast_buffers:
            for buffer in self.buffers():
                broadcast(buffer, 0, ddp.process_group)
        self._syncs = ddp.require_forward_param_sync
        ddp.require_forward_param_sync = False

    def on_validation_end(self) -> None:
        """Leaves DDP, shards and training's random numbers as they were."""
        sharding.scatter(self)
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

    @classmethod
    def load_from_checkpoint(cls, checkpoint_path: Any, **settings: Any) -> Self:  # type: ignore[override]
        """A trained task, with its tokenizer, from a file, a folder of shards or an address. Whatever stands there cannot run
        code.

        Args:
            checkpoint_path: where it is.
            settings: further arguments of Lightning's method; arguments of the task replace the checkpoint's.
        """
        settings["weights_only"] = True
        if isinstance(checkpoint_path, str | Path) and shard_files.is_sharded(checkpoint_path):
            checkpoint_path = shard_files.as_file(Path(checkpoint_path))
        return super().load_from_checkpoint(checkpoint_path, **settings)

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
        if self._trainer is not None and isinstance(self.trainer.precision_plugin, DoublePrecision):
            self.double()  # Lightning does so later, when weights have been rounded
        self.note_optim(checkpoint)
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
