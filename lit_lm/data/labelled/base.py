"""What the data modules for tasks with labels share."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar

from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import LabelledBatch
from lit_lm.data.labelled import subsets
from lit_lm.data.labelled.forms import num_special
from lit_lm.data.labelled.rows import LabelledRow, LabelledRows, Reader
from lit_lm.data.labelled.sources import (
    Example,
    LabelledSource,
)
from lit_lm.data.modules import Data
from lit_lm.data.sources import SPLITS
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError, check_counts
from lit_lm.specs import DataSpec, Form, Target


@dataclass(frozen=True)
class LabelledReport:
    """What labelled data is.

    Args:
        source: the source's class.
        tokenizer: the tokenizer's kind.
        vocab_size: ids, special tokens included.
        splits: of each split, how many examples of which stratum there are.
    """

    source: str
    tokenizer: str
    vocab_size: int
    splits: Mapping[Any, Counter[str]] = field(default_factory=dict)

    def __str__(self) -> str:
        lines = [
            f"source     {self.source}",
            f"tokenizer  {self.tokenizer}, {self.vocab_size:,} ids; labelled texts are held in memory",
        ]
        for split, counts in self.splits.items():
            parts = [f"{name} {count:,}" for name, count in counts.most_common(8)]
            more = f", and {len(counts) - 8} more" if len(counts) > 8 else ""
            lines.append(f"{split:<10} {counts.total():,} examples: {', '.join(parts)}{more}")
        return "\n".join(lines)


class InMemory:
    """What stands in for prepared files.

    Args:
        data: whose tokenizer and report this is.
    """

    def __init__(self, data: LabelledData) -> None:
        self._data = data

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that was loaded, or trained on the training texts."""
        config, examples = self._data.tokenizer_config, self._data.whole("train")
        if config.path is not None:
            return Tokenizer.load(config.path)
        pairs = ((e.text, e.second) for e in examples)
        return Tokenizer.train(config, [t for pair in pairs for t in pair if t is not None])

    @cached_property
    def report(self) -> LabelledReport:
        """What there is. Reads every split."""
        data, tokenizer = self._data, self.tokenizer
        splits = {
            split: Counter(str(data.stratum(e)) for e in data.examples(split))
            for split in SPLITS
            if split == "train" or data.source.actual(split) == split
        }
        return LabelledReport(
            type(data.source).__name__, tokenizer.config.kind, tokenizer.vocab_size, splits
        )


class LabelledData(Data):
    """What data modules with labels share. They are read and tokenised in every process, and held in memory.

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row, special ones included.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training examples only: a stratified, seeded subset that contains those of
            smaller numbers. None for all.
        examples_seed: which of these subsets.
        batch_size: rows of similar lengths in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    stream = "text"
    batch_type = LabelledBatch
    pooled = True
    target: ClassVar[Target]
    source: LabelledSource

    def __init__(
        self,
        source: LabelledSource,
        tokenizer: TokenizerConfig,
        form: Form | None,
        max_length: int,
        characters: int,
        examples: int | None,
        examples_seed: int,
        batch_size: int | None,
        batch_tokens: int | None,
        num_workers: int,
        seed: int,
    ) -> None:
        super().__init__(source, tokenizer, batch_size, batch_tokens, num_workers, seed)
        self.form, self.max_length, self.characters = form, max_length, characters
        self.num_examples, self.examples_seed = examples, examples_seed
        if examples is not None and (isinstance(examples, bool) or examples < 1):
            raise InputError(
                f"data.examples={examples} must be a whole number, at least 1, or null for all"
            )
        check_counts(self, "max_length", least=8)
        check_counts(self, "characters", least=0, most=10_000)
        check_counts(self, "examples_seed", least=0, most=(1 << 62))
        self._examples: dict[str, list[Example]] = {}
        self._reports: dict[str, str] = {}

    @abstractmethod
    def stratum(self, example: Example) -> Hashable:
        """What an example is to be represented by in small subsets, and counted by in reports."""

    @abstractmethod
    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        """Names of the classes or tags of the training examples, in the order of their ids."""

    @abstractmethod
    def make_labelled(self, split: str, reader: Reader) -> list[LabelledRow]:
        """The rows of a split's examples."""

    @cached_property
    def labels(self) -> tuple[str, ...]:
        """Names of the classes or tags, of all training examples, whatever subset is trained on."""
        return self.find_labels(self.whole("train"))

    def whole(self, split: str) -> list[Example]:
        """All examples of a split."""
        actual = self.source.actual(split)
        if actual not in self._examples:
            self._examples[actual] = found = list(self.source.items(actual))
            if not found:
                raise InputError(f"{type(self.source).__name__}: `{actual}` holds no example.")
        return self._examples[actual]

    @cached_property
    def _subset(self) -> list[Example]:
        whole, count = self.whole("train"), self.num_examples
        if count is None:
            return whole
        if count > len(whole):
            raise InputError(
                f"data.examples={count} is more than the {len(whole)} training examples that there are: lower it, or "
                "drop it for all"
            )
        chosen = subsets.order([self.stratum(e) for e in whole], self.examples_seed)[:count]
        return [whole[i] for i in chosen.tolist()]

    def examples(self, split: str) -> list[Example]:
        """The examples of a split that are used: of "train" the subset."""
        return self._subset if self.source.actual(split) == "train" else self.whole(split)

    @cached_property
    def prepared(self) -> Any:
        """The tokenizer, and what there is; see `InMemory`."""
        return InMemory(self)

    @property
    def spec(self) -> DataSpec:
        return self.tokenizer.spec(
            self.max_length,
            max_characters=self.characters,
            form=self.required_form,
            target=self.target,
            labels=self.labels,
            **self.more_of_spec(),
        )

    def more_of_spec(self) -> dict[str, Any]:
        """What else a task must know to read texts as these are read."""
        return {}

    @property
    def required_form(self) -> Form:
        """The form, which must have been given."""
        if self.form is None:
            raise InputError(
                "data.form says how the encoder reads texts: give that of its architecture, such as BERTConfig.form "
                "(the command line does)"
            )
        return self.form

    def make_rows(self, split: str) -> LabelledRows:
        reader = Reader(self.tokenizer, self.characters)
        rows = self.make_labelled(split, reader)
        if split == "train" and self.num_examples is not None:
            rank_zero_info(
                f"train: {len(self.examples('train')):,} of {len(self.whole('train')):,} examples "
                f"(subset {self.examples_seed})."
            )
        return LabelledRows(rows, reader, self.tokenizer)

    def unused(self, split: str) -> str:
        return self._reports.get(self.source.actual(split), "")

    def num_bytes(self, split: str) -> int:
        return sum(map(num_bytes_of, self.examples(split)))

    def _room(self, pair: bool) -> int:
        return self.max_length - num_special(self.required_form, pair)

    def _tell(self, split: str, what: str) -> None:
        self._reports[split] = what
        rank_zero_info(f"{split}: {what}.")


def num_bytes_of(example: Example) -> int:
    """Raw UTF-8 bytes of an example's texts, one separator each included."""
    return sum(len(t.encode()) + 1 for t in (example.text, example.second) if t is not None)
