"""Ids of many texts, quickly: texts repeat their words, so each is encoded once and looked up from then on.

The tokenizers that are trained here cut a text, whatever it holds, before a lone space and around a lone line end,
if no white space stands beside it: no token reaches across, and what is before the cut does not change the ids
behind it. What stands between two such cuts is called a word here, with the space before it. They also cut between
a letter or digit of ASCII and one mark that ends the word.
"""

from __future__ import annotations

import re
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from lit_lm.data.alphabets import Ids
from lit_lm.data.tokenizers import Tokenizer

Int64 = npt.NDArray[np.int64]

MOST_CHARACTERS = 1 << 21
"""Characters of words that are remembered: the bound of what they take in memory, some 50 MB. Beyond it, the half
that came first stays: the most frequent words are in it.
"""

_ALSO_SPACE = "\u180e"  # in some versions of Unicode
_BLACK = rf"[^\s{_ALSO_SPACE}]"
_CUT = re.compile(rf"(?<={_BLACK})(?=[ \n]{_BLACK})|(?<={_BLACK}\n)(?={_BLACK})")
_LINE, _END = "\n", "\n\n"  # no word of a line is like these
_MARKS = frozenset(",.;:!?")
_UNSAFE = -1
_JOINED = 256


class _Numbers(dict[str, int]):
    """Numbers of words, given as they come. Keys are what stands behind a space; a word without a space before it, at
    the start of a text or line, has a space as its key's first character.

    Attributes:
        new: the words that came since; of one with a mark behind it the numbers of both.
        count: how many numbers are given.
        characters: of all keys.
    """

    def __init__(self) -> None:
        super().__init__({_END: 0, _LINE: 1})
        self.new: list[str | tuple[int, int]] = []
        self.count, self.characters = 2, 0

    def __missing__(self, key: str) -> int:
        self.characters += len(key)
        first = key[:1] == " "
        word = key[1:] if first else key
        if not word or word != word.strip() or _ALSO_SPACE in (word[0], word[-1]):
            number = _UNSAFE
        elif word[-1] in _MARKS and len(word) > 1 and word[-2].isalnum() and word[-2].isascii():
            number = self.add((self[key[:-1]], self[f" {word[-1]}"]))
        else:
            number = self.add(word if first else f" {word}")
        self[key] = number
        return number

    def add(self, word: str | tuple[int, int]) -> int:
        """The number of a new word."""
        self.new.append(word)
        self.count += 1
        return self.count - 1


class WordIds:
    """Encodes texts word by word, with the ids that `Tokenizer.encode_batch` gives.

    Args:
        tokenizer: one that `has_words`.
    """

    def __init__(self, tokenizer: Tokenizer) -> None:
        self._tokenizer = tokenizer
        self._numbers = _Numbers()
        self._longer: dict[str, int] = {}  # what has no cut inside, but other white space
        line = tokenizer.encode_batch(["\n"])[0]
        # By number: eos, a line end, the words.
        self._ids = np.append(np.uint32(tokenizer.eos_id), line)
        self._starts, self._sizes = np.array([0, 1]), np.array([1, len(line)])

    def stream(self, texts: Sequence[str]) -> tuple[Ids, Int64]:
        """uint32 ids of all texts, each followed by eos, and int64 how many each has with it."""
        if self._numbers.characters > MOST_CHARACTERS:
            self._forget()
        keys: list[str] = []
        ends = []
        for text in texts:
            for line in text.split("\n") if "\n" in text else (text,):
                words = line.split(" ")
                words[0] = f" {words[0]}"
                keys += words
                keys.append(_LINE)
            keys[-1] = _END
            ends.append(len(keys))
        numbers = np.fromiter(map(self._numbers.__getitem__, keys), np.int64, len(keys))
        self._learn(joined=self._tokenizer.splits_bytes)
        if (numbers == _UNSAFE).any():
            numbers, ends = self._mended(texts, numbers, ends)
            self._learn(joined=False)
        ids, sizes = self._looked_up(numbers)
        return ids, np.diff(np.cumsum(sizes)[np.array(ends) - 1], prepend=0)

    def _looked_up(self, numbers: Int64) -> tuple[Ids, Int64]:
        """Ids of words, and how many each has."""
        sizes = self._sizes[numbers]
        behind = np.cumsum(sizes)
        at = np.repeat(self._starts[numbers] - behind + sizes, sizes) + np.arange(behind[-1])
        return self._ids[at], sizes

    def _mended(
        self, texts: Sequence[str], numbers: Int64, ends: list[int]
    ) -> tuple[Int64, list[int]]:
        """Cuts texts with other white space where that is safe."""
        parts = np.split(numbers, ends[:-1])
        for i, (text, part) in enumerate(zip(texts, parts, strict=True)):
            if (part == _UNSAFE).any():
                parts[i] = np.array([*map(self._number, _CUT.split(text)), 0])
        return np.concatenate(parts), np.cumsum([len(part) for part in parts]).tolist()

    def _number(self, longer: str) -> int:
        if longer not in self._longer:
            self._numbers.characters += len(longer)
            self._longer[longer] = self._numbers.add(longer)
        return self._longer[longer]

    def _learn(self, *, joined: bool) -> None:
        """Encodes the words that are new; many at once where a line end between them is always a token of its own."""
        new, self._numbers.new = self._numbers.new, []
        marked = np.array([type(word) is tuple for word in new], dtype=bool)
        self._starts, self._sizes = (
            np.append(known, np.zeros(len(new), np.int64)) for known in (self._starts, self._sizes)
        )
        old = len(self._sizes) - len(new)
        if words := [word for word in new if isinstance(word, str)]:
            self._keep(old + np.flatnonzero(~marked), *self._encoded(words, joined))
        if pairs := [word for word in new if not isinstance(word, str)]:
            ids, sizes = self._looked_up(np.array(pairs).ravel())
            self._keep(old + np.flatnonzero(marked), ids, sizes.reshape(-1, 2).sum(1))

    def _keep(self, numbers: Int64, ids: Ids, sizes: Int64) -> None:
        self._starts[numbers] = len(self._ids) + np.cumsum(sizes) - sizes
        self._sizes[numbers] = sizes
        self._ids = np.append(self._ids, ids)

    def _encoded(self, words: list[str], joined: bool) -> tuple[Ids, Int64]:
        """Ids of words, and how many each has."""
        if joined:
            parts = (words[at : at + _JOINED] for at in range(0, len(words), _JOINED))
            found = self._tokenizer.encode_batch(["\n".join([*part, ""]) for part in parts])
            ids = np.concatenate(found)
            ends = ids == self._ids[1]
            return ids[~ends], np.diff(np.flatnonzero(ends), prepend=-1) - 1
        found = self._tokenizer.encode_batch(words)
        return np.concatenate(found), np.array([len(ids) for ids in found])

    def _forget(self) -> None:
        """Keeps the first half of the words."""
        half = len(self._sizes) // 2
        numbers = _Numbers()
        numbers |= {key: n for key, n in self._numbers.items() if _UNSAFE < n < half}
        self._longer = {word: n for word, n in self._longer.items() if n < half}
        numbers.count = half
        numbers.characters = sum(map(len, numbers)) + sum(map(len, self._longer))
        self._numbers = numbers
        everything = np.arange(half)
        self._ids, self._sizes = self._looked_up(everything)
        self._starts = np.cumsum(self._sizes) - self._sizes
