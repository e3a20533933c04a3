"""Word and subword tokenizers over the `tokenizers` library. Used through
`lit_lm.data.tokenizers`.
"""

from __future__ import annotations

import json
import os
import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from itertools import pairwise
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal, NamedTuple

import numpy as np
import tokenizers as lib
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lit_lm.data.alphabets import SPECIALS, Ids
from lit_lm.errors import InputError

if TYPE_CHECKING:
    from lit_lm.data.tokenizers import TokenizerConfig

Kind = Literal["word", "bpe", "wordpiece", "unigram"]

_WORD = r"\n|\w+(?:[-']\w+)*|[^\w\s]"
_SPACED = r"<(?=(?:pad|bos|eos|unk|mask)>(?!\S))|\S+"  # a literal "<eos>" falls in two: it is text
_INNER = re.compile(r"(?<=\S)\S")
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


def _byte_alphabet() -> dict[str, int]:
    """The characters by which byte-level tokens are named (Radford et al. 2019), and their bytes: printable
    ones of Latin-1 stand for themselves, the rest are counted from U+0100.
    """
    plain = [*range(33, 127), *range(161, 173), *range(174, 256)]
    rest = [byte for byte in range(256) if byte not in plain]
    return {chr(b): b for b in plain} | {chr(256 + n): b for n, b in enumerate(rest)}


_BYTES = _byte_alphabet()

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
        texts = _Without(config.symbols, texts) if config.symbols else texts
        core, trainer = _BLANK[config.kind](plain, texts)
        if config.lowercase and config.kind != "wordpiece":
            core.normalizer = normalizers.Lowercase()
        core.train_from_iterator(texts, trainer)
        content = json.loads(core.to_str())
        kind = _KINDS[content["model"]["type"]]
        content["added_tokens"] = []  # ids stay in the model; no text is matched against them
        if kind == "unigram":
            content["model"]["vocab"] = _in_fixed_order(content["model"]["vocab"])
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
            known = all(char in _BYTES for char in name)
            return bytes(_BYTES[char] for char in name) if known else name.encode()
        if byte := _BYTE_NAME.fullmatch(name):
            return bytes.fromhex(byte[1])
        # On its own the library decodes SentencePiece's mark of a space to nothing.
        return (name.replace("▁", " ") if "▁" in name else self._core.decode([index])).encode()

    def merges(self) -> Merges | None:
        """How words are put together, if this is BPE over bytes."""
        content = json.loads(self._core.to_str())
        model, vocab = content["model"], self._core.get_vocab(with_added_tokens=False)
        alphabet = (
            isinstance(self._core.decoder, decoders.ByteLevel) and _BYTES.keys() <= vocab.keys()
        )
        # Others take whole words from the vocabulary, whatever the merges say, or mark where words begin or end.
        special = ("ignore_merges", "end_of_word_suffix", "continuing_subword_prefix")
        cuts = self._core.pre_tokenizer is not None
        if self.kind != "bpe" or not alphabet or not cuts or any(map(model.get, special)):
            return None
        merges = {
            (vocab[a], vocab[b]): (rank, vocab[a + b])
            for rank, (a, b) in enumerate(model["merges"])
        }
        added = [one for one in content["added_tokens"] if not one["special"]]
        symbols = {one["content"]: int(one["id"]) for one in added}
        letters = {letter: vocab[letter] for letter in _BYTES}
        return Merges(merges, letters, Words(self._core, symbols))

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


class Words:
    """Cuts texts into words, spelled in the characters that name bytes, and the ids of symbols between them.

    Args:
        core: the library's tokenizer.
        symbols: ids by their names.
    """

    def __init__(self, core: lib.Tokenizer, symbols: dict[str, int]) -> None:
        self._core, self._symbols, self._pattern = core, symbols, _any_of(symbols)

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


def _any_of(symbols: Iterable[str]) -> re.Pattern[str]:
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


class _Without:
    """Texts, as often as asked for, with a space for every symbol: nothing is learned from those."""

    def __init__(self, symbols: Sequence[str], texts: Iterable[str]) -> None:
        self._symbols = _any_of(symbols)
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        return (self._symbols.sub(" ", text) for text in self._texts)


def _first_known(core: lib.Tokenizer, names: tuple[str, ...], otherwise: Any = None) -> Any:
    known = (core.token_to_id(name) for name in names)
    return next((index for index in known if index is not None), otherwise)


