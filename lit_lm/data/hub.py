"""Sources from the Hugging Face hub, or from a folder that `datasets` saved. Needs the extra
`hub`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from typing import Any

from lit_lm.data.files import hash_files
from lit_lm.data.sources import SPLITS, PairSource, TextSource
from lit_lm.errors import InputError
from lit_lm.json_lines import member


@lru_cache(maxsize=8)
def _load(name: str, config: str | None, revision: str | None) -> Mapping[str, Any]:
    """The dataset's splits by name."""
    try:
        import datasets
    except ImportError:
        raise InputError(
            f"dataset {name!r} needs the library `datasets`: pip install 'lit_lm[hub]'."
        ) from None
    folder = Path(name).expanduser()
    try:
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            found = datasets.load_from_disk(str(folder))
        else:
            found = datasets.load_dataset(name, config, revision=revision)
    except Exception as error:  # the library raises many kinds, from the network's to pyarrow's
        raise InputError(
            f"dataset {name!r} (config {config!r}, revision {revision!r}) cannot be loaded: {error}"
        ) from error
    return found if isinstance(found, Mapping) else {"train": found}


@dataclass(frozen=True)
class _Hub(ABC):
    """A dataset by name, and what its splits are called."""

    name: str
    train: str = "train"
    val: str | None = "validation"
    test: str | None = "test"
    config: str | None = None
    revision: str | None = None

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def table(self, split: str) -> Any:
        """The `datasets.Dataset` of a split."""
        splits = _load(self.name, self.config, self.revision)
        wanted = getattr(self, split)
        if wanted not in splits:
            raise InputError(
                f"dataset {self.name!r} has no split {wanted!r}, only {sorted(splits)}: "
                f"set `{split}` to one of them{'' if split == 'train' else ', or to null'}."
            )
        return splits[wanted]

    def content(self, split: str) -> str:
        """Digest of the dataset's files, or of its rows when it lies in memory."""
        table = self.table(split)
        if files := [file["filename"] for file in table.cache_files]:
            return hash_files(files)
        digest = hashlib.blake2b(digest_size=16)
        for row in table:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def cells(self, split: str, wanted: list[str]) -> Iterator[list[str]]:
        """The wanted fields of every row, in constant memory."""
        for number, row in enumerate(self.table(split)):
            where = f"dataset {self.name!r}, split {getattr(self, split)!r}, row {number}"
            yield [member(row, field, where) for field in wanted]

    def options(self) -> dict[str, Any]:
        """Names are no content."""
        known: dict[str, Any] = super().options()  # type: ignore[misc]
        return {k: v for k, v in known.items() if k not in ("name", "config", "revision")}


@dataclass(frozen=True)
class HubText(_Hub, TextSource):
    """Documents of a Hugging Face dataset. Needs `pip install 'lit_lm[hub]'`.

    Args:
        name: the dataset's name on the hub, or a folder written by `save_to_disk`.
        train: its split to train on.
        val: its split to validate on; null with `holdout`.
        test: its split to test on; null for `val`.
        config: the dataset's configuration, where it has several.
        revision: commit or tag of the dataset; name one for results that can be repeated.
        field: the column that holds the text; dots lead into nested columns.
    """

    field: str = "text"

    def read(self, split: str) -> Iterator[str]:
        return (cells[0] for cells in self.cells(split, [self.field]))


@dataclass(frozen=True)
class HubPairs(_Hub, PairSource):
    """Pairs of a Hugging Face dataset. Needs `pip install 'lit_lm[hub]'`.

    Args:
        name: the dataset's name on the hub, or a folder written by `save_to_disk`.
        train: its split to train on.
        val: its split to validate on; null with `holdout`.
        test: its split to test on; null for `val`.
        config: the dataset's configuration, where it has several.
        revision: commit or tag of the dataset; name one for results that can be repeated.
        source: the column of the source text; dots lead into nested columns ("translation.en").
        target: the column of the target text.
    """

    source: str = "source"
    target: str = "target"

    def read(self, split: str) -> Iterator[tuple[str, str]]:
        return ((src, tgt) for src, tgt in self.cells(split, [self.source, self.target]))
