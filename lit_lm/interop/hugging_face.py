"""What Hugging Face's layouts have in common: checks of ``config.json``, the tokenizer's files."""

from __future__ import annotations

import json
import math
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Literal, TypeVar

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop.weights import setting
from lit_lm.models.base import Architecture
from lit_lm.tasks import Task

A = TypeVar("A", bound=Architecture)
Activation = Literal["relu", "gelu", "gelu_tanh"]

# Hugging Face's names of activations; the first of a kind is the one that is written.
ACTIVATIONS: dict[str, Activation] = {
    "gelu": "gelu",
    "gelu_new": "gelu_tanh",
    "gelu_pytorch_tanh": "gelu_tanh",
    "relu": "relu",
}


def size(config: Mapping[str, Any], name: str, file: Path) -> int:
    """A number of something.

    Raises:
        InputError: it is missing, no integer, or below 1.
    """
    value = int(setting(config, name, int, file))
    if value < 1:
        raise InputError(f"{file}: {name} is {value}, where at least 1 is wanted")
    return value


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


def number(
    config: Mapping[str, Any], name: str, default: float, file: Path, below: float = math.inf
) -> float:
    """A real number from 0 to below a bound.

    Raises:
        InputError: it is no such number.
    """
    value = float(setting(config, name, float, file, default))
    if not 0 <= value < below:
        raise InputError(
            f"{file}: {name} is {value}, where a number from 0 to below {below} is wanted"
        )
    return value


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


def expect(config: Mapping[str, Any], wanted: Mapping[str, Any], file: Path) -> None:
    """Checks settings that the network has in one form only; what the file leaves out has that form.

    Raises:
        InputError: the file says something else.
    """
    for name, value in wanted.items():
        if config.get(name, value) != value:
            raise InputError(
                f"{file}: {name} is {config[name]!r}; only {value!r} can be read: this network has no other form"
            )


def check_vocabulary(tokenizer: Tokenizer, vocab_size: int, file: Path) -> None:
    """Raises InputError if the tokenizer has ids that the network has no vectors for."""
    if tokenizer.vocab_size > vocab_size:
        raise InputError(
            f"{file}: vocab_size is {vocab_size}, but the tokenizer has {tokenizer.vocab_size} ids: "
            "give the tokenizer that belongs to the weights"
        )


def architecture(task: Task, kind: type[A]) -> A:
    """The sizes that a task's network was built with.

    Raises:
        InputError: it is a network of another kind.
    """
    net = task.hparams["net"]
    if net["class_path"] != f"{kind.__module__}.{kind.__qualname__}":
        found = net["class_path"].rpartition(".")[2]
        raise InputError(
            f"{found} cannot be written in this layout, which is that of {kind.__name__}"
        )
    return kind(**net["init_args"])


def require(config: Architecture, wanted: Mapping[str, Any], layout: str) -> None:
    """Raises InputError if a network's setting is not the one that a layout stands for."""
    for name, value in wanted.items():
        found = getattr(config, name)
        if found != value:
            raise InputError(
                f"{layout} has {name}={value!r} only, and this network {name}={found!r}: it cannot be "
                "written in this layout"
            )


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
