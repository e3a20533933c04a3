"""Tokenizers: text to ids and back, one class over six algorithms.

Byte and character tokenizers are a few lines of numpy (`alphabets.py`); the rest stands on the `tokenizers`
library (`subwords.py`).
The first ids are always `<pad> <bos> <eos> <unk> <mask>` (0 to 4) for tokenizers trained here. A
tokenizer also owns the forms of input that networks read: rows of one or two segments, characters.
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import replace
from functools import cached_property
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from lit_lm import checkpoints
from lit_lm.data import vocabularies
from lit_lm.data.alphabets import Bytes, Chars, Ids
from lit_lm.data.merges import Merges
from lit_lm.data.subwords import Subwords, library_tokenizer, parallel
from lit_lm.data.tokenizer_config import SPECIALS, TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.specs import MASK, DataSpec

_LONG = 1 << 20
_SAFE_CUT = re.compile(r"\S\n(?=\S)")


class Tokenizer:
    """Text to ids and back. Make one with `train`, `load` or `from_state`.

    Attributes:
        config: what it was trained as.
        pad_id, bos_id, eos_id, unk_id, mask_id: ids of the special tokens; text never encodes to any
            but `unk_id`. A `tokenizer.json` from elsewhere may have no mask: then `mask_id` is -1.
    """

    def __init__(self, config: TokenizerConfig, model: Bytes | Chars | Subwords) -> None:
        self.config = config
        self._model = model
        self._characters: dict[int, npt.NDArray[np.int64]] = {}
        self.pad_id, self.bos_id, self.eos_id, self.unk_id, self.mask_id = model.special_ids

    @classmethod
    def train(cls, config: TokenizerConfig, texts: Iterable[str]) -> Tokenizer:
        """Train on texts, in memory that does not grow with their number. Deterministic.

        Args:
            config: what to train.
            texts: training texts; "wordpiece" reads them twice, and so keeps those of an iterator.

        Raises:
            InputError: `vocab_size` is too small for the kind, or `min_frequency` leaves nothing.
        """
        if config.path is not None:
            return cls.load(config.path)
        if config.kind == "byte":
            return cls(config, Bytes())
        if config.kind == "char":
            model: Chars | Subwords = Chars.train(config, texts)
        else:
            with parallel():
                model = Subwords.train(config, texts)
        if model.vocab_size <= len(SPECIALS):
            raise InputError(
                f"tokenizer: nothing in the training text is as frequent as min_frequency={config.min_frequency}: "
                "the vocabulary would be empty. Lower it."
            )
        return cls(config, model)

    @property
    def vocab_size(self) -> int:
        """Number of ids, special tokens included."""
        return self._model.vocab_size

    def encode(self, text: str) -> list[int]:
        """Ids of a text; no special tokens are added, and none is read out of the text."""
        return self.encode_batch([text])[0].tolist()  # type: ignore[no-any-return]

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of several texts as uint32 arrays; on several threads where the algorithm permits."""
        texts = [text.lower() for text in texts] if self._folds else texts
        if not isinstance(self._model, Subwords):
            return self._model.encode_batch(texts)
        with parallel():
            if self._model.cuts_at_lines and any(len(text) > 2 * _LONG for text in texts):
                parts = (
                    [self._model.encode_batch([part])[0] for part in pieces(text)] for text in texts
                )
                return [np.concatenate(part) for part in parts]
            return self._model.encode_batch(texts)

    @property
    def has_words(self) -> bool:
        """Whether texts fall into words whose ids do not depend on the others (`word_ids.py`)."""
        return isinstance(self._model, Subwords) and self._model.cuts_at_lines

    @property
    def splits_bytes(self) -> bool:
        """Whether it is of subwords over bytes, trained here: every byte has an id, and a lone line end is one."""
        return self.has_words and self.config.kind in ("bpe", "unigram")

    def merges(self) -> Merges | None:
        """How words are put together, if this is BPE over bytes."""
        return self._model.merges() if isinstance(self._model, Subwords) else None

    def encode_open(self, texts: Sequence[str]) -> list[tuple[Ids, list[str]]]:
        """Ids of several texts, and for every unk among them, in order, what stands there: for networks
        that read characters.
        """
        found = self.encode_batch(texts)
        return [
            (ids, self.unknown(text) if (ids == self.unk_id).any() else [])
            for ids, text in zip(found, texts, strict=True)
        ]

    def unknown(self, text: str) -> list[str]:
        """What stands where the text's ids are unk, in order."""
        text = text.lower() if self._folds else text
        cuts = isinstance(self._model, Subwords) and self._model.cuts_at_lines
        return [w for part in (pieces(text) if cuts else [text]) for w in self._model.unknown(part)]

    @property
    def _folds(self) -> bool:
        return self.config.lowercase and not isinstance(self._model, Subwords)

    def decode(self, ids: Iterable[int], *, skip_special: bool = True) -> str:
        """Text of ids. pad, bos and eos vanish unless `skip_special` is False; unk shows as
        "<unk>".

        Raises:
            InputError: an id is not in the vocabulary.
        """
        numbers = [int(i) for i in ids]
        if bad := [i for i in numbers if not 0 <= i < self.vocab_size]:
            raise InputError(f"id {bad[0]} is not in the vocabulary of {self.vocab_size} ids.")
        if skip_special:
            silent = {self.pad_id, self.bos_id, self.eos_id}
            numbers = [i for i in numbers if i not in silent]
        return self._model.decode(numbers)

    def token(self, index: int) -> str:
        """How an id looks on its own, for tables and plots."""
        return self._model.token(index)

    def frame(
        self, first: Sequence[int], second: Sequence[int] | None = None
    ) -> tuple[list[int], list[int]]:
        """One or two texts as a row of BERT's (Devlin et al. 2019, section 3): bos stands for [CLS],
        eos for [SEP].

        Args:
            first: ids of a text.
            second: ids of another.

        Returns:
            The row, and the segment of each of its positions: 0 up to the first eos, then 1.
        """
        ids = [self.bos_id, *first, self.eos_id]
        segments = [0] * len(ids)
        if second is not None:
            ids += [*second, self.eos_id]
            segments += [1] * (len(second) + 1)
        return ids, segments

    def encode_masked(self, text: str) -> list[int]:
        """Ids of a text in which `<mask>` stands for words to be filled in.

        Raises:
            InputError: the tokenizer has no mask.
        """
        if self.mask_id < 0:
            raise InputError(
                "this tokenizer has no mask token ([MASK] or <mask>): it cannot fill gaps."
            )
        ids: list[int] = []
        parts = text.split(MASK)
        for i, part in enumerate(parts):
            # A space before a word belongs to the word's first token, so to what is masked.
            before_mask = i < len(parts) - 1 and self.config.kind not in ("byte", "char")
            ids += [self.mask_id] if i else []
            ids += self.encode(part.removesuffix(" ") if before_mask else part)
        return ids

    @cached_property
    def inner(self) -> tuple[npt.NDArray[np.bool_], npt.NDArray[np.bool_]]:
        """Which tokens go on a word, and which leave it open, bool (vocab_size) each: a token belongs to
        the word of the token before it if that one leaves its word open and it goes on.
        """
        ids = range(self.vocab_size)
        kind = self.config.kind
        if kind == "word":
            none = np.zeros(len(ids), dtype=bool)
            return none, none
        if kind == "wordpiece":
            return np.array([self.token(i).startswith("##") for i in ids]), np.ones(len(ids), bool)
        special = set(self.special_ids)
        texts = [b"" if i in special else self._model.bytes_of(i) for i in ids]
        # Bytes that are only part of a character, U+FFFD here, count as a letter's.
        names = [text.decode(errors="replace").replace("\ufffd", "x") for text in texts]
        goes_on = [name[:1].isalnum() for name in names]
        open_end = [name[-1:].isalnum() for name in names]
        return np.array(goes_on), np.array(open_end)

    @property
    def special_ids(self) -> list[int]:
        """Ids that stand for no text."""
        ids = (self.pad_id, self.bos_id, self.eos_id, self.unk_id, self.mask_id)
        return sorted({i for i in ids if i >= 0})

    def characters(self, width: int) -> npt.NDArray[np.int64]:
        """What a character network reads of each token (Peters et al. 2018, section 3.3; Jozefowicz et
        al. 2016): the UTF-8 bytes of its text between a begin and an end mark.

        Args:
            width: characters of a token, marks included; longer ones are cut.

        Returns:
            int64 (vocab_size, width) of ids below `specs.NUM_CHARACTERS`: 0 fills up, 1 to 256 are bytes, 257
            and 258 the marks, the rest one for each special token.
        """
        if width in self._characters:
            return self._characters[width]
        out = np.zeros((self.vocab_size, width), dtype=np.int64)
        special = self.special_ids
        for i in range(self.vocab_size):
            letters = (
                [257, 259 + special.index(i), 258]
                if i in special
                else spelled(self._model.bytes_of(i), width)
            )
            out[i, : len(letters)] = letters
        self._characters[width] = out
        return out

    def num_cut(self, width: int) -> int:
        """Tokens whose text has more bytes than `characters(width)` has room for."""
        special = set(self.special_ids)
        texts = (i for i in range(self.vocab_size) if i not in special)
        return sum(len(self._model.bytes_of(i)) > width - 2 for i in texts)

    def spec(self, max_length: int, max_target_length: int = 0, **more: Any) -> DataSpec:
        """What a network must know of data in these ids; further fields of `DataSpec` by their names."""
        own = {
            "vocab_size": self.vocab_size,
            "pad_id": self.pad_id,
            "bos_id": self.bos_id,
            "eos_id": self.eos_id,
            "unk_id": self.unk_id,
            "mask_id": self.mask_id,
        }
        lengths = {"max_length": max_length, "max_target_length": max_target_length}
        return DataSpec(**(own | lengths | more))

    def state(self) -> dict[str, Any]:
        """Everything, as plain types: goes inside checkpoints that load with
        `weights_only=True`.
        """
        return {"config": replace(self.config, path=None).settings(), **self._model.state()}

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Tokenizer:
        """The tokenizer that `state` returned."""
        config = TokenizerConfig(**state["config"])
        if config.kind == "byte":
            return cls(config, Bytes())
        if config.kind == "char":
            return cls(config, Chars(state["chars"]))
        return cls(config, Subwords.from_state(state))

    def save(self, path: str | Path) -> None:
        """Write to a JSON file that `load` reads."""
        Path(path).write_text(json.dumps(self.state(), ensure_ascii=False), encoding="utf-8")

    @property
    def has_library_form(self) -> bool:
        """Whether `export` can write it."""
        return isinstance(self._model, Subwords)

    def export(self, path: str | Path) -> None:
        """Write a `tokenizer.json` of the `tokenizers` library, for other programs.

        Raises:
            InputError: byte and char tokenizers have no such form.
        """
        if not isinstance(self._model, Subwords):
            raise InputError(f"a {self.config.kind} tokenizer has no tokenizer.json: use save().")
        Path(path).write_text(self._model.json(), encoding="utf-8")

    @classmethod
    def load(cls, path: str | Path) -> Tokenizer:
        """Read a file of `save`, a `tokenizer.json`, BERT's `vocab.txt`, GPT-2's `encoder.json` and
        `vocab.bpe` (either stands for both; also as `vocab.json` and `merges.txt`), or the
        tokenizer inside a checkpoint (`.ckpt`). Of a folder: the first of `lit_lm_tokenizer.json`,
        `tokenizer.json`, `vocab.txt` and GPT-2's that it holds.

        `vocab.txt` does not say whether text is folded to lower case: `do_lower_case` in
        `tokenizer_config.json` beside it does, and without that it is folded unless a token
        outside square brackets has a capital.

        Special tokens are found by their customary names. Padding and truncation that a file asks
        for are dropped.

        Raises:
            InputError: there is no such file, or it holds no tokenizer.
        """
        file = Path(path).expanduser()
        if file.is_dir():
            file = vocabularies.in_folder(file)
        if not file.is_file():
            raise InputError(
                f"tokenizer {path}: no such file. Mend `data.tokenizer.path`, or drop it to train."
            )
        if file.suffix == ".ckpt":
            return cls.from_state(_state_in_checkpoint(file))
        core = vocabularies.read(file)
        if core is None:
            content = vocabularies.read_object(file)
            if "config" in content:
                try:
                    return cls.from_state(content)
                except (AttributeError, KeyError, TypeError, ValueError):
                    raise InputError(
                        f"tokenizer {file}: not as Tokenizer.save writes it."
                    ) from None
            if "model" not in content:
                raise InputError(f"tokenizer {file}: neither a saved tokenizer nor tokenizer.json.")
            core = library_tokenizer(json.dumps(content), file)
        model = Subwords.foreign(core, file)
        return cls(TokenizerConfig(kind=model.kind, vocab_size=model.vocab_size), model)

    @classmethod
    def from_words(cls, words: Iterable[str]) -> Tokenizer:
        """A vocabulary of given words, for texts that others have cut: white space stands around every
        word and mark. Decoding puts one space between them.
        """
        model = Subwords.of_words(words)
        return cls(TokenizerConfig("word", vocab_size=model.vocab_size), model)


def _state_in_checkpoint(file: Path) -> dict[str, Any]:
    state = checkpoints.load(file, lazily=True).get("tokenizer")
    if not isinstance(state, dict) or "config" not in state:
        raise InputError(f"checkpoint {file} holds no tokenizer.")
    return state


def pieces(text: str, size: int = _LONG) -> Iterator[str]:
    """Cut a long text behind lone line ends, where no token of ours reaches across; what it joins
    to is `text`.
    """
    begin = 0
    while (cut := _SAFE_CUT.search(text, begin + size)) is not None:
        yield text[begin : cut.end()]
        begin = cut.end()
    yield text[begin:]


def spelled(raw: bytes, width: int) -> list[int]:
    """Characters of a token's bytes between a begin and an end mark, at most `width` (`Tokenizer.characters`)."""
    return [257, *(byte + 1 for byte in raw[: width - 2]), 258]
