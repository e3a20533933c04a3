"""BPE that leaves out merges at random, so that training sees words in many pieces (Provilkov et al. 2020, "BPE-Dropout",
https://arxiv.org/abs/1910.13267).

The `tokenizers` library can do it too, but draws from randomness of its own, which no seed reaches: a training could not
be resumed exactly.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from itertools import pairwise

import numpy as np

from lit_lm.data.alphabets import Ids
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError

_REMEMBERED = 1 << 17


class BpeDropout:
    """Encodes texts with merges left out.

    Args:
        tokenizer: of kind "bpe" over bytes.
        rate: probability that a merge that could be made is left out, each time anew; 0 leaves none out.

    Raises:
        InputError: the tokenizer is of another kind.
    """

    def __init__(self, tokenizer: Tokenizer, rate: float) -> None:
        self.rate = rate
        rules = tokenizer.merges()
        if rules is None:
            raise InputError(
                f"bpe_dropout={rate}: the tokenizer is of kind {tokenizer.config.kind!r}, and has no merges of bytes to "
                "leave out: use kind bpe, or set bpe_dropout to 0."
            )
        self._merges, self._letters = rules.merges, rules.letters
        self._words = rules.words
        self._remembered: dict[str, list[int]] = {}

    def encode(self, text: str, seed: str) -> Ids:
        """Ids of a text.

        Args:
            text: the text.
            seed: decides which merges are left out; on every machine the same ones.

        Returns:
            uint32 ids, without special tokens.
        """
        draw = random.Random(seed).random
        out: list[int] = []
        for word in self._words(text):
            if isinstance(word, int):  # a symbol
                out.append(word)
            else:
                out += self._merged(self._spelled(word), draw)
        return np.array(out, dtype=np.uint32)

    def _spelled(self, word: str) -> list[int]:
        if word not in self._remembered:
            if len(self._remembered) >= _REMEMBERED:
                self._remembered.clear()
            self._remembered[word] = [self._letters[letter] for letter in word]
        return self._remembered[word].copy()

    def _merged(self, ids: list[int], draw: Callable[[], float]) -> list[int]:
        """Makes the first merge of those that are not left out, until none is left."""
        known, rate = self._merges.get, self.rate
        while len(ids) > 1:
            first, at = None, 0
            for i, pair in enumerate(pairwise(ids)):
                merge = known(pair)
                # Whether a later merge than the first one is left out makes no difference.
                if merge is not None and (first is None or merge < first) and draw() >= rate:
                    first, at = merge, i
            if first is None:
                break
            ids[at : at + 2] = [first[1]]
        return ids
