"""A text that tests of shards write and read."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np

from lit_lm.data import TokenizerConfig

Write = Callable[[str, str | bytes], str]
BPE = TokenizerConfig("bpe", vocab_size=300)


def text(seed: int = 0, documents: int = 300) -> str:
    """Documents of one to four lines, between one blank line or several."""
    draw = np.random.default_rng(seed)

    def line() -> str:
        return " ".join(f"w{n}é" for n in draw.integers(0, 200, draw.integers(1, 12)))

    return "".join(
        "\n".join(line() for _ in range(draw.integers(1, 5))) + "\n" * int(draw.integers(2, 4))
        for _ in range(documents)
    )
