"""The data modules for whole texts: a class, or a number."""

from __future__ import annotations

from abc import abstractmethod
from collections.abc import Hashable, Sequence
from functools import cached_property
from typing import Any, Literal

from lit_lm.data.labelled.base import LabelledData, num_bytes_of
from lit_lm.data.labelled.forms import frame
from lit_lm.data.labelled.rows import LabelledRow, Reader, array, cut
from lit_lm.data.labelled.sources import (
    ClassSource,
    Example,
    number,
)
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.specs import Form

Overlong = Literal["error", "truncate"]
_HEADINGS = {"label", "labels", "class", "category", "target", "gold_label", "sentiment"}


class _TextData(LabelledData):
    """Texts, or pairs of them, with a label each."""

    source: ClassSource

    def __init__(
        self,
        source: ClassSource,
        tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece"),  # noqa: B008 (frozen)
        form: Form | None = None,
        max_length: int = 128,
        overlong: Overlong = "error",
        characters: int = 0,
        examples: int | None = None,
        examples_seed: int = 0,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            source,
            tokenizer,
            form,
            max_length,
            characters,
            examples,
            examples_seed,
            batch_size,
            batch_tokens,
            num_workers,
            seed,
        )
        self.overlong = overlong

    def more_of_spec(self) -> dict[str, Any]:
        return {"paired": self.whole("train")[0].second is not None}

    @abstractmethod
    def label(self, example: Example) -> int | float:
        """A label as it is learned."""

    def make_labelled(self, split: str, reader: Reader) -> list[LabelledRow]:
        examples = self.examples(split)
        firsts = reader.texts([e.text for e in examples])
        seconds = iter(reader.texts([e.second for e in examples if e.second is not None]))
        out, longer = [], []
        for i, (example, first) in enumerate(zip(examples, firsts, strict=True)):
            pair = example.second is not None
            second, room = next(seconds) if pair else None, self._room(pair)
            if len(first) + len(second or ()) > room:
                longer.append((example, len(first) + len(second or ())))
                first, second = cut(first, second, room)
            framed = frame(self.tokenizer, self.required_form, first, second)
            label = self.label(example)
            out.append(
                LabelledRow(
                    array(framed.ids), array(framed.segments), label, i, num_bytes_of(example)
                )
            )
        if longer and self.overlong == "error":
            example, size = longer[0]
            raise InputError(
                f"{len(longer)} of {len(examples)} texts are longer than max_length={self.max_length}; the first is "
                f"{example.where}, with {size} tokens. Raise data.max_length, or read only their beginnings with "
                "`overlong: truncate`."
            )
        if longer:
            most = max(size for _, size in longer)
            self._tell(
                split,
                f"{len(longer):,} of {len(examples):,} texts are cut to {self.max_length} tokens (the longest has "
                f"{most:,})",
            )
        return out


class ClassificationData(_TextData):
    """Texts, or pairs of texts, each of one of several classes.

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row, special ones included.
        overlong: what to do with longer texts: "error", or "truncate": read their beginnings (of two texts, the longer
            one loses its end first), and say how many.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training examples only: a stratified, seeded subset that contains those of
            smaller numbers. None for all.
        examples_seed: which of these subsets.
        batch_size: rows of similar lengths in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    target = "class"

    def stratum(self, example: Example) -> Hashable:
        label: str = example.label
        return label

    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        for example in examples:
            _check_label(example)
        first = examples[0]
        if first.label.lower() in _HEADINGS and all(e.label != first.label for e in examples[1:]):
            raise InputError(
                f"{first.where}: class {first.label!r} stands there alone: if that line is a header, name the columns "
                "(data.source.text, .label) instead of numbering them."
            )
        found = tuple(sorted({e.label for e in examples}))
        if len(found) < 2:
            raise InputError(
                f"all {len(examples)} training examples are of class {found[0]!r}: nothing can be learned from them."
            )
        if len(found) > 1000 and len(found) > len(examples) / 2:
            raise InputError(
                f"{len(found)} classes in {len(examples)} examples, such as {found[0][:40]!r}: is data.source.label "
                "the labels' column, and are they classes (numbers are for RegressionData)?"
            )
        return found

    @cached_property
    def _ids(self) -> dict[str, int]:
        return {name: i for i, name in enumerate(self.labels)}

    def label(self, example: Example) -> int:
        _check_label(example)
        if example.label not in self._ids:
            raise InputError(
                f"{example.where}: class {example.label!r} is none of the training examples': "
                f"{', '.join(map(repr, self.labels[:8]))}. Is this file of another task?"
            )
        return self._ids[example.label]


def _check_label(example: Example) -> None:
    if not example.label.strip():
        raise InputError(f"{example.where}: there is no label.")


class RegressionData(_TextData):
    """Texts, or pairs of texts, each with a number.

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row, special ones included.
        overlong: what to do with longer texts: "error", or "truncate": read their beginnings (of two texts, the longer
            one loses its end first), and say how many.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training examples only: a seeded subset that contains those of smaller
            numbers, with equal shares of each fifth of the range. None for all.
        examples_seed: which of these subsets.
        batch_size: rows of similar lengths in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    target = "number"

    def stratum(self, example: Example) -> Hashable:
        low, high = self._range
        fifth = min(int(5 * (number(example) - low) / ((high - low) or 1)), 4)
        return f"{low + fifth * (high - low) / 5:g} and more"

    @cached_property
    def _range(self) -> tuple[float, float]:
        numbers = [number(e) for e in self.whole("train")]
        return min(numbers), max(numbers)

    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return ()

    def label(self, example: Example) -> float:
        return number(example)
