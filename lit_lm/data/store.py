"""Token ids on disk: one flat memory-mapped file per text, with the borders and raw bytes of its
documents.
"""

from __future__ import annotations

from collections.abc import Sequence
from functools import cached_property
from pathlib import Path
from types import TracebackType
from typing import Any, BinaryIO

import numpy as np
import numpy.typing as npt

from lit_lm.data.alphabets import Ids
from lit_lm.data.open_words import OpenWords
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.data.word_ids import WordIds
from lit_lm.errors import InputError

Int64 = npt.NDArray[np.int64]


def smallest_dtype(vocab_size: int) -> np.dtype[Any]:
    """The smallest unsigned type that holds every id: uint8, uint16 or uint32."""
    return np.dtype(np.min_scalar_type(max(vocab_size - 1, 0)))


class TokenStore:
    """Reader of the documents of one split, memory-mapped; cheap to copy to data workers.

    Every document is followed by one eos; `offsets` count it, and its byte is the separator of the
    raw text.

    Args:
        stem: path of the files without their endings.
        dtype: type of an id on disk.
        characters: characters of a word, if the store was written with those of unknown words; else 0.

    Attributes:
        tokens: ids of all documents, each followed by eos, as one stream.
        offsets: int64 (documents + 1): where each document starts in `tokens`.
        byte_offsets: int64 (documents + 1): where each document starts in the raw UTF-8 text.
    """

    def __init__(self, stem: Path, dtype: str, characters: int = 0) -> None:
        self._stem, self._dtype, self._width = stem, dtype, characters
        self.tokens = self._map(".ids", np.dtype(dtype))
        self.offsets: Int64 = self._map(".offsets", np.dtype(np.int64))
        self.byte_offsets: Int64 = self._map(".bytes", np.dtype(np.int64))
        if len(self.tokens) != self.offsets[-1] or len(self.offsets) != len(self.byte_offsets):
            raise InputError(
                f"{stem}.*: the prepared files do not fit together. "
                f"Delete {stem.parent} and run again."
            )

    def _map(self, ending: str, dtype: np.dtype[Any]) -> npt.NDArray[Any]:
        path = self._stem.parent / (self._stem.name + ending)
        try:
            return np.memmap(path, dtype=dtype, mode="r")
        except (OSError, ValueError) as error:
            raise InputError(f"{path}: {error}. Delete {path.parent} and run again.") from None

    def __reduce__(self) -> tuple[Any, ...]:
        return TokenStore, (self._stem, self._dtype, self._width)

    def __len__(self) -> int:
        """Number of documents."""
        return len(self.offsets) - 1

    @cached_property
    def sentences(self) -> Int64:
        """int64 (texts + 1): where each text starts, when the documents of this store are its sentences."""
        return self._map(".sentences", np.dtype(np.int64))

    @cached_property
    def characters(self) -> npt.NDArray[np.uint16] | None:
        """uint16 (ids, characters): what a character network reads of each id of `read_ids`, where unknown
        words are kept.
        """
        return (
            self._map(".chars", np.dtype(np.uint16)).reshape(-1, self._width)
            if self._width
            else None
        )

    @cached_property
    def _unknown(self) -> tuple[Int64, npt.NDArray[np.uint32]]:
        """Where in the stream unknown words stand, and their ids."""
        return self._map(".unknown", np.dtype(np.int64)), self._map(".open", np.dtype(np.uint32))

    def read_ids(self, start: int, stop: int) -> Int64:
        """int64 ids of a stretch of the stream as a character network reads them: an unknown word has
        an id of its own, not below `vocab_size` (`OpenWords`), where unknown words are kept.
        """
        ids = self.tokens[start:stop].astype(np.int64)
        if self._width:
            at, words = self._unknown
            first, end = np.searchsorted(at, (start, stop))
            ids[at[first:end] - start] = words[first:end]
        return ids

    @property
    def num_tokens(self) -> int:
        """Tokens of all documents, with one eos each."""
        return int(self.offsets[-1])

    @property
    def num_bytes(self) -> int:
        """Raw UTF-8 bytes of all documents, with one separator each."""
        return int(self.byte_offsets[-1])

    @property
    def lengths(self) -> Int64:
        """Tokens of each document, its eos included."""
        return np.diff(self.offsets)

    def doc(self, i: int) -> npt.NDArray[Any]:
        """Ids of document i, without its eos."""
        return self.tokens[self.offsets[i] : self.offsets[i + 1] - 1]

    def text(self, i: int) -> str:
        """Raw text of document i, if it was kept.

        Raises:
            InputError: only pairs keep their raw text.
        """
        path = self._stem.parent / (self._stem.name + ".txt")
        begin, end = int(self.byte_offsets[i]), int(self.byte_offsets[i + 1])
        try:
            with path.open("rb") as stream:
                stream.seek(begin)
                return stream.read(end - begin - 1).decode()
        except FileNotFoundError:
            raise InputError(f"{path}: the raw text was not kept.") from None

    def bytes_before(self, positions: int | npt.ArrayLike) -> Int64:
        """Raw bytes that the tokens before each stream position stand for.

        Linear between the borders of a document and exact at them, so that sums over any partition
        are exact.
        """
        at = np.asarray(positions, dtype=np.int64)
        doc = np.minimum(np.searchsorted(self.offsets, at, side="right") - 1, len(self) - 1)
        start, base = self.offsets[doc], self.byte_offsets[doc]
        inside = (
            (at - start) * (self.byte_offsets[doc + 1] - base) // (self.offsets[doc + 1] - start)
        )
        return np.asarray(base + inside, dtype=np.int64)


