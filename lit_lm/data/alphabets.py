"""Texts as bytes or as characters: tokenizers that take a few lines of numpy. Used through
`lit_lm.data.tokenizers`.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt

from lit_lm.data.tokenizer_config import SPECIALS, TokenizerConfig
from lit_lm.errors import InputError

Ids = npt.NDArray[np.uint32]


class Bytes:
    """UTF-8 bytes, shifted behind the special tokens."""

    special_ids = (0, 1, 2, 3, 4)
    vocab_size = len(SPECIALS) + 256

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        return [
            np.frombuffer(t.encode(), dtype=np.uint8).astype(np.uint32) + len(SPECIALS)
            for t in texts
        ]

    def unknown(self, text: str) -> list[str]:
        return []

    def decode(self, ids: list[int]) -> str:
        """Bytes that are no UTF-8 show as U+FFFD, special tokens by their names."""
        raw = b"".join(
            SPECIALS[i].encode() if i < len(SPECIALS) else bytes([i - len(SPECIALS)]) for i in ids
        )
        return raw.decode("utf-8", errors="replace")

    def token(self, index: int) -> str:
        return (
            SPECIALS[index] if index < len(SPECIALS) else repr(bytes([index - len(SPECIALS)]))[2:-1]
        )

    def bytes_of(self, index: int) -> bytes:
        return bytes([index - len(SPECIALS)])

    def state(self) -> dict[str, Any]:
        return {}


class Chars:
    """The characters of the training text, in code point order behind the special tokens."""

    special_ids = (0, 1, 2, 3, 4)

    def __init__(self, chars: str) -> None:
        self.chars = chars
        self.vocab_size = len(SPECIALS) + len(chars)
        self._codes = np.array([ord(c) for c in chars], dtype=np.uint32)

    @classmethod
    def train(cls, config: TokenizerConfig, texts: Iterable[str]) -> Chars:
        """The most frequent characters that `vocab_size` has room for."""
        counts: Counter[str] = Counter()
        for text in texts:
            counts.update(text.lower() if config.lowercase else text)
        known = [c for c, n in counts.items() if n >= config.min_frequency]
        room = config.vocab_size - len(SPECIALS)
        if room < 1:
            raise InputError(
                f"vocab_size={config.vocab_size} is too small for 'char': at least "
                f"{len(SPECIALS) + 1} (special tokens and one character)."
            )
        return cls("".join(sorted(sorted(known, key=lambda c: (-counts[c], c))[:room])))

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        return [self._encode(text) for text in texts]

    def _encode(self, text: str) -> Ids:
        codes = np.frombuffer(text.encode("utf-32-le"), dtype=np.uint32)
        place = np.searchsorted(self._codes, codes).clip(max=len(self._codes) - 1)
        known = self._codes[place] == codes
        return np.where(known, place + len(SPECIALS), SPECIALS.index("<unk>")).astype(np.uint32)

    def unknown(self, text: str) -> list[str]:
        unk = SPECIALS.index("<unk>")
        return [char for char, i in zip(text, self._encode(text), strict=True) if i == unk]

    def decode(self, ids: list[int]) -> str:
        return "".join(self.token(i) for i in ids)

    def token(self, index: int) -> str:
        return SPECIALS[index] if index < len(SPECIALS) else self.chars[index - len(SPECIALS)]

    def bytes_of(self, index: int) -> bytes:
        return self.token(index).encode()

    def state(self) -> dict[str, Any]:
        return {"chars": self.chars}


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokens are named (Radford et al. 2019), and their bytes: printable
    ones of Latin-1 stand for themselves, the rest are counted from U+0100.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}


BYTES = _byte_alphabet()
