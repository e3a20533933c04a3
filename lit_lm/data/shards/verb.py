"""``lit-lm prepare --to``: what is said about it."""

from __future__ import annotations

import re
from typing import Any

from lit_lm.data.modules import Data
from lit_lm.data.shards.writing import SAMPLE_BYTES, write_shards
from lit_lm.errors import InputError


def prepare_shards(
    data: Data,
    to: str,
    *,
    shards: int | None = None,
    shard: str = "1/1",
    jobs: int = 1,
    sample: int = SAMPLE_BYTES,
) -> None:
    """Writes a data module's text into shards, and prints what was read, made and left out.

    Args:
        data: its source and tokenizer count; rows and batches are the affair of who reads.
        to: see `write_shards`, as for the rest.
        shards: likewise.
        shard: "i/n".
        jobs: likewise.
        sample: likewise.

    Raises:
        InputError: see `write_shards`.
    """
    if not data.takes_shards:
        raise InputError(
            f"--to writes shards for TextData, and for MaskedTextData with `next_sentence: false`; the configuration is of "
            f"{type(data).__name__}: change it, or prepare it without --to."
        )
    found = re.fullmatch(r"(\d+)/(\d+)", shard)
    if not found:
        raise InputError(f"--shard={shard} must be i/n, as in 3/8.")
    share = (int(found[1]), int(found[2]))
    source: Any = data.source
    report = write_shards(
        source, data.tokenizer_config, to, shards=shards, share=share, jobs=jobs, sample=sample
    )
    if report is None:
        print(f"{to}: this share is written; the index will be when all others are")
    else:
        print(report)
