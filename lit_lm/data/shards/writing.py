"""`lit-lm prepare --to`: any source of running text to shards, in parallel, on any number of machines, once.

The input falls into parts, and part i of n becomes shard i of n: what is in it depends on that part alone, so that any
process on any machine can write it. Files are written under the names that they keep, and last of all an entry that lists
them: a shard is done when its entry is there. Whoever finds all entries writes the index.
"""

from __future__ import annotations

import json
import logging
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any

from lit_lm.data.prepare import PrepareReport, with_symbols
from lit_lm.data.shards.address import Address
from lit_lm.data.shards.manifest import (
    FORMAT,
    INDEX,
    PLAN,
    TOKENIZER,
    Entry,
    Manifest,
    Shard,
    content_of,
)
from lit_lm.data.shards.parts import Job, Part, write_parts
from lit_lm.data.sources import TextSource
from lit_lm.data.store import smallest_dtype
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError

PART_BYTES = 128 << 20
"""Input of a shard: some 64 MiB of ids, of two bytes for about four bytes of text."""

SAMPLE_BYTES = 128 << 20
"""Characters of training text that a tokenizer is trained on, taken from up to 64 parts."""

_SAMPLED_PARTS = 64
_MOST_SHARDS = 99_999
_log = logging.getLogger("lightning.pytorch.lit_lm")


def write_shards(
    source: TextSource,
    config: TokenizerConfig,
    to: str,
    *,
    shards: int | None = None,
    share: tuple[int, int] = (1, 1),
    jobs: int = 1,
    sample: int = SAMPLE_BYTES,
    patience: float = 3600.0,
) -> PrepareReport | None:
    """Writes the shards that are not there yet.

    Safe to call from any number of processes and machines; one that was killed is called again. The same source, settings
    and number of shards give the same bytes, whoever wrote which shard.

    Args:
        source: where the text comes from.
        config: which tokenizer to load, or to train on a sample of the training text.
        to: the address of a folder.
        shards: into how many the training text goes; other splits get as many as their size asks for. Without it one
            for every 128 MiB of text, or for every file that is streamed.
        share: (i, n): only every n-th shard, from the i-th on (from 1).
        jobs: processes that write.
        sample: characters to train the tokenizer on; no more text than that is all used.
        patience: seconds to wait for an address that does not answer.

    Returns:
        What there is now; None while shards of other shares are missing.

    Raises:
        InputError: something about the text, the tokenizer or the address is wrong, or other shards lie there.
    """
    begin = time.perf_counter()
    _check(source, shards, share, jobs, sample)
    address = Address(to, patience)
    parts = _parts(source, shards)
    names = address.names()
    config = with_symbols(config, source.symbols)
    given = None if config.path is None else Tokenizer.load(config.path)
    config = config if given is None else given.config
    # Before there is a tokenizer: whoever is stopped in between leaves none to others.
    _settle_plan(_plan(source, config, parts), address, names)
    if TOKENIZER in names:
        raw = address.read(TOKENIZER)
        if given is not None and raw != _bytes_of(given):
            raise InputError(
                f"{address.url} holds shards of another tokenizer: give another address, or empty that one."
            )
    else:
        raw = _bytes_of(given or Tokenizer.train(config, _Sample(source, parts, sample)))
        address.put(raw, TOKENIZER)

    if INDEX in names:
        return Manifest.load(address).report(to, time.perf_counter() - begin, reused=True)
    mine = parts[share[0] - 1 :: share[1]]
    todo = [part for part in mine if part.entry not in names]
    if len(todo) < len(mine):
        _log.info("%s holds %d of %d shards already.", to, len(mine) - len(todo), len(mine))
    write_parts(Job(source, address, raw), todo, jobs)
    names = address.names()
    if missing := [part.entry for part in parts if part.entry not in names]:
        _log.info("%d of %d shards are not there yet.", len(missing), len(parts))
        return None
    manifest = _index(source, address, raw, parts)
    manifest.save(address)
    return manifest.report(to, time.perf_counter() - begin, reused=False)


def _check(
    source: TextSource, shards: int | None, share: tuple[int, int], jobs: int, sample: int
) -> None:
    if not isinstance(source, TextSource):
        raise InputError(
            f"--to writes running text, and {type(source).__name__} gives pairs: prepare them without it."
        )
    if source.holdout is not None:
        source.split_of("")  # refuses what shards cannot hold out
    source.actual("val")
    if shards is not None and not 1 <= shards <= _MOST_SHARDS:
        raise InputError(f"--shards={shards} must be at least 1 and at most {_MOST_SHARDS:,}.")
    if not 1 <= share[0] <= share[1]:
        raise InputError(f"--shard={share[0]}/{share[1]} must be i/n with i from 1 to n.")
    if not 1 <= jobs <= 1024:
        raise InputError(f"--jobs={jobs} must be at least 1 and at most 1,024.")
    if sample < 1:
        raise InputError(f"--sample={sample} must be at least 1 character.")


