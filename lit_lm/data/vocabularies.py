"""Vocabulary files of BERT and GPT-2 as tokenizers of the `tokenizers` library. Used through
`Tokenizer.load`.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import tokenizers as lib
from tokenizers import decoders, models, normalizers, pre_tokenizers

from lit_lm.errors import InputError

# GPT-2's files, under its own names and under those of transformers.
_PAIRS = (("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt"))
_IN_FOLDERS = ("lit_lm_tokenizer.json", "tokenizer.json", "vocab.txt", *(p[0] for p in _PAIRS))
_SETTINGS = "tokenizer_config.json"
_SPECIALS = (
    *("[PAD]", "[UNK]", "[CLS]", "[SEP]", "[MASK]"),
    *("<|endoftext|>", "<s>", "</s>", "<pad>", "<unk>", "<mask>"),
)


def in_folder(folder: Path) -> Path:
    """The file of a folder that says most of its tokenizer.

    Raises:
        InputError: there is none.
    """
    found = next((folder / name for name in _IN_FOLDERS if (folder / name).is_file()), None)
    if found is None:
        raise InputError(f"tokenizer {folder}: the folder holds none of {', '.join(_IN_FOLDERS)}.")
    return found


def read(file: Path) -> lib.Tokenizer | None:
    """The tokenizer of a vocabulary file: `vocab.txt` is BERT's; `encoder.json` and `vocab.bpe`, also called
    `vocab.json` and `merges.txt`, are GPT-2's, and either stands for both. None for files of other names.

    Raises:
        InputError: the other file of the two is missing, or a file is damaged.
    """
    for pair in _PAIRS:
        if file.name in pair:
            vocab, merges = (file.with_name(name) for name in pair)
            for part in (vocab, merges):
                if not part.is_file():
                    raise InputError(
                        f"tokenizer {file}: {part.name} must lie beside it and does not; "
                        "byte-level BPE needs both."
                    )
            return _byte_pairs(vocab, merges)
    return _word_pieces(file) if file.name == "vocab.txt" else None


def read_text(file: Path) -> str:
    """A tokenizer's file as text.

    Raises:
        InputError: it cannot be read or is not UTF-8.
    """
    try:
        return file.read_text(encoding="utf-8")
    except (OSError, UnicodeDecodeError) as error:
        raise InputError(f"tokenizer {file} cannot be read as UTF-8 text: {error}") from None


def read_object(file: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        InputError: it holds something else; names the line where it breaks off.
    """
    try:
        content = json.loads(read_text(file))
    except json.JSONDecodeError as error:
        raise InputError(f"tokenizer {file}, line {error.lineno}: no JSON: {error.msg}.") from None
    if not isinstance(content, dict):
        raise InputError(f"tokenizer {file}: not a JSON object.")
    return content


def _word_pieces(file: Path) -> lib.Tokenizer:
    """BERT's tokenizer (Devlin et al. 2019) over a vocabulary of a token a line, the first with id 0.

    `tokenizer_config.json` beside it decides on `do_lower_case`, `strip_accents` and
    `tokenize_chinese_chars`. Where it says nothing of lower case, text is folded unless a token outside
    square brackets has a capital.
    """
    vocab: dict[str, int] = {}
    for index, token in enumerate(_lines(file)):
        if not token:
            raise InputError(f"tokenizer {file}, line {index + 1}: empty; a token is wanted.")
        if token in vocab:
            raise InputError(
                f"tokenizer {file}, line {index + 1}: {token!r} stands already on line "
                f"{vocab[token] + 1}; a token has one id."
            )
        vocab[token] = index
    if "[UNK]" not in vocab:
        raise InputError(f"tokenizer {file}: no line reads [UNK]; is it the vocabulary of a BERT?")
    settings = _settings(file)
    cased = any(token.lower() != token and token[0] != "[" for token in vocab)
    core = lib.Tokenizer(models.WordPiece(vocab=vocab, unk_token="[UNK]"))
    core.normalizer = normalizers.BertNormalizer(
        lowercase=_flag(settings, file, "do_lower_case", not cased),
        strip_accents=_flag(settings, file, "strip_accents", None),
        handle_chinese_chars=_flag(settings, file, "tokenize_chinese_chars", True),
    )
    core.pre_tokenizer = pre_tokenizers.BertPreTokenizer()
    core.decoder = decoders.WordPiece(prefix="##", cleanup=True)
    core.add_special_tokens([token for token in _SPECIALS if token in vocab])
    return core


def _byte_pairs(vocab_file: Path, merges_file: Path) -> lib.Tokenizer:
    """GPT-2's tokenizer (Radford et al. 2019): a JSON object of tokens and ids, and a merge a line."""
    vocab = read_object(vocab_file)
    owners: dict[int, str] = {}
    for token, index in vocab.items():
        if type(index) is not int or index < 0:
            raise InputError(
                f"tokenizer {vocab_file}: {token!r} has the id {index!r}, wanted is a whole number from 0."
            )
        if index in owners:
            raise InputError(
                f"tokenizer {vocab_file}: {owners[index]!r} and {token!r} share the id {index}."
            )
        owners[index] = token
    if lost := sorted(set(pre_tokenizers.ByteLevel.alphabet()) - vocab.keys()):
        raise InputError(
            f"tokenizer {vocab_file}: {len(lost)} of the 256 bytes have no token, among them {lost[0]!r}; "
            "text would be lost. Is it a byte-level vocabulary?"
        )
    merges: list[tuple[str, str]] = []
    for number, line in enumerate(_lines(merges_file), 1):
        if number == 1 and line.startswith("#version"):
            continue
        left, _, right = line.partition(" ")
        for token in (left, right, left + right):
            if not (left and right) or token not in vocab:
                raise InputError(
                    f"tokenizer {merges_file}, line {number}: {line!r} is no merge of two tokens of "
                    f"{vocab_file.name} into a third."
                )
        merges.append((left, right))
    spaced = _flag(_settings(vocab_file), vocab_file, "add_prefix_space", False)
    core = lib.Tokenizer(models.BPE(vocab=vocab, merges=merges))
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=bool(spaced), use_regex=True)
    core.decoder = decoders.ByteLevel()
    core.add_special_tokens([token for token in _SPECIALS if token in vocab])
    return core


def _lines(file: Path) -> list[str]:
    """Only a line feed ends a line: a token may be a separator of another kind."""
    return read_text(file).removesuffix("\n").split("\n")


def _settings(file: Path) -> dict[str, Any]:
    settings = file.with_name(_SETTINGS)
    return read_object(settings) if settings.is_file() else {}


def _flag(settings: Mapping[str, Any], file: Path, key: str, default: bool | None) -> Any:
    """A setting; what is not there or null is the default."""
    value = settings.get(key)
    if value is None:
        return default
    if not isinstance(value, bool):
        raise InputError(
            f"tokenizer {file.with_name(_SETTINGS)}: {key} is {value!r}, wanted is true or false."
        )
    return value
