"""How BPE over bytes puts words together, for whoever does it in another way than the `tokenizers` library."""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator
from typing import NamedTuple

import tokenizers as lib
from tokenizers import decoders

from lit_lm.data.alphabets import BYTES


class Words:
    """Cuts texts into words, spelled in the characters that name bytes, and the ids of symbols between them.

    Args:
        core: the library's tokenizer.
        symbols: ids by their names.
    """

    def __init__(self, core: lib.Tokenizer, symbols: dict[str, int]) -> None:
        self._core, self._symbols, self._pattern = core, symbols, any_of(symbols)

    def __call__(self, text: str) -> Iterator[str | int]:
        begin = 0
        for found in (*self._pattern.finditer(text), None):
            part = text[begin : None if found is None else found.start()]
            if self._core.normalizer is not None:
                part = self._core.normalizer.normalize_str(part)
            yield from (word for word, _ in self._core.pre_tokenizer.pre_tokenize_str(part))
            if found is not None:
                yield self._symbols[found[0]]
                begin = found.end()


def any_of(symbols: Iterable[str]) -> re.Pattern[str]:
    """Finds symbols; where several begin the longest, as the library does."""
    ordered = sorted(symbols, key=len, reverse=True)
    return re.compile("|".join(map(re.escape, ordered)) or "(?!)")


class Merges(NamedTuple):
    """How BPE over bytes puts words together.

    Args:
        merges: of two ids that can be merged, the merge's rank (low ones come first) and what they become.
        letters: the ids of single bytes, by the characters that name them.
        words: cuts a text into words in those characters.
    """

    merges: dict[tuple[int, int], tuple[int, int]]
    letters: dict[str, int]
    words: Words


def merges_of(core: lib.Tokenizer) -> Merges | None:
    """The merges of a tokenizer of the library, if it is BPE over bytes."""
    content = json.loads(core.to_str())
    model, vocab = content["model"], core.get_vocab(with_added_tokens=False)
    alphabet = isinstance(core.decoder, decoders.ByteLevel) and BYTES.keys() <= vocab.keys()
    # Others take whole words from the vocabulary, whatever the merges say, or mark where words begin or end.
    special = ("ignore_merges", "end_of_word_suffix", "continuing_subword_prefix")
    cuts = core.pre_tokenizer is not None
    if (
        content["model"]["type"] != "BPE"
        or not alphabet
        or not cuts
        or any(map(model.get, special))
    ):
        return None
    merges = {
        (vocab[a], vocab[b]): (rank, vocab[a + b]) for rank, (a, b) in enumerate(model["merges"])
    }
    added = [one for one in content["added_tokens"] if not one["special"]]
    symbols = {one["content"]: int(one["id"]) for one in added}
    letters = {letter: vocab[letter] for letter in BYTES}
    return Merges(merges, letters, Words(core, symbols))
