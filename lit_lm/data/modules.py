"""What all data modules share: a source, a tokenizer and a row format become batches."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Callable
from functools import cached_property
from typing import Any, ClassVar

import torch
from lightning.pytorch import LightningDataModule
from lightning.pytorch.strategies import DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy
from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import move
from lit_lm.data.prepare import Prepared, PrepareReport, Sentences, prepare
from lit_lm.data.rows import Rows
from lit_lm.data.samplers import BatchSampler, Loader, Planner, check_budget
from lit_lm.data.shards.source import PreparedShards, Shards
from lit_lm.data.sources import Cloze, Source
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError, check_counts
from lit_lm.specs import DataSpec


class Data(LightningDataModule, ABC):
    """What all data modules share: preparing once, planning batches, counting bytes.

    A subclass says what its rows are (`make_rows`) and how long they get (`spec`).

    Args:
        source: where the raw text comes from.
        tokenizer: which tokenizer to train or load.
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch (of pairs: on either side), padding included, of
            rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    stream: ClassVar[str]
    """The text that is predicted: what bytes and surprisal are counted of."""

    batch_type: ClassVar[type]
    """What the loaders yield."""

    def __init__(
        self,
        source: Source[Any],
        tokenizer: TokenizerConfig,
        batch_size: int | None,
        batch_tokens: int | None,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__()
        check_budget(batch_size, batch_tokens)
        self.source = source
        self.tokenizer_config = tokenizer
        self.batch_size, self.batch_tokens = batch_size, batch_tokens
        self.num_workers, self.seed = num_workers, seed
        check_counts(self, "num_workers", least=0, most=1024)
        check_counts(self, "seed", least=0, most=(1 << 64) - 1)
        self._rows: dict[str, Rows[Any, Any]] = {}

    @abstractmethod
    def make_rows(self, split: str) -> Rows[Any, Any]:
        """The samples of a split that has prepared files."""

    @property
    @abstractmethod
    def spec(self) -> DataSpec:
        """What a network must know about the data. Prepares the data, if that was not done
        before.
        """

    consecutive = False
    """Whether row b of a batch goes on where row b of the batch before it ended."""

    pooled: ClassVar[bool] = False
    """Whether batches of `batch_size` rows are of rows of similar lengths."""

    takes_shards = False
    """Whether the text may come from shards."""

    sentences: Sentences | None = None
    """How documents are cut into sentences on disk; None when they stay whole."""

    characters = 0
    """Characters of a token that networks over characters read; 0 for networks over ids."""

    @cached_property
    def prepared(self) -> Prepared | PreparedShards:
        """The prepared files; made on first use."""
        source: Any = self.source
        if isinstance(source, Shards):
            if not self.takes_shards:
                raise InputError(
                    f"data.source is Shards, which TextData reads, and MaskedTextData with `next_sentence: false`; this is "
                    f"{type(self).__name__}: give it the text itself."
                )
            return source.open(self.tokenizer_config)
        return prepare(source, self.tokenizer_config, self.sentences, self.characters)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer of the run."""
        return self.prepared.tokenizer

    def store(self, split: str, stream: str) -> Any:
        """Ids of a text of a split, a `TokenStore` or a `ShardStore`; of "val" where no test text is given."""
        return self.prepared.store(self.source.actual(split), stream)

    def rows(self, split: str) -> Rows[Any, Any]:
        """The samples of a split."""
        actual = self.source.actual(split)
        if actual not in self._rows:
            self._rows[actual] = self.make_rows(actual)
        return self._rows[actual]

    def unused(self, split: str) -> str:
        """What of a split's documents or pairs is in no row, in words; empty where everything is."""
        return ""

    def num_bytes(self, split: str) -> int:
        """Raw UTF-8 bytes of a split's predicted text, one separator per document included."""
        return int(self.store(split, self.stream).num_bytes)

    def cloze(self, split: str, documents: int) -> Cloze | None:
        """What the best possible reader makes of the words of the first documents of a split, each
        hidden in turn while all others are seen; None if unknown.
        """
        return self.source.cloze(self.source.actual(split), documents)

    def surprisal(self, split: str) -> float | None:
        """Total surprisal of a split in nats under its own distribution: the least loss there is;
        None if unknown.
        """
        return self.source.surprisal(self.source.actual(split))

    def prepare_data(self) -> None:
        """Lightning's hook: one process per node prepares."""
        _ = self.prepared

    def setup(self, stage: str | None = None) -> None:
        """Lightning's hook: open the prepared files."""
        if stage in ("test", "predict") and self.source.actual("test") == "val":
            rank_zero_info("No test text is given: the validation text stands in for it.")

    def transfer_batch_to_device(
        self, batch: Any, device: torch.device, dataloader_idx: int
    ) -> Any:
        """Lightning's hook: it would look for tensors in every number of a batch's size."""
        if isinstance(batch, self.batch_type):
            return move(batch, device)
        return super().transfer_batch_to_device(batch, device, dataloader_idx)

    def train_dataloader(self) -> Loader:
        return self._loader("train")

    def val_dataloader(self) -> Loader:
        return self._loader("val")

    def test_dataloader(self) -> Loader:
        return self._loader("test")

    def predict_dataloader(self) -> Loader:
        return self._loader("test")

    def _loader(self, split: str) -> Loader:
        trainer = self.trainer
        rows = self.rows(split)
        sampler = BatchSampler(
            rows if isinstance(rows, Planner) else rows.lengths,
            batch_size=self.batch_size,
            batch_tokens=self.batch_tokens,
            shuffle=split == "train"
            and (trainer is None or getattr(trainer, "overfit_batches", 0) == 0),
            seed=self.seed,
            consecutive=self.consecutive,
            pooled=self.pooled,
            even=split == "train" or _in_step(trainer),
            rank=0 if trainer is None else trainer.global_rank,
            world_size=1 if trainer is None else trainer.world_size,
            current_epoch=_epoch_of(trainer, split),
        )
        return Loader(
            rows,
            batch_sampler=sampler,
            collate_fn=rows.collate,
            num_workers=self.num_workers,
            persistent_workers=self.num_workers > 0,
            generator=torch.Generator().manual_seed(0),  # leaves the global one alone
        )


def _epoch_of(trainer: Any, split: str) -> Callable[[], int] | None:
    """What tells the epoch: evaluation sees the same samples every time."""
    if split != "train":
        return lambda: 0
    return None if trainer is None else lambda: int(trainer.current_epoch)


def _in_step(trainer: Any) -> bool:
    """Whether all ranks must call the network equally often, in evaluation too: where parameters are sharded,
    each call gathers them; not where they are gathered before, once.
    """
    sharded = (DeepSpeedStrategy, FSDPStrategy, ModelParallelStrategy)
    strategy = getattr(trainer, "strategy", None)
    return isinstance(strategy, sharded) and not getattr(strategy, "whole_in_evaluation", False)


def prepare_data(data: Data) -> PrepareReport:
    """Prepare a data module's files, print what was read, used and left out, and where it went.

    Rows that will not be used (pairs longer than `max_length`) are counted too.

    Raises:
        InputError: something about the text, the tokenizer or the settings is wrong.
    """
    report = data.prepared.report
    rows = {split: data.rows(split) for split in report.splits}
    print(report)
    for split, its in rows.items():
        unused = data.unused(split)
        print(
            f"{split:<10} {len(its):,} rows, the longest of {int(its.lengths.max()):,} positions"
            f"{'; ' if unused else ''}{unused}"
        )
    return report