class StoreWriter:
    """Writes what `TokenStore` reads, in constant memory (and what `MOST_WORDS` unknown words take).

    Args:
        stem: path of the files without their endings.
        dtype: type of an id on disk.
        tokenizer: whose eos is put behind every document, and whose unknown tokens are counted.
        keep_text: keep the raw text too.
        characters: characters of a word to keep of unknown words; 0 to keep none.
        by_word: what it encodes with; one of its own, if the tokenizer has words, where None is given.
    """

    def __init__(
        self,
        stem: Path,
        dtype: np.dtype[Any],
        tokenizer: Tokenizer,
        *,
        keep_text: bool,
        characters: int = 0,
        by_word: WordIds | None = None,
    ) -> None:
        self._dtype = dtype
        self._tokenizer = tokenizer
        self._by_word = by_word
        if by_word is None and tokenizer.has_words:
            self._by_word = WordIds(tokenizer)
        self.words = OpenWords(tokenizer, characters) if characters else None
        endings = [".ids", ".offsets", ".bytes", *([".txt"] if keep_text else [])]
        endings += [".unknown", ".open", ".chars"] if characters else []
        self._files: dict[str, BinaryIO] = {
            e: (stem.parent / (stem.name + e)).open("wb") for e in endings
        }
        self.documents = self.tokens = self.bytes = self.unknown = 0
        self._files[".offsets"].write(np.zeros(1, np.int64).tobytes())
        self._files[".bytes"].write(np.zeros(1, np.int64).tobytes())
        if characters:  # empty files cannot be mapped: an entry that stands before the text
            self._files[".unknown"].write(np.full(1, -1, np.int64).tobytes())
            self._files[".open"].write(np.zeros(1, np.uint32).tobytes())
            known = tokenizer.characters(characters).astype(np.uint16)
            self._files[".chars"].write(known.tobytes())

    def __enter__(self) -> StoreWriter:
        return self

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        if self.words is not None and error is None:
            self._files[".chars"].write(self.words.characters().tobytes())
        for stream in self._files.values():
            stream.close()

    def write(self, texts: Sequence[str]) -> None:
        """Append documents."""
        ids, sizes = self._encode(texts)
        self._files[".ids"].write(ids.astype(self._dtype).data)
        raw = np.array([len(t if t.isascii() else t.encode()) + 1 for t in texts], dtype=np.int64)
        self._files[".offsets"].write((self.tokens + np.cumsum(sizes)).data)
        self._files[".bytes"].write((self.bytes + np.cumsum(raw)).data)
        if ".txt" in self._files:
            self._files[".txt"].write("".join(f"{text}\n" for text in texts).encode())
        self.unknown += self._count_unknown(ids, texts, sizes)
        self.documents += len(texts)
        self.tokens += len(ids)
        self.bytes += int(raw.sum())

    def _encode(self, texts: Sequence[str]) -> tuple[Ids, Int64]:
        """Ids of documents, each followed by eos, and how many each has."""
        if self._by_word is not None:
            return self._by_word.stream(texts)
        found = self._tokenizer.encode_batch(texts)
        eos = np.array([self._tokenizer.eos_id], dtype=np.uint32)
        sizes = np.array([len(ids) + 1 for ids in found], dtype=np.int64)
        return np.concatenate([part for ids in found for part in (ids, eos)]), sizes

    def _count_unknown(self, ids: Ids, texts: Sequence[str], sizes: Int64) -> int:
        """How many there are; keeps what they are, where that is wanted."""
        at = np.flatnonzero(ids == self._tokenizer.unk_id)
        if (
            self._tokenizer.unk_id == self._tokenizer.eos_id
        ):  # made elsewhere, without a token for it
            at = np.setdiff1d(at, np.cumsum(sizes) - 1)
        if self.words is not None and len(at):
            self._files[".unknown"].write((self.tokens + at).data)
            inside = np.unique(np.searchsorted(np.cumsum(sizes), at, side="right")).tolist()
            words = [word for i in inside for word in self._tokenizer.unknown(texts[i])]
            self._files[".open"].write(self.words.number(words).astype(np.uint32).data)
        return len(at)