def _parts(source: TextSource, shards: int | None) -> list[Part]:
    parts = []
    for split in source.given():
        count = source.num_parts(split, PART_BYTES)
        if split == "train" and shards is not None:
            count = shards
        if count > _MOST_SHARDS:
            raise InputError(
                f"`{split}` would take {count:,} shards, and {_MOST_SHARDS:,} are the most: ask for fewer with --shards."
            )
        parts += [Part(split, i, count) for i in range(count)]
    return parts


def _plan(source: TextSource, config: TokenizerConfig, parts: Sequence[Part]) -> dict[str, Any]:
    """All that decides the shards, but for the tokenizer's own training."""
    plan = {
        "format": FORMAT,
        "source": [type(source).__name__, source.options()],
        "text": {split: source.inputs(split) for split in source.given()},
        "shards": dict(Counter(part.split for part in parts)),
        "tokenizer": config.settings(),
    }
    found: dict[str, Any] = json.loads(json.dumps(plan))
    return found


def _settle_plan(plan: dict[str, Any], address: Address, names: set[str]) -> None:
    """Two that write at once write the same.

    Raises:
        InputError: the shards there are made of something else.
    """
    if PLAN not in names:
        address.put_json(plan, PLAN)
        return
    there = json.loads(address.read(PLAN))
    if changed := sorted(key for key in {*plan, *there} if plan.get(key) != there.get(key)):
        key = changed[0]
        raise InputError(
            f"{address.url} holds shards of another preparation ({', '.join(changed)} differ; {key} was "
            f"{str(there.get(key))[:200]} and is {str(plan.get(key))[:200]}): give another address, or empty that one."
        )


def _bytes_of(tokenizer: Tokenizer) -> bytes:
    return json.dumps(tokenizer.state(), ensure_ascii=False).encode()


class _Sample:
    """The beginnings of some parts of the training text, evenly spread over it, as often as asked for."""

    def __init__(self, source: TextSource, parts: Sequence[Part], most: int) -> None:
        train = [part for part in parts if part.split == "train"]
        count = min(len(train), _SAMPLED_PARTS)
        self._source, self._most = source, -(-most // count)
        self._parts = [train[i * len(train) // count] for i in range(count)]

    def __iter__(self) -> Iterator[str]:
        for part in self._parts:
            left = self._most
            for found in self._source.part(part.split, part.index, part.count):
                if found.item is None or self._source.split_of(found.item) != "train":
                    continue
                yield found.item[:left]
                left -= len(found.item)
                if left <= 0:
                    break


def _index(
    source: TextSource, address: Address, tokenizer: bytes, parts: Sequence[Part]
) -> Manifest:
    """All entries together.

    Raises:
        InputError: a split holds no text.
    """
    made = Tokenizer.from_state(json.loads(tokenizer))
    splits: dict[str, list[Shard]] = {}
    skipped, used, left = Counter[str](), Counter[str](), dict[str, Counter[str]]()
    entries = address.read_all([part.entry for part in parts])
    for part, entry in zip(parts, map(Entry.of, map(json.loads, entries)), strict=True):
        for split, shard in entry.shards.items():
            splits.setdefault(split, []).append(shard)
        skipped[part.split] += entry.skipped
        used[part.split] += entry.used
        left.setdefault(part.split, Counter()).update(entry.left)
    held_out = [split for split in ("val", "test") if source.holds_out(split)]
    for split in (*source.given(), *held_out):
        if split not in splits:
            raise InputError(
                f"{type(source).__name__}: `{split}` holds no text ({skipped[split]} empty ones skipped)."
            )
    return Manifest(
        source=type(source).__name__,
        tokenizer=made.config.kind,
        vocab_size=made.vocab_size,
        dtype=smallest_dtype(made.vocab_size).name,
        content=content_of(tokenizer, splits),
        skipped=dict(skipped),
        inputs={
            split: {
                "lines": used[split] + left[split].total(),
                "used": used[split],
                "left": dict(left[split]),
            }
            for split in source.given()
        },
        splits=splits,
    )
