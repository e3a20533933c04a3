"""Sources from the Hugging Face hub, from a folder that `datasets` saved, or from files that `datasets` reads; whole on
this machine, or streamed. Needs the extra `hub`.
"""

from __future__ import annotations

import hashlib
import json
from abc import ABC, abstractmethod
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import lru_cache
from itertools import islice
from pathlib import Path
from typing import Any

from lit_lm.data.files import hash_files, is_address, signature
from lit_lm.data.sources import SPLITS, Lines, PairSource, TextSource
from lit_lm.errors import InputError
from lit_lm.json_lines import member

Files = str | list[str]


@lru_cache(maxsize=8)
def _load(
    name: str, config: str | None, revision: str | None, files: str | None, streaming: bool
) -> Mapping[str, Any]:
    """The dataset's splits by name; `files` as JSON."""
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
            if streaming:
                found = {name: part.to_iterable_dataset() for name, part in _named(found).items()}
        else:
            found = datasets.load_dataset(
                name,
                config,
                revision=revision,
                data_files=None if files is None else json.loads(files),
                streaming=streaming,
            )
    except Exception as error:  # the library raises many kinds, from the network's to pyarrow's
        raise InputError(
            f"dataset {name!r} (config {config!r}, revision {revision!r}) cannot be loaded: {error}"
        ) from error
    return _named(found)


def _named(found: Any) -> Mapping[str, Any]:
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
    files: dict[str, Files] | None = None
    streaming: bool = False

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def table(self, split: str) -> Any:
        """The `datasets.Dataset` of a split, or the `IterableDataset`."""
        files = None if self.files is None else json.dumps(self.files, sort_keys=True)
        splits = _load(self.name, self.config, self.revision, files, self.streaming)
        wanted = getattr(self, split)
        if wanted not in splits:
            raise InputError(
                f"dataset {self.name!r} has no split {wanted!r}, only {sorted(splits)}: "
                f"set `{split}` to one of them{'' if split == 'train' else ', or to null'}."
            )
        return splits[wanted]

    def content(self, split: str) -> str:
        """Digest of the dataset's files, or of its rows when it lies in memory. What is streamed goes by its names, as
        nobody has read it yet: of the dataset with its revision, or of its files with their sizes, ends or tags.
        """
        if self.streaming:
            return self._origin(split)
        table = self.table(split)
        if files := [file["filename"] for file in table.cache_files]:
            return hash_files(files)
        digest = hashlib.blake2b(digest_size=16)
        for row in table:
            digest.update(json.dumps(row, sort_keys=True, default=str).encode())
        return digest.hexdigest()

    def _origin(self, split: str) -> str:
        import datasets

        folder = Path(self.name).expanduser()
        if (folder / "dataset_dict.json").is_file() or (folder / "state.json").is_file():
            saved = sorted(p for p in folder.rglob("*") if p.is_file())
            known: list[Any] = [[p.name, *signature(str(p))] for p in saved if p.stat().st_size]
        else:
            self.table(split)  # errors are explained there
            builder = datasets.load_dataset_builder(
                self.name, self.config, revision=self.revision, data_files=self.files
            )
            found = (builder.config.data_files or {}).get(getattr(self, split), [])
            here = [path for path in found if not is_address(path)]
            known = [*map(signature, here)]
            if len(here) < len(found):  # addresses come with their tags
                known += [list(found), [list(tag) for tag in found.origin_metadata]]
            known += [] if found else [self.name, self.config, builder.hash]
        return hashlib.blake2b(json.dumps(known).encode(), digest_size=16).hexdigest()

    def num_parts(self, split: str, size: int) -> int:
        """The files that are streamed."""
        return int(self.table(split).num_shards) if self.streaming else 1

    def part(self, split: str, i: int, n: int) -> Iterator[Lines]:
        """Some of the files; of more parts than files every so manyth row of a file."""
        table = self.table(split)
        files = min(int(table.num_shards), n) if self.streaming else n
        every = n // files + (i % files < n % files)
        rows = islice(table.shard(files, i % files), i // files, None, every)
        for cells in self.cells_of(rows, split, self.wanted()):
            yield Lines(1, cells[0] if len(cells) == 1 else tuple(cells))

    @abstractmethod
    def wanted(self) -> list[str]:
        """Fields of a row, in order."""

    def cells_of(self, rows: Iterable[Any], split: str, wanted: list[str]) -> Iterator[list[str]]:
        """The wanted fields of rows, in constant memory."""
        for number, row in enumerate(rows):
            where = f"dataset {self.name!r}, split {getattr(self, split)!r}, row {number}"
            yield [member(row, field, where) for field in wanted]

    def cells(self, split: str) -> Iterator[list[str]]:
        """The wanted fields of every row."""
        return self.cells_of(self.table(split), split, self.wanted())

    def options(self) -> dict[str, Any]:
        """Names are no content."""
        known: dict[str, Any] = super().options()  # type: ignore[misc]
        places = ("name", "config", "revision", "files", "streaming")
        return {k: v for k, v in known.items() if k not in places}


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
        files: with `name` a format (json, parquet, text, csv): the files of each split, paths, patterns or addresses.
        streaming: read as the text comes, and keep nothing of it here; for `lit-lm prepare --to`.
        field: the column that holds the text; dots lead into nested columns.
    """

    field: str = "text"

    def wanted(self) -> list[str]:
        return [self.field]

    def read(self, split: str) -> Iterator[str]:
        return (cells[0] for cells in self.cells(split))


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
        files: with `name` a format (json, parquet, text, csv): the files of each split, paths, patterns or addresses.
        streaming: read as the text comes, and keep nothing of it here; for `lit-lm prepare --to`.
        source: the column of the source text; dots lead into nested columns ("translation.en").
        target: the column of the target text.
    """

    source: str = "source"
    target: str = "target"

    def wanted(self) -> list[str]:
        return [self.source, self.target]

    def read(self, split: str) -> Iterator[tuple[str, str]]:
        return ((src, tgt) for src, tgt in self.cells(split))
