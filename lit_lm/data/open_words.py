"""Words that a vocabulary does not hold, for networks that read characters (Peters et al. 2018, section 3.1).

They get ids behind the vocabulary, by which their characters are found. Only what is read knows such ids;
what is predicted is unk.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lit_lm.data.tokenizers import Tokenizer, spelled

Int64 = npt.NDArray[np.int64]
MOST_WORDS = 1 << 20
"""Distinct unknown words that are told apart: the bound of what they take in memory."""


class OpenWords:
    """Numbers unknown words as they come. Words whose characters are the same after cutting are one.

    Args:
        tokenizer: whose vocabulary lacks them.
        width: characters of a word, two marks included (`Tokenizer.characters`); 0 for networks that read
            ids: every unknown word is then unk.

    Attributes:
        dropped: how often a word stayed unk because `MOST_WORDS` others had come before it.
    """

    def __init__(self, tokenizer: Tokenizer, width: int) -> None:
        self._tokenizer, self._width = tokenizer, width
        self._ids: dict[bytes, int] = {}
        self.dropped = 0

    def __len__(self) -> int:
        """Distinct unknown words so far."""
        return len(self._ids)

    def number(self, words: Sequence[str]) -> Int64:
        """int64 ids of unknown words, `vocab_size` and more; unk for those there is no room for."""
        return np.array([self._number(word) for word in words], dtype=np.int64)

    def _number(self, word: str) -> int:
        if not self._width:
            return self._tokenizer.unk_id
        raw = word.encode()[: self._width - 2]
        if raw not in self._ids:
            if len(self._ids) >= MOST_WORDS:
                self.dropped += 1
                return self._tokenizer.unk_id
            self._ids[raw] = self._tokenizer.vocab_size + len(self._ids)
        return self._ids[raw]

    def encode_batch(self, texts: Sequence[str]) -> list[tuple[list[int], list[str]]]:
        """The ids to read of each text, and how each of its tokens looks."""
        tokenizer, out = self._tokenizer, []
        for ids, words in tokenizer.encode_open(texts):
            read, names = ids.astype(np.int64), [tokenizer.token(int(i)) for i in ids]
            at = np.flatnonzero(ids == tokenizer.unk_id)
            read[at] = self.number(words)
            for i, word in zip(at, words, strict=True):
                if read[i] != tokenizer.unk_id:
                    names[i] = word
            out.append((read.tolist(), names))
        return out

    def characters(self) -> npt.NDArray[np.uint16]:
        """uint16 (words, width): what a character network reads of each unknown word (`Tokenizer.characters`)."""
        out = np.zeros((len(self), self._width), dtype=np.uint16)
        for row, raw in zip(out, self._ids, strict=True):
            letters = spelled(raw, self._width)
            row[: len(letters)] = letters
        return out
