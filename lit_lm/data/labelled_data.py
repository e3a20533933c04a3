"""The data modules for tasks with labels: texts with a class or a number, words with tags, questions on texts."""

from __future__ import annotations

from abc import abstractmethod
from collections import Counter
from collections.abc import Hashable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import cached_property
from typing import Any, ClassVar, Literal

import numpy as np
from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data import subsets, tags
from lit_lm.data.answers import Window, windows
from lit_lm.data.batches import LabelledBatch
from lit_lm.data.forms import frame, num_special
from lit_lm.data.labelled_rows import LabelledRow, LabelledRows, Reader, array, cut
from lit_lm.data.labels import (
    AnswerSource,
    ClassSource,
    Example,
    LabelledSource,
    TagSource,
    number,
)
from lit_lm.data.modules import Data
from lit_lm.data.sources import SPLITS
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError, check_counts
from lit_lm.specs import DataSpec, Form, Target

Overlong = Literal["error", "truncate"]
_HEADINGS = {"label", "labels", "class", "category", "target", "gold_label", "sentiment"}


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
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    stream = "text"
    batch_type = LabelledBatch
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
        )

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
        return sum(map(_bytes, self.examples(split)))

    def _room(self, pair: bool) -> int:
        return self.max_length - num_special(self.required_form, pair)

    def _tell(self, split: str, what: str) -> None:
        self._reports[split] = what
        rank_zero_info(f"{split}: {what}.")


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
                LabelledRow(array(framed.ids), array(framed.segments), label, i, _bytes(example))
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
        batch_size: rows in a batch; or
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
            if not example.label.strip():
                raise InputError(f"{example.where}: there is no label.")
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
        if example.label not in self._ids:
            raise InputError(
                f"{example.where}: class {example.label!r} is none of the training examples': "
                f"{', '.join(map(repr, self.labels[:8]))}. Is this file of another task?"
            )
        return self._ids[example.label]


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
        batch_size: rows in a batch; or
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


