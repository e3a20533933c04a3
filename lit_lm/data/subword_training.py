"""What the `tokenizers` library needs to train words and subwords, one function for each kind of tokenizer."""

from __future__ import annotations

import re
import unicodedata
from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from typing import Any

import tokenizers as lib
from tokenizers import decoders, models, normalizers, pre_tokenizers, trainers

from lit_lm.data.merges import any_of
from lit_lm.data.tokenizer_config import SPECIALS, TokenizerConfig
from lit_lm.errors import InputError

_WORD = r"\n|\w+(?:[-']\w+)*|[^\w\s]"
_INNER = re.compile(r"(?<=\S)\S")


class Without:
    """Texts, as often as asked for, with a space for every symbol: nothing is learned from those."""

    def __init__(self, symbols: Sequence[str], texts: Iterable[str]) -> None:
        self._symbols = any_of(symbols)
        self._texts = texts

    def __iter__(self) -> Iterator[str]:
        return (self._symbols.sub(" ", text) for text in self._texts)


def in_fixed_order(vocab: list[list[Any]]) -> list[list[Any]]:
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


BLANK = {"word": _word, "bpe": _bpe, "unigram": _unigram, "wordpiece": _wordpiece}
