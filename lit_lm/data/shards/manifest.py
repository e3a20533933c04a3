"""What lies at an address of shards: `index.json`, and one entry for each part of the input.

Beside them: `plan.json` (what the shards are made of), `tokenizer.json`, and for each shard its `.ids`, `.offsets` and
`.bytes`, as `TokenStore` has them.
"""

from __future__ import annotations

import hashlib
import json
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from lit_lm.data.account import InputReport
from lit_lm.data.prepare import PrepareReport, SplitReport
from lit_lm.data.shards.address import Address
from lit_lm.errors import InputError

FORMAT = 1
INDEX, PLAN, TOKENIZER = "index.json", "plan.json", "tokenizer.json"
ENDINGS = (".ids", ".offsets", ".bytes")
_BLOCK = 1 << 20
_NAME, _DIGEST = re.compile(r"(train|val|test)-\d{5}-of-\d{5}"), re.compile(r"[0-9a-f]{32}")
_DTYPES = ("uint8", "uint16", "uint32")


@dataclass(frozen=True)
class Shard:
    """Some documents of a split.

    Args:
        name: its files' names without their endings.
        documents: how many.
        tokens: with one eos for each document.
        bytes: raw UTF-8, with one separator for each document.
        unknown: tokens that the vocabulary does not hold.
        size: bytes of its files together.
        digest: of its files' contents.
    """

    name: str
    documents: int
    tokens: int
    bytes: int
    unknown: int
    size: int
    digest: str


@dataclass(frozen=True)
class Entry:
    """What became of one part of the input.

    Args:
        shards: by split; more than one where text is held out, none where the part holds no text.
        skipped: empty documents that were left out.
        used: lines (of sources without lines: documents) that are used.
        left: the others, by reason.
    """

    shards: dict[str, Shard]
    skipped: int
    used: int
    left: dict[str, int] = field(default_factory=dict)

    @classmethod
    def of(cls, content: dict[str, Any]) -> Entry:
        """From plain types."""
        shards = {split: Shard(**shard) for split, shard in content["shards"].items()}
        return cls(**{**content, "shards": shards})


@dataclass(frozen=True)
class Manifest:
    """All shards of an address.

    Args:
        source: class of the source.
        tokenizer: the tokenizer's kind.
        vocab_size: ids, special tokens included.
        dtype: type of an id.
        content: digest of the tokenizer and all shards.
        skipped: empty documents that were left out, by split of the input.
        inputs: what became of the input's lines, by split of the input.
        splits: shards in order, by split.
    """

    source: str
    tokenizer: str
    vocab_size: int
    dtype: str
    content: str
    skipped: dict[str, int]
    inputs: dict[str, dict[str, Any]]
    splits: dict[str, list[Shard]]

    @classmethod
    def load(cls, address: Address) -> Manifest:
        """From `index.json`.

        Raises:
            InputError: there is none, it is of another version, or it cannot be read.
        """
        raw = address.read(INDEX)
        try:
            content = json.loads(raw)
            version = content.pop("format")
            splits = {s: [Shard(**shard) for shard in its] for s, its in content["splits"].items()}
            found = cls(**{**content, "splits": splits})
            found._check()
        except (ValueError, TypeError, KeyError, AttributeError) as error:
            raise InputError(
                f"{address.url}/{INDEX} is not what `lit-lm prepare --to` writes ({error!r})."
            ) from None
        if version != FORMAT:
            raise InputError(
                f"{address.url} holds shards of format {version}, and format {FORMAT} is wanted: prepare them again."
            )
        return found

    def _check(self) -> None:
        """Raises ValueError if what becomes paths or types here is not what we write: an address may be anybody's."""
        names = [shard.name for shards in self.splits.values() for shard in shards]
        bad = [name for name in names if not _NAME.fullmatch(name)]
        if bad or not _DIGEST.fullmatch(self.content) or self.dtype not in _DTYPES:
            raise ValueError(f"names {bad[:1]}, content {self.content!r}, dtype {self.dtype!r}")

    def save(self, address: Address) -> None:
        """Writes `index.json`."""
        address.put_json({"format": FORMAT, **asdict(self)}, INDEX)

    def report(self, folder: str, seconds: float, *, reused: bool) -> PrepareReport:
        """What was read, made and left out."""
        return PrepareReport(
            source=self.source,
            tokenizer=self.tokenizer,
            vocab_size=self.vocab_size,
            dtype=self.dtype,
            folder=folder,
            seconds=seconds,
            reused=reused,
            splits={
                split: SplitReport(
                    documents=sum(shard.documents for shard in shards),
                    skipped=self.skipped.get(split, 0),
                    tokens={"text": sum(shard.tokens for shard in shards)},
                    bytes={"text": sum(shard.bytes for shard in shards)},
                    unknown={"text": sum(shard.unknown for shard in shards)},
                )
                for split, shards in self.splits.items()
            },
            inputs={split: InputReport(**its) for split, its in self.inputs.items()},
        )


def digest_of(parts: Iterable[bytes]) -> str:
    """Hexadecimal digest of parts as if they were one."""
    digest = hashlib.blake2b(digest_size=16)
    for part in parts:
        digest.update(part)
    return digest.hexdigest()


def digest_of_files(files: Sequence[Path]) -> str:
    """Digest of files' contents as if they were one."""

    def blocks() -> Iterator[bytes]:
        for file in files:
            with file.open("rb") as stream:
                while block := stream.read(_BLOCK):
                    yield block

    return digest_of(blocks())


def content_of(tokenizer: bytes, splits: Mapping[str, Sequence[Shard]]) -> str:
    """The digest that tells shards from others: of the tokenizer, and of every shard's name and content."""
    names = [[s, shard.name, shard.digest] for s in sorted(splits) for shard in splits[s]]
    return digest_of([tokenizer, json.dumps(names).encode()])
