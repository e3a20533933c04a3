"""Settings of a configuration file, each checked; and of a network, for what a layout can express."""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

from lit_lm.errors import InputError
from lit_lm.models.base import Architecture
from lit_lm.tasks import Task

A = TypeVar("A", bound=Architecture)


def setting(
    config: Mapping[str, Any], name: str, kind: type, file: str | Path, default: Any = None
) -> Any:
    """A setting of a configuration file, checked for its type.

    Raises:
        InputError: it is missing without a default, or of another type.
    """
    value = config.get(name, default)
    if kind is float and isinstance(value, int) and not isinstance(value, bool):
        value = float(value)
    if not isinstance(value, kind) or (isinstance(value, bool) and kind is not bool):
        found = repr(value) if name in config else "missing"
        raise InputError(f"{file}: {name} is {found}, where a {kind.__name__} is wanted")
    return value


def count(config: Mapping[str, Any], name: str, file: Path) -> int:
    """A number of something, 1 or more.

    Raises:
        InputError: it is missing, no integer, or below 1.
    """
    value = int(setting(config, name, int, file))
    if value < 1:
        raise InputError(f"{file}: {name} is {value}, where at least 1 is wanted")
    return value


def number(
    config: Mapping[str, Any],
    name: str,
    default: float | None,
    file: Path,
    below: float = math.inf,
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


def choice(config: Mapping[str, Any], name: str, allowed: Sequence[str], file: Path) -> Any:
    """One of several words.

    Raises:
        InputError: it is missing, or another.
    """
    value = setting(config, name, str, file)
    if value not in allowed:
        raise InputError(
            f"{file}: {name} is {value!r}, where one of {', '.join(allowed)} can be read"
        )
    return value


def widths(config: Mapping[str, Any], width: str, heads: str, file: Path) -> tuple[int, int]:
    """A network's width and its attention heads.

    Raises:
        InputError: one is no such number, or the heads do not divide the width.
    """
    d_model, num_heads = count(config, width, file), count(config, heads, file)
    if d_model % num_heads:
        raise InputError(f"{file}: {heads} is {num_heads}, which does not divide {width} {d_model}")
    return d_model, num_heads


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


def require(config: Architecture, layout: str, **allowed: Sequence[Any]) -> None:
    """Raises InputError if a network's setting is none of those that a layout can express."""
    for name, values in allowed.items():
        found = getattr(config, name)
        if found not in values:
            raise InputError(
                f"{layout} has {name}={' or '.join(map(repr, values))} only, and this network "
                f"{name}={found!r}: it cannot be written in this layout"
            )
