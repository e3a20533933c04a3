"""The one exception for what a user can mend: a file, a line, a key, a value. The command line prints it without a
traceback. And the checks of numbers that every configuration makes.
"""

from __future__ import annotations

import math
from numbers import Integral, Real
from typing import Any

MOST = 1 << 20
"""No size of a network and no length of a row is larger: a typing error, or a day of waiting for memory."""


class InputError(ValueError):
    """Something the user gave cannot be used.

    The message names what was given (file, line or key, and the value) and how to mend it.
    """


class FailedRuns(RuntimeError):
    """Some of many runs failed; all others ran, and everything was written. The command line then ends with status 1."""


def check_counts(
    owner: Any, *names: str, least: int = 1, most: int = MOST, optional: bool = False
) -> None:
    """Raises InputError unless these attributes are whole numbers within bounds.

    Args:
        owner: what has the attributes, such as a configuration.
        names: the attributes.
        least: the least that each may be.
        most: the most.
        optional: None will do too.
    """
    for name in names:
        value = getattr(owner, name)
        if value is None and optional:
            continue
        whole = isinstance(value, Integral) and not isinstance(value, bool)
        if not whole or not least <= int(value) <= most:
            raise InputError(
                f"{type(owner).__name__}: {name}={value} must be a whole number, at least {least:,} and at most "
                f"{most:,}"
            )


def check_reals(
    owner: Any,
    *names: str,
    least: float = 0.0,
    most: float = math.inf,
    above: bool = False,
    below: bool = False,
    optional: bool = False,
) -> None:
    """Raises InputError unless these attributes are finite numbers within bounds.

    Args:
        owner: what has the attributes, such as a configuration.
        names: the attributes.
        least: the least that each may be; with ``above`` it must be more.
        most: the most that each may be; with ``below`` it must be less.
        above: the least is too little.
        below: the most is too much.
        optional: None will do too.
    """
    for name in names:
        value = getattr(owner, name)
        if value is None and optional:
            continue
        real = isinstance(value, Real) and math.isfinite(value)
        if (
            not real
            or not least <= value <= most
            or (above and value == least)
            or (below and value == most)
        ):
            low = f"{'above' if above else 'at least'} {least:g}"
            high = f" and {'below' if below else 'at most'} {most:g}" if most < math.inf else ""
            raise InputError(f"{type(owner).__name__}: {name}={value} must be a number {low}{high}")
