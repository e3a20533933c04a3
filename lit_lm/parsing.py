"""What the command line's parser says when something is wrong, and what it lets through: errors in one line, and
checks of a whole configuration before anything is made of it.
"""

from __future__ import annotations

import dataclasses
import inspect
import math
import pydoc
import re
import sys
import types
from typing import Any, NoReturn, Union, get_args, get_origin, get_type_hints

from jsonargparse import Namespace
from lightning.pytorch.cli import LightningArgumentParser

from lit_lm.callbacks import Budget
from lit_lm.errors import InputError
from lit_lm.runs import RunConfig

_KEY = re.compile(r'Parser key "([^"]+)"')
# Lines that lead from a key to what is wrong with it.
_FRAME = re.compile(
    r"(- )?(Parser key |Problem with given class_path |Does not validate against |Subtypes: |Errors:|"
    r"Given value|Subclass types expect |a class path |a dict |Unable to load config )"
)
_CLASS = re.compile(r"<class '(\w+)'>")
_CHOICE = re.compile(r"typing\.Literal\[(.*?)\]")
_NO_NONE = "Expected a <class 'NoneType'>"
_LONGEST = 300


class Parser(LightningArgumentParser):
    """A parser whose errors are one line: the key, the value and what is wanted."""

    def error(self, message: str, ex: Exception | None = None) -> NoReturn:
        """Prints the error without the list of all options, and exits with status 2."""
        if not self.exit_on_error:
            super().error(message, ex)
        parser = getattr(ex, "subcommand_parser", None) or self
        prog = parser.prog.replace(" [options]", "")
        sys.stderr.write(
            f"{prog}: error: {shortened(message)}\n({_helper(prog)} --help lists all settings)\n"
        )
        self.exit(2)
        raise AssertionError


def _helper(prog: str) -> str:
    """The command whose help lists the settings: others read those of ``lit-lm fit``."""
    return prog if prog.split()[-1] in ("fit", "validate", "test", "predict") else "lit-lm fit"


def shortened(message: str) -> str:
    """The gist of an error of jsonargparse, which tells every step that led to it.

    Args:
        message: keys, each inside the one before, and at the greatest indentation what is wrong.

    Returns:
        ``data.source.train: Expected a str or Expected a list. Got value: 5``; the message itself where it is built
        in another way.
    """
    keys = ".".join(dict.fromkeys(_KEY.findall(message)))
    lines = [(len(line) - len(line.lstrip()), line.strip()) for line in message.splitlines()]
    said = [(depth, text.removeprefix("- ")) for depth, text in lines if not _FRAME.match(text)]
    said = [(depth, text) for depth, text in said if text and text != _NO_NONE]
    if not keys or not said:
        return message if len(message) <= 2 * _LONGEST else f"{message[: 2 * _LONGEST]} ..."
    deepest = max(depth for depth, _ in said)
    gist = [text for depth, text in said if depth == deepest or "Expected a path" in text]
    value = ""
    if all(text.startswith("Expected a") and "Got value" not in text for text in gist):
        values = [(d, t) for d, t in lines if t.startswith("Given value: ")]
        value = max(values, default=(0, ""))[1].replace("Given value:", ". Got value:")
    out = _CLASS.sub(r"\1", f"{keys}: {' or '.join(gist)}{value}")
    out = _CHOICE.sub(r"one of \1", out).replace("Expected a one of", "Expected one of")
    return out if len(out) <= _LONGEST else f"{out[:_LONGEST]} ..."


def check_settings(config: Any) -> None:
    """Raises InputError if a parsed configuration holds what jsonargparse lets through: a scalar where a group
    of settings is wanted, null where a value is wanted, or what the suite itself fills in.

    Args:
        config: the settings of a verb, as parsed.
    """
    for key in ("run", "budget", "trainer"):
        if not isinstance(config.get(key), Namespace):
            raise InputError(
                f"{key}={config.get(key)!r}: settings are wanted, each with its name, not one value"
            )
    _check_trainer(config["trainer"])
    for key, kind in (("run", RunConfig), ("budget", Budget), ("data", object), ("model", object)):
        _check_nulls(config.get(key), kind, key)
    model = config.get("model")
    if model is not None and (model.get("init_args") or {}).get("spec") is not None:
        raise InputError(
            "model.spec cannot be set: it is filled in from the data. Drop it from the configuration"
        )


def _check_trainer(trainer: Namespace) -> None:
    """What Lightning takes and then divides by, or leaves aside without a word."""
    for key, least in (
        ("accumulate_grad_batches", 1),
        ("gradient_clip_val", 0),
        ("log_every_n_steps", 0),
    ):
        value = trainer.get(key)
        if value is not None and not least <= value < math.inf:
            raise InputError(f"trainer.{key}={value} must be a number, at least {least}")


def _check_nulls(value: Any, hint: Any, key: str) -> None:
    """Raises InputError where a setting is null whose type does not allow it."""
    kinds = get_args(hint) if get_origin(hint) in (Union, types.UnionType) else (hint,)
    if value is None and hint is not object and not {type(None), Any} & set(kinds):
        raise InputError(f"{key} is null, where a value is wanted: give one, or drop the key")
    if not isinstance(value, Namespace):
        return
    kind: Any = next((k for k in kinds if dataclasses.is_dataclass(k)), None)
    settings: Any = value
    if "class_path" in value:
        kind, settings = pydoc.locate(value["class_path"]), value.get("init_args") or {}
    if kind is None:
        return
    hints = get_type_hints(kind if dataclasses.is_dataclass(kind) else kind.__init__)
    parameters = inspect.signature(kind).parameters
    for name, inner in dict(settings).items():
        default = parameters[name].default if name in parameters else None
        if inner is not None or default is not None:
            _check_nulls(inner, hints.get(name, Any), f"{key}.{name}")
