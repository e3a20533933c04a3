"""Shards as the source of a data module."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass, field
from functools import cached_property

import numpy as np
import numpy.typing as npt

from lit_lm.data.prepare import PrepareReport
from lit_lm.data.samplers import Index
from lit_lm.data.shards.address import Address
from lit_lm.data.shards.cache import ShardCache
from lit_lm.data.shards.manifest import TOKENIZER, Manifest, Shard
from lit_lm.data.sources import SPLITS, TextSource
from lit_lm.data.store import Int64, TokenStore
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError, check_counts, check_reals


@dataclass(frozen=True)
class Shards(TextSource):
    """Text that `lit-lm prepare --to ADDRESS` has written, with its tokenizer; read through a cache on this machine. For
    `TextData` with `rows: windows`, and for `MaskedTextData` with `next_sentence: false`.

    Args:
        address: the folder, at any address of fsspec: a path, `s3://`, `gs://`, `https://`, `hf://datasets/...`.
            Credentials and endpoints come from the environment.
        cache_bytes: most that fetched shards take on this machine, of all processes together. What is read where it
            lies takes nothing.
        mix: shards whose rows are mixed with each other in training. Twice as many are held in the cache.
        patience: seconds to wait for an address that does not answer before training gives up.
    """

    address: str
    cache_bytes: int = 2 << 30
    mix: int = 4
    patience: float = 3600.0

    def __post_init__(self) -> None:
        if self.holdout is not None:
            raise InputError(
                "data.source.holdout: shards are split already. Give `holdout` to `lit-lm prepare --to`."
            )
        check_counts(self, "cache_bytes", most=1 << 60)
        check_counts(self, "mix", most=1 << 20)
        check_reals(self, "patience")

    @cached_property
    def _address(self) -> Address:
        return Address(self.address, self.patience)

    @cached_property
    def manifest(self) -> Manifest:
        """What there is."""
        return Manifest.load(self._address)

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if split in self.manifest.splits)

    def content(self, split: str) -> str:
        return self.manifest.content

    def read(self, split: str) -> Iterator[str]:
        raise InputError(
            f"{self.address} holds ids, not text: prepare the text that they were made of."
        )

    def open(self, config: TokenizerConfig) -> PreparedShards:
        """The shards and their tokenizer.

        Raises:
            InputError: another tokenizer is asked for, or the cache is too small.
        """
        prepared = PreparedShards(self, self._address)
        have, wanted = prepared.tokenizer, config
        if config.path is not None:
            same = Tokenizer.load(config.path).state() == have.state()
        else:
            same = config == TokenizerConfig() or config.settings() == have.config.settings()
        if not same:
            raise InputError(
                f"data.tokenizer asks for {wanted}, and the shards of {self.address} are made with {have.config}: drop "
                "data.tokenizer, or prepare others."
            )
        return prepared


@dataclass
class PreparedShards:
    """What `Prepared` is for files of this machine."""

    source: Shards
    address: Address
    _stores: dict[str, ShardStore] = field(default_factory=dict)

    @cached_property
    def report(self) -> PrepareReport:
        """What was read, made and left out."""
        return self.source.manifest.report(self.source.address, 0.0, reused=True)

    @cached_property
    def tokenizer(self) -> Tokenizer:
        """The tokenizer that the shards were made with."""
        return Tokenizer.from_state(json.loads(self.address.read(TOKENIZER)))

    def store(self, split: str, stream: str) -> ShardStore:
        """The shards of a split."""
        if split not in self._stores:
            self._stores[split] = ShardStore(self.source, self.address, split)
        return self._stores[split]


class ShardStore:
    """The documents of a split, in shards.

    Args:
        source: how to read them.
        address: where they are.
        split: which of them.

    Attributes:
        shards: in order.
        content: what tells them from others.
        mix: shards whose rows are mixed.
    """

    def __init__(self, source: Shards, address: Address, split: str) -> None:
        manifest = source.manifest
        self.shards: list[Shard] = manifest.splits[split]
        self.content = f"{manifest.content} {split}"
        self.mix = source.mix
        self._dtype = manifest.dtype
        self._cache = ShardCache(address, manifest, source.cache_bytes)
        largest = max(s.size for shards in manifest.splits.values() for s in shards)
        least = (2 * source.mix + 2) * largest  # in use, read ahead, and for evaluation
        if address.local is None and source.cache_bytes < least:
            raise InputError(
                f"data.source.cache_bytes={source.cache_bytes:,} is too little for shards of up to {largest:,} bytes: "
                f"mix={source.mix} needs {least:,}. Raise it, or lower mix."
            )

    def __len__(self) -> int:
        """Number of documents."""
        return sum(shard.documents for shard in self.shards)

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, with one eos each."""
        return sum(shard.tokens for shard in self.shards)

    @property
    def num_bytes(self) -> int:
        """Raw UTF-8 bytes of all documents, with one separator each."""
        return sum(shard.bytes for shard in self.shards)

    @cached_property
    def _borders(self) -> Int64:
        return np.cumsum([shard.documents for shard in self.shards])

    def doc(self, i: int) -> npt.NDArray[np.unsignedinteger]:
        """Ids of document i, without its eos."""
        shard = int(np.searchsorted(self._borders, i, side="right"))
        return self.open(shard).doc(i - int(self._borders[shard] - self.shards[shard].documents))

    def open(self, shard: int) -> TokenStore:
        """A shard, fetched if it is not here."""
        for _ in range(3):  # another process may need its room before it is open
            try:
                return TokenStore(self._cache.stem(self.shards[shard]), self._dtype)
            except InputError as error:
                gone = error
        raise gone

    def ahead(self, shards: Index) -> None:
        """Begins to fetch shards that will be wanted soon."""
        self._cache.ahead([self.shards[shard] for shard in shards])
