"""What Hugging Face's layouts have in common: checks of ``config.json``, the tokenizer's files."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop.settings import number, setting

Activation = Literal["relu", "gelu", "gelu_tanh"]

# Hugging Face's names of activations; the first of a kind is the one that is written.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def activation(config: Mapping[str, Any], name: str, default: str, file: Path) -> Activation:
    """Our name of an activation.

    Raises:
        InputError: it is none of `ACTIVATIONS`.
    """
    value = setting(config, name, str, file, default)
    if value not in ACTIVATIONS:
        raise InputError(f"{file}: {name} is {value!r}; {', '.join(ACTIVATIONS)} can be read")
    return ACTIVATIONS[value]


def activation_name(ours: Activation) -> str:
    """Hugging Face's name of an activation."""
    return next(name for name, value in ACTIVATIONS.items() if value == ours)


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, file: Path) -> None:
    """Raises InputError if the tokenizer has ids that the network has no vectors for."""
    if tokenizer.vocab_size > vocab_size:
        raise InputError(
            f"{file}: vocab_size is {vocab_size}, but the tokenizer has {tokenizer.vocab_size} ids: "
            "give the tokenizer that belongs to the weights"
        )


def dropout(config: Mapping[str, Any], names: tuple[str, ...], file: Path) -> float:
    """The one dropout of a network of ours.

    Raises:
        InputError: the places of dropout have several values, or it is no probability.
    """
    first, *others = names
    wanted = number(config, first, 0.1, file, below=1)
    for name in others:
        value = number(config, name, 0.1, file, below=1)
        if value != wanted:
            raise InputError(
                f"{file}: {name} is {value} and {first} {wanted}; this network has one dropout for all "
                "places: write the one to train with for each of them"
            )
    return wanted


def write_tokenizer(tokenizer: Tokenizer, folder: Path, special: dict[str, int], room: int) -> None:
    """What ``AutoTokenizer`` wants beside ``tokenizer.json``, and ``vocab.txt`` for subwords like BERT's.

    Byte and char tokenizers have no form there: nothing is written.

    Args:
        tokenizer: the tokenizer.
        folder: where to.
        special: ids of special tokens by their role, such as "pad"; -1 for none.
        room: most tokens in a row.
    """
    if not tokenizer.has_library_form:
        return
    names = {f"{role}_token": tokenizer.token(i) for role, i in special.items() if i >= 0}
    config = {"tokenizer_class": "PreTrainedTokenizerFast", "model_max_length": room, **names}
    text = json.dumps(config, indent=2, ensure_ascii=False) + "\n"
    (folder / "tokenizer_config.json").write_text(text, encoding="utf-8")
    if tokenizer.config.kind == "wordpiece":
        lines = [tokenizer.token(i) + "\n" for i in range(tokenizer.vocab_size)]
        (folder / "vocab.txt").write_text("".join(lines), encoding="utf-8")
