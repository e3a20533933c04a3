"""Where raw text comes from: the two base classes, and how validation and test text are held out.

A source only reads. It knows nothing of tokens, batches or Lightning.
"""

# No postponed annotations here: the command line looks up the types of an inherited field in the module of the
# class that inherits it, where `Holdout` need not be known.
import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterator
from dataclasses import asdict, dataclass, field
from itertools import islice
from typing import Any, ClassVar, Generic, Literal, NamedTuple, TypeVar

from jsonargparse import set_parsing_settings

from lit_lm.errors import InputError

Split = Literal["train", "val", "test"]
SPLITS: tuple[Split, ...] = ("train", "val", "test")

Item = TypeVar("Item")


class Lines(NamedTuple):
    """Lines of a file that belong together.

    Args:
        size: how many they are.
        item: the document or pair that they hold, also an empty one; None for no item.
        reason: why there is none: "blank" or "header".
    """

    size: int
    item: Any
    reason: str = ""


class Cloze(NamedTuple):
    """How well words can be guessed, each from all the others of its text.

    Args:
        surprisal: nats, summed over the words: the least possible pseudo-log-likelihood loss.
        words: how many there are.
        accuracy: share of them that the best possible guess gets right, on average.
    """

    surprisal: float
    words: int
    accuracy: float


@dataclass(frozen=True)
class Holdout:
    """Take validation and test text from the training text, when they have no files of their own.

    Args:
        val: fraction of the training text held out for validation.
        test: fraction held out for test; 0 for none.
        by: "last": the last documents (or pairs), in order. "random": by a hash of the text (of the
            source side of a pair), so that repeated texts fall on one side only. "characters": in
            order and at an exact character position, for corpora of a single document.
    """

    val: float = 0.1
    test: float = 0.0
    by: Literal["last", "random", "characters"] = "last"

    def __post_init__(self) -> None:
        if self.val < 0 or self.test < 0 or not 0 < self.val + self.test < 1:
            raise InputError(
                f"holdout: val={self.val} and test={self.test} must be fractions of at least 0 "
                "that add up to more than 0 and less than 1."
            )

    def bounds(self, split: str) -> tuple[float, float]:
        """Begin and end of a split as fractions of the training text."""
        val, test = round(1 - self.val - self.test, 12), round(1 - self.test, 12)
        return {"train": (0.0, val), "val": (val, test), "test": (test, 1.0)}[split]


