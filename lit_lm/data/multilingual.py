"""One model for several target languages: a tag before the source says which is wanted."""

from __future__ import annotations

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from itertools import chain
from typing import Any

from lit_lm.data.sources import SPLITS, Lines, PairSource
from lit_lm.errors import InputError


def tag(language: str) -> str:
    """What stands before a source that is to be put into a language, such as ``<2de>``."""
    return f"<2{language}>"


@dataclass(frozen=True)
class Multilingual(PairSource):
    """Pairs of several sources, each with its target's language as a tag before the source text: ``<2de> A man
    sleeps.`` (Johnson et al. 2017, https://aclanthology.org/Q17-1024). Each tag has one id of its own.

    Args:
        targets: of each target language, by its tag's name such as ``de``, where its pairs come from. All have the
            same splits; what is held out is held out by each of them.
    """

    targets: dict[str, PairSource]

    def __post_init__(self) -> None:
        if self.holdout is not None:
            raise InputError(
                "data.source.holdout would part the languages' texts from each other: give each of data.source.targets a "
                "holdout of its own, the same for all."
            )
        if not self.targets:
            raise InputError("data.source.targets is empty: name at least one language.")
        if bad := [name for name in self.targets if not name.replace("-", "_").isidentifier()]:
            raise InputError(
                f"data.source.targets: {bad[0]!r} is no name of a language: letters, digits, - and _, as in de or pt-BR."
            )
        splits = {name: _given(source) for name, source in self.targets.items()}
        if len(set(splits.values())) > 1:
            told = "; ".join(f"{name} has {', '.join(its)}" for name, its in splits.items())
            raise InputError(f"data.source.targets: all need the same splits, but {told}.")

    @property
    def symbols(self) -> tuple[str, ...]:
        return tuple(map(tag, self.targets))

    def given(self) -> tuple[str, ...]:
        return _given(next(iter(self.targets.values())))

    def read(self, split: str) -> Iterator[tuple[str, str]]:
        for name, source in self.targets.items():
            yield from (_tagged(name, pair) for pair in source.items(split))

    def lines(self, split: str) -> Iterator[Lines] | None:
        found = {name: _lines(source, split) for name, source in self.targets.items()}
        tagged = [_tagged_lines(name, its) for name, its in found.items() if its is not None]
        return chain.from_iterable(tagged) if len(tagged) == len(found) else None

    def num_lines(self, split: str) -> int:
        return sum(source.num_lines(split) for source in self.targets.values())

    def content(self, split: str) -> str:
        digests = (f"{name} {_content(source, split)}" for name, source in self.targets.items())
        return hashlib.blake2b(" ".join(digests).encode(), digest_size=16).hexdigest()

    def options(self) -> dict[str, Any]:
        parts = {
            name: [type(source).__name__, source.options()] for name, source in self.targets.items()
        }
        return {"targets": parts}


def _given(source: PairSource) -> tuple[str, ...]:
    """Splits of a source, held-out ones included."""
    return tuple(s for s in SPLITS if s in source.given() or source.holds_out(s))


def _content(source: PairSource, split: str) -> str:
    return source.content("train" if source.holds_out(split) else split)


def _lines(source: PairSource, split: str) -> Iterator[Lines] | None:
    """Lines of a split that is all of its files."""
    return source.lines(split) if source.holdout is None else None


def _tagged_lines(name: str, lines: Iterator[Lines]) -> Iterator[Lines]:
    for line in lines:
        yield line if line.item is None else line._replace(item=_tagged(name, line.item))


def _tagged(name: str, pair: tuple[str, str]) -> tuple[str, str]:
    """An empty source stays empty: it is left out and counted."""
    source, target = pair
    return (f"{tag(name)} {source}" if source.strip() else source), target