class TaggingData(LabelledData):
    """Sentences in words, each word with a tag; the first token of a word carries it.

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row, special ones included. Longer sentences are read in pieces, cut between words:
            each word is tagged, and an entity that is cut counts as two.
        scheme: the tags to learn: "iob2", or "bioes". The files may have others.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training sentences only: a seeded subset that contains those of smaller
            numbers, stratified by the kinds of entities in a sentence. None for all.
        examples_seed: which of these subsets.
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    target = "tags"
    source: TagSource

    def __init__(
        self,
        source: TagSource,
        tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece"),  # noqa: B008 (frozen)
        form: Form | None = None,
        max_length: int = 128,
        scheme: Literal["iob2", "bioes"] = "iob2",
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
        self.scheme = scheme

    def stratum(self, example: Example) -> Hashable:
        return "+".join(sorted({span.kind for span in tags.spans(example.label, "iob2")})) or "none"

    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        kinds = sorted({span.kind for e in examples for span in tags.spans(e.label, "iob2")})
        if not kinds:
            raise InputError(
                f"no word of the {len(examples)} training sentences has a tag but O: is data.source.tag the tags' column?"
            )
        return tuple(tags.tag_names(kinds, self.scheme))

    def make_labelled(self, split: str, reader: Reader) -> list[LabelledRow]:
        examples, ids = self.examples(split), {name: i for i, name in enumerate(self.labels)}
        kinds = {tags.split(name)[1] for name in self.labels} - {""}
        room, form, longer, shortened = self._room(False), self.required_form, 0, 0
        out: list[LabelledRow] = []
        for i, example in enumerate(examples):
            entities = tags.spans(example.label, "iob2")
            if unknown := [e.kind for e in entities if e.kind not in kinds]:
                raise InputError(
                    f"{example.where}: an entity of type {unknown[0]!r}, which no training sentence has: they have "
                    f"{', '.join(sorted(kinds))}. Is this file of another task?"
                )
            pieces, long = pieces_of(reader.words(spaced(example.words)), room)
            longer, shortened = longer + (len(pieces) > 1), shortened + long
            at = 0
            for piece in pieces:
                framed = frame(self.tokenizer, form, [t for word in piece for t in word])
                sizes = [len(word) for word in piece]
                first = framed.first + np.cumsum([0, *sizes[:-1]])
                names = tags.written(
                    clipped(entities, at, at + len(piece)), len(piece), self.scheme
                )
                label = array(ids[name] for name in names)
                text = sum(len(w.encode()) + 1 for w in example.words[at : at + len(piece)])
                out.append(
                    LabelledRow(array(framed.ids), array(framed.segments), label, i, text, first)
                )
                at += len(piece)
        if longer or shortened:
            long_words = f", and {shortened:,} words to so many" if shortened else ""
            self._tell(
                split,
                f"{longer:,} of {len(examples):,} sentences are longer than {self.max_length} tokens and read in "
                f"pieces{long_words}",
            )
        return out


class AnswerData(LabelledData):
    """Questions on texts in which the answers stand (extractive question answering).

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row: the question and a window of the text.
        stride: how far the windows of a long text are apart, in tokens.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training questions only: a seeded subset that contains those of smaller
            numbers. None for all.
        examples_seed: which of these subsets.
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    target = "answer"
    source: AnswerSource

    def __init__(
        self,
        source: AnswerSource,
        tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece"),  # noqa: B008 (frozen)
        form: Form | None = None,
        max_length: int = 384,
        stride: int = 128,
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
        self.stride = stride
        check_counts(self, "stride")
        self._windows: dict[str, list[Window]] = {}

    def stratum(self, example: Example) -> Hashable:
        return "answered" if example.label else "no answer"

    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return ()

    def make_labelled(self, split: str, reader: Reader) -> list[LabelledRow]:
        examples, out = self.examples(split), []
        for i, (example, question) in enumerate(
            zip(examples, reader.texts([e.text for e in examples]), strict=True)
        ):
            out += windows(
                i,
                example,
                question,
                reader,
                self.tokenizer,
                self.required_form,
                self.max_length,
                self.stride,
            )
        rows = [window.row._replace(number=n) for n, window in enumerate(out)]
        self._windows[split] = out
        if len(out) > len(examples):
            self._tell(split, f"{len(examples):,} questions in {len(out):,} windows of their texts")
        return rows

    def window(self, split: str, row: int) -> Window:
        """A row with its words."""
        self.rows(split)
        return self._windows[self.source.actual(split)][row]

    def answer(self, split: str, row: int, first: int, last: int) -> str:
        """The text of words `first` to `last` of a row's window; empty for word 0."""
        window = self.window(split, row)
        text = self.examples(split)[window.row.example].second
        assert text is not None
        return "" if not first else text[window.words[first].begin : window.words[last].end]


def clipped(entities: Sequence[tags.Span], begin: int, end: int) -> list[tags.Span]:
    """What of entities is within words `begin` to `end`, counted from there."""
    return [
        tags.Span(e.kind, max(e.begin, begin) - begin, min(e.end, end) - begin)
        for e in entities
        if e.begin < end and e.end > begin
    ]


def spaced(words: Sequence[str]) -> list[str]:
    """Words as they stand in a text: all but the first behind a space."""
    return [*words[:1], *(f" {word}" for word in words[1:])]


def pieces_of(words: Sequence[list[int]], room: int) -> tuple[list[list[list[int]]], int]:
    """Words' ids cut into pieces of at most `room` tokens, as few as follow from taking as many words as fit; and how many
    words alone had more, which are cut.
    """
    pieces: list[list[list[int]]] = [[]]
    size, long = 0, 0
    for word in words:
        if len(word) > room:
            word, long = word[:room], long + 1
        if size + len(word) > room:
            pieces.append([])
            size = 0
        pieces[-1].append(word)
        size += len(word)
    return pieces, long


def _bytes(example: Example) -> int:
    return sum(len(t.encode()) + 1 for t in (example.text, example.second) if t is not None)