@dataclass(frozen=True)
class Source(ABC, Generic[Item]):
    """Raw text in up to three splits; base of `TextSource` and `PairSource`.

    Args:
        holdout: take validation or test text from the training text.
    """

    holdout: Holdout | None = field(default=None, kw_only=True)

    streams: ClassVar[tuple[str, ...]]
    """Names of the texts in an item, as the prepared files call them."""

    @property
    def symbols(self) -> tuple[str, ...]:
        """Pieces of the texts that the tokenizer must have an id of their own for."""
        return ()

    @abstractmethod
    def given(self) -> tuple[str, ...]:
        """Splits that have text of their own; "train" is always one."""

    @abstractmethod
    def read(self, split: str) -> Iterator[Item]:
        """Items of a given split, in order, in constant memory. Empty ones included."""

    @abstractmethod
    def content(self, split: str) -> str:
        """Digest of what a given split is read from."""

    def lines(self, split: str) -> Iterator[Lines] | None:
        """Every line of a given split's files, in order; None for sources that are not made of lines."""
        return None

    def num_lines(self, split: str) -> int:
        """How many lines they are, counted without reading what they hold."""
        return 0

    def part(self, split: str, i: int, n: int) -> Iterator[Lines]:
        """Part i (from 0) of n parts of a given split: each item is in exactly one. By itself every n-th item, for which
        all are read; sources that can begin in the middle do.
        """
        return (Lines(1, item) for item in islice(self.read(split), i, None, n))

    def num_parts(self, split: str, size: int) -> int:
        """In how many parts of about `size` bytes a given split comes; 1 where that is not known."""
        return 1

    def inputs(self, split: str) -> list[Any]:
        """What tells a given split's text from others, in plain types; need not read all of it."""
        return [self.content(split)]

    def split_of(self, item: Item) -> Split:
        """In which split an item of the training text stands that is held out by chance.

        Raises:
            InputError: items are held out by their place, which one of many parts does not know.
        """
        if self.holdout is None:
            return "train"
        if self.holdout.by != "random":
            raise InputError(
                f"`holdout.by: {self.holdout.by}` needs all of the text at one place: for shards use `random`, or give "
                "`val` files."
            )
        at = _fraction(item)
        return next(
            s for s in SPLITS if self.holdout.bounds(s)[0] <= at < self.holdout.bounds(s)[1]
        )

    def surprisal(self, split: str) -> float | None:
        """Total surprisal of a split in nats under its own distribution; None where that is
        unknown.
        """
        return None

    def cloze(self, split: str, documents: int) -> Cloze | None:
        """The best possible guesses of single words of the first documents; None where unknown."""
        return None

    def __post_init__(self) -> None:
        for split in ("val", "test"):
            if self.holds_out(split) and split in self.given():
                raise InputError(
                    f"`{split}` is given, and `holdout.{split}` asks to take it from `train`: "
                    "drop one of them."
                )

    def holds_out(self, split: str) -> bool:
        """Whether a split is taken from the training text."""
        return self.holdout is not None and split != "train" and getattr(self.holdout, split) > 0

    def actual(self, split: str) -> str:
        """The split that is read for `split`: itself, or "val" where no test text is given.

        Raises:
            InputError: there is no validation text.
        """
        if split in self.given() or self.holds_out(split):
            return split
        if split == "test":
            return self.actual("val")
        raise InputError(
            f"{type(self).__name__} has no `{split}` text: give `{split}`, or take a part of the "
            "training text with `holdout: {val: 0.1}`."
        )

    def items(self, split: str) -> Iterator[Item]:
        """Items of a split, with what is held out taken from, or left out of, the training text."""
        split = self.actual(split)
        if self.holdout is None or (split != "train" and not self.holds_out(split)):
            return self.read(split)
        low, high = self.holdout.bounds(split)
        if self.holdout.by == "random":
            return (item for item in self.read("train") if low <= _fraction(item) < high)
        if self.holdout.by == "characters":
            return self._cut(low, high)
        count = sum(1 for _ in self.read("train"))
        return islice(self.read("train"), int(count * low), int(count * high))

    def _cut(self, low: float, high: float) -> Iterator[Item]:
        raise InputError("`holdout.by: characters` cuts text, not pairs: use `last` or `random`.")

    def options(self) -> dict[str, Any]:
        """The settings beside the files, in plain types: with the contents they make the
        fingerprint.
        """
        return {k: v for k, v in asdict(self).items() if k not in SPLITS}

    def fingerprint(self) -> str:
        """Digest of everything that decides the items: contents and settings, not names of
        files.
        """
        contents = {split: self.content(split) for split in self.given()}
        parts = [type(self).__name__, self.options(), contents]
        return hashlib.blake2b(
            json.dumps(parts, sort_keys=True).encode(), digest_size=16
        ).hexdigest()


def _fraction(item: Any) -> float:
    """A number in [0, 1) that depends on the text (of a pair: its source) alone."""
    text = item if isinstance(item, str) else item[0]
    return int.from_bytes(hashlib.blake2b(text.encode(), digest_size=6).digest(), "big") / 2**48


@dataclass(frozen=True)
class TextSource(Source[str], ABC):
    """Documents of running text. Base class: choose a source by its `class_path`."""

    streams: ClassVar[tuple[str, ...]] = ("text",)

    def _cut(self, low: float, high: float) -> Iterator[str]:
        total = sum(len(text) for text in self.read("train"))
        begin, end, at = int(total * low), int(total * high), 0
        for text in self.read("train"):
            part = text[max(begin - at, 0) : max(end - at, 0)]
            at += len(text)
            if part:
                yield part


@dataclass(frozen=True)
class PairSource(Source[tuple[str, str]], ABC):
    """Pairs of a source text and its target text. Base class: choose a source by its
    `class_path`.
    """

    streams: ClassVar[tuple[str, ...]] = ("src", "tgt")


set_parsing_settings(subclasses_enabled=[TextSource, PairSource])
