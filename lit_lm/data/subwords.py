"""Word and subword tokenizers over the `tokenizers` library. Used through
`lit_lm.data.tokenizers`.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import Any, Literal

import numpy as np
import tokenizers as lib
from tokenizers import decoders, models, normalizers, pre_tokenizers

from lit_lm.data.alphabets import BYTES, Ids
from lit_lm.data.merges import Merges, merges_of
from lit_lm.data.subword_training import BLANK, Without, in_fixed_order
from lit_lm.data.tokenizer_config import SPECIALS, TokenizerConfig
from lit_lm.errors import InputError

Kind = Literal["word", "bpe", "wordpiece", "unigram"]

_SPACED = r"<(?=(?:pad|bos|eos|unk|mask)>(?!\S))|\S+"  # a literal "<eos>" falls in two: it is text
_KINDS: dict[str, Kind] = {
    "WordLevel": "word",
    "BPE": "bpe",
    "WordPiece": "wordpiece",
    "Unigram": "unigram",
}
_CUSTOMARY = {
    "eos": ("<eos>", "</s>", "[SEP]", "<|endoftext|>", "<|end_of_text|>"),
    "bos": ("<bos>", "<s>", "[CLS]", "<|startoftext|>", "<|begin_of_text|>"),
    "pad": ("<pad>", "[PAD]"),
    "unk": ("<unk>", "[UNK]"),
    "mask": ("<mask>", "[MASK]"),
}

_BYTE_NAME = re.compile("<0x([0-9A-F]{2})>")


_SWITCH = "TOKENIZERS_PARALLELISM"
_LEFT_TO_US = _SWITCH not in os.environ
os.environ.setdefault(_SWITCH, "false")


@contextmanager
def parallel() -> Iterator[None]:
    """Let the library use its threads inside the block only, so that forked data workers neither
    warn nor hang.

    A TOKENIZERS_PARALLELISM that the user has set is left alone.
    """
    before = os.environ.get(_SWITCH, "false")
    if _LEFT_TO_US:
        os.environ[_SWITCH] = "true"
    try:
        yield
    finally:
        os.environ[_SWITCH] = before


def library_tokenizer(text: str, file: Path) -> lib.Tokenizer:
    """From the text of a `tokenizer.json`; `file` is its name for errors.

    Raises:
        InputError: the library cannot read it.
    """
    try:
        return lib.Tokenizer.from_str(text)
    except Exception as error:  # the library raises bare Exceptions
        raise InputError(f"tokenizer {file} cannot be read: {error}") from None


class Subwords:
    """A model of the `tokenizers` library.

    Args:
        core: the library's tokenizer.
        kind: the algorithm.
        special_ids: ids of pad, bos, eos, unk and mask (-1 for none).
        foreign: made elsewhere: nothing is assumed of where its tokens may end.
    """

    def __init__(
        self,
        core: lib.Tokenizer,
        kind: Kind,
        special_ids: tuple[int, int, int, int, int],
        *,
        foreign: bool = False,
    ) -> None:
        core.encode_special_tokens = True  # a literal "<eos>" in a text stays text
        self._core = core
        self.kind = kind
        self.special_ids = special_ids
        self.cuts_at_lines = not foreign
        pad, bos, eos, unk, mask = special_ids
        # Where there is no unknown token, eos stands in for it, and no text has it.
        self._never = [i for i in (pad, bos, eos, mask) if i >= 0 and (i != unk or i == eos)]
        self.vocab_size = 1 + max(core.get_vocab(with_added_tokens=True).values())

    @classmethod
    def train(cls, config: TokenizerConfig, texts: Iterable[str]) -> Subwords:
        """Train the algorithm `config.kind` on texts; "wordpiece" reads them twice."""
        if config.kind == "wordpiece" and isinstance(texts, Iterator):
            texts = list(texts)
        plain = replace(config, vocab_size=config.vocab_size - len(config.symbols), symbols=())
        texts = Without(config.symbols, texts) if config.symbols else texts
        core, trainer = BLANK[config.kind](plain, texts)
        if config.lowercase and config.kind != "wordpiece":
            core.normalizer = normalizers.Lowercase()
        core.train_from_iterator(texts, trainer)
        content = json.loads(core.to_str())
        kind = _KINDS[content["model"]["type"]]
        content["added_tokens"] = []  # ids stay in the model; no text is matched against them
        if kind == "unigram":
            content["model"]["vocab"] = in_fixed_order(content["model"]["vocab"])
        core = lib.Tokenizer.from_str(json.dumps(content))
        core.add_tokens([lib.AddedToken(symbol, normalized=False) for symbol in config.symbols])
        return cls(core, kind, (0, 1, 2, 3, 4))

    @classmethod
    def foreign(cls, core: lib.Tokenizer, file: Path) -> Subwords:
        """From a tokenizer made elsewhere; `file` is its name for errors.

        Raises:
            InputError: it has no token that could end a text.
        """
        core.no_padding()
        core.no_truncation()
        eos = _first_known(core, _CUSTOMARY["eos"])
        if eos is None:
            raise InputError(
                f"tokenizer {file} has no end token; one of {', '.join(_CUSTOMARY['eos'])} is wanted."
            )
        pad, bos, unk = (
            _first_known(core, _CUSTOMARY[name], otherwise=eos) for name in ("pad", "bos", "unk")
        )
        mask = _first_known(core, _CUSTOMARY["mask"], otherwise=-1)
        kind = _KINDS[type(core.model).__name__]
        return cls(core, kind, (pad, bos, eos, unk, mask), foreign=True)

    @classmethod
    def of_words(cls, words: Iterable[str]) -> Subwords:
        """The special tokens and these words, for texts with white space around every word."""
        vocab = {word: i for i, word in enumerate(dict.fromkeys((*SPECIALS, *words)))}
        core = lib.Tokenizer(models.WordLevel(vocab=vocab, unk_token="<unk>"))
        core.pre_tokenizer = pre_tokenizers.Split(
            lib.Regex(_SPACED), behavior="removed", invert=True
        )
        return cls(core, "word", (0, 1, 2, 3, 4), foreign=True)

    def encode_batch(self, texts: Sequence[str]) -> list[Ids]:
        """Ids of texts, without special tokens."""
        done = self._core.encode_batch_fast(list(texts), add_special_tokens=False)
        found = [np.array(one.ids, dtype=np.uint32) for one in done]
        if self.cuts_at_lines:
            return found
        return [
            np.array(self._literally(text), dtype=np.uint32)
            if np.isin(ids, self._never).any()
            else ids
            for text, ids in zip(texts, found, strict=True)
        ]

    def _literally(self, text: str) -> list[int]:
        """Ids of a text in which a model from elsewhere sees special tokens (as words or pieces of its own,
        or as added tokens that are not marked as special): their names are cut behind the first character.
        """
        one = self._core.encode(text, add_special_tokens=False)
        seen = [at for i, at in zip(one.ids, one.offsets, strict=True) if i in self._never]
        if not seen:
            return one.ids
        cuts = sorted({begin + 1 for begin, _ in seen if begin + 1 < len(text)})
        if not cuts:
            return [self.special_ids[3] if i in self._never else i for i in one.ids]
        borders = [0, *cuts, len(text)]
        parts = (text[a:b] for a, b in pairwise(borders))
        return [i for part in parts for i in self._literally(part)]

    def unknown(self, text: str) -> list[str]:
        """What stands where `encode_batch` finds nothing but unk, as the model sees it (in lower case, say)."""
        found = self._core.encode(text, add_special_tokens=False)
        unk = self.special_ids[3]
        spans = [s for i, s in zip(found.ids, found.offsets, strict=True) if i == unk]
        normal = self._core.normalizer
        words = [text[begin:end] for begin, end in spans]
        return [normal.normalize_str(word).strip() for word in words] if normal else words

    def decode(self, ids: list[int]) -> str:
        """Text of ids, special tokens by their names."""
        if self.kind == "word" and self.cuts_at_lines:
            return join_words([self.token(i) for i in ids])
        return self._core.decode(ids, skip_special_tokens=False)

    def token(self, index: int) -> str:
        """The library's name of an id."""
        return self._core.id_to_token(index) or ""

    def bytes_of(self, index: int) -> bytes:
        """The text that an id stands for, in UTF-8."""
        name = self.token(index)
        if self.kind in ("word", "wordpiece"):
            return name.removeprefix("##" if self.kind == "wordpiece" else "").encode()
        if isinstance(self._core.decoder, decoders.ByteLevel):
            known = all(char in BYTES for char in name)
            return bytes(BYTES[char] for char in name) if known else name.encode()
        if byte := _BYTE_NAME.fullmatch(name):
            return bytes.fromhex(byte[1])
        # On its own the library decodes SentencePiece's mark of a space to nothing.
        return (name.replace("▁", " ") if "▁" in name else self._core.decode([index])).encode()

    def merges(self) -> Merges | None:
        """How words are put together, if this is BPE over bytes."""
        return merges_of(self._core)

    def json(self) -> str:
        """The library's own form, with the special tokens marked as such."""
        core = lib.Tokenizer.from_str(self._core.to_str())
        if self.cuts_at_lines:
            core.add_special_tokens(list(SPECIALS))
        return core.to_str()

    def state(self) -> dict[str, Any]:
        """Plain types; nothing is lost."""
        return {
            "library": self._core.to_str(),
            "special_ids": list(self.special_ids),
            "foreign": not self.cuts_at_lines,
        }

    @classmethod
    def from_state(cls, state: dict[str, Any]) -> Subwords:
        """What `state` returned."""
        pad, bos, eos, unk, mask = state["special_ids"]
        core = lib.Tokenizer.from_str(state["library"])
        kind = _KINDS[type(core.model).__name__]
        return cls(core, kind, (pad, bos, eos, unk, mask), foreign=state["foreign"])


def _first_known(core: lib.Tokenizer, names: tuple[str, ...], otherwise: Any = None) -> Any:
    known = (core.token_to_id(name) for name in names)
    return next((index for index in known if index is not None), otherwise)


_NO_SPACE_BEFORE = frozenset(".,;:!?%)]}…»”’/\n")
_NO_SPACE_AFTER = frozenset("([{«“‘$£€#@/\n")


def join_words(tokens: Sequence[str]) -> str:
    """Words and punctuation back to text: one space between, but for punctuation that clings.

    Straight quotes open and close in turn; a line end starts anew.
    """
    text: list[str] = []
    inside: dict[str, bool] = {}
    glue = True
    for token in tokens:
        closes = inside.get(token, False)
        if not (glue or closes or token in _NO_SPACE_BEFORE):
            text.append(" ")
        text.append(token)
        glue = token in _NO_SPACE_AFTER
        if token in ('"', "'"):
            inside[token] = not closes
            glue = not closes
        elif token == "\n":
            inside.clear()
    return "".join(text)