def _in_fixed_order(vocab: list[list[Any]]) -> list[list[Any]]:
    """Pieces and scores without what differs from training to training.

    The library's sums differ in the last digits, and single characters that training never used
    get scores in steps of 0.0001 above the least one, in random order.
    """
    special, pieces = vocab[: len(SPECIALS)], vocab[len(SPECIALS) :]
    if any(score is None for _, score in pieces):  # the library's sums are no numbers
        raise InputError(
            "tokenizer: unigram finds no pieces in this training text (it is too short, or repeats itself): choose "
            "another kind, such as bpe or byte."
        )
    least = round(min(score for _, score in pieces), 6)
    steps = 0.0001 * 257
    even = [[p, least if len(p) == 1 and s < least + steps else round(s, 6)] for p, s in pieces]
    return special + sorted(even, key=lambda piece: (-piece[1], piece[0]))


Blank = tuple[lib.Tokenizer, Any]


def _check_room(config: TokenizerConfig, least: int) -> None:
    if config.vocab_size < least:
        raise InputError(
            f"vocab_size={config.vocab_size} is too small for {config.kind!r}: at least {least} "
            "(special tokens and every single symbol)."
        )


def _word(config: TokenizerConfig, texts: Iterable[str]) -> Blank:
    _check_room(config, len(SPECIALS) + 1)
    core = lib.Tokenizer(models.WordLevel(vocab={}, unk_token="<unk>"))
    core.pre_tokenizer = pre_tokenizers.Split(lib.Regex(_WORD), behavior="removed", invert=True)
    return core, trainers.WordLevelTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIALS),
        show_progress=False,
    )


def _bpe(config: TokenizerConfig, texts: Iterable[str]) -> Blank:
    _check_room(config, len(SPECIALS) + 256)
    core = _byte_level(models.BPE())
    return core, trainers.BpeTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        special_tokens=list(SPECIALS),
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def _unigram(config: TokenizerConfig, texts: Iterable[str]) -> Blank:
    _check_room(config, len(SPECIALS) + 256)
    core = _byte_level(models.Unigram())
    return core, trainers.UnigramTrainer(
        vocab_size=config.vocab_size,
        special_tokens=list(SPECIALS),
        unk_token="<unk>",
        initial_alphabet=sorted(pre_tokenizers.ByteLevel.alphabet()),
        show_progress=False,
    )


def _byte_level(model: Any) -> lib.Tokenizer:
    """Bytes as the alphabet (as GPT-2 has them): every text has ids, and decodes to itself."""
    core = lib.Tokenizer(model)
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False, use_regex=True)
    core.decoder = decoders.ByteLevel()
    return core


def _wordpiece(config: TokenizerConfig, texts: Iterable[str]) -> Blank:
    _check_room(config, len(SPECIALS) + 1)
    core = lib.Tokenizer(
        models.WordPiece(vocab={}, unk_token="<unk>", max_input_chars_per_word=100)
    )
    core.normalizer = normalizers.BertNormalizer(lowercase=config.lowercase, strip_accents=None)
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    alphabet, inner = _characters(core, texts)
    return core, trainers.WordPieceTrainer(
        vocab_size=config.vocab_size,
        min_frequency=config.min_frequency,
        # The library numbers what is not named here in random order, and breaks ties by number.
        special_tokens=[*SPECIALS, *(f"##{char}" for char in inner)],
        initial_alphabet=alphabet,
        limit_alphabet=len(alphabet),
        continuing_subword_prefix="##",
        show_progress=False,
    )


def _characters(core: lib.Tokenizer, texts: Iterable[str]) -> tuple[list[str], list[str]]:
    """The 1000 most frequent characters (as BERT has it), and those of them that go on a word."""
    counts: Counter[str] = Counter()
    inner: Counter[str] = Counter()
    for text in texts:
        normal = core.normalizer.normalize_str(text)
        counts.update("".join(normal.split()))
        inner.update(_INNER.findall(normal))
    alphabet = sorted(counts, key=lambda char: (-counts[char], char))[:1000]
    return sorted(alphabet), sorted(c for c in alphabet if inner[c] and not _stands_alone(c))


def _stands_alone(char: str) -> bool:
    """Punctuation as BERT understands it, each mark a word of its own."""
    return unicodedata.category(char)[0] == "P" or (char.isascii() and not char.isalnum())


_BLANK = {"word": _word, "bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece}

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
