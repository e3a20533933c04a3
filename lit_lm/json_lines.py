"""JSON lines: an object a line, with texts in its fields. Knows no torch."""

from __future__ import annotations

import json
from typing import Any

from lit_lm.errors import InputError


def record_of(line: str, where: str) -> dict[str, Any]:
    """A line as an object.

    Args:
        line: the line.
        where: its file and number, for errors.

    Raises:
        InputError: it is none.
    """
    try:
        record = json.loads(line)
    except json.JSONDecodeError as error:
        raise InputError(
            f"{where}: not JSON ({error.msg} at character {error.pos + 1}): {line[:60]!r}. "
            "Every line must be one JSON object."
        ) from None
    except (RecursionError, ValueError) as error:  # a number of thousands of digits
        raise InputError(f"{where}: cannot be read as JSON ({error}): {line[:60]!r}.") from None
    if not isinstance(record, dict):
        raise InputError(f"{where}: a JSON object is wanted, not {line[:60]!r}.")
    return record


def value_of(record: dict[str, Any], name: str, where: str) -> Any:
    """What stands inside a record; dots lead into nested objects ("translation.de")."""
    value: Any = record
    for key in [name] if name in record else name.split("."):
        if not isinstance(value, dict) or key not in value:
            raise InputError(f"{where}: no field {name!r}; the record has {sorted(record)}.")
        value = value[key]
    return value


def member(record: dict[str, Any], name: str, where: str) -> str:
    """A text inside a record, see :func:`value_of`."""
    value = value_of(record, name, where)
    if not isinstance(value, str):
        raise InputError(f"{where}: field {name!r} is {value!r}, where a text is wanted.")
    try:
        value.encode()
    except UnicodeEncodeError as error:
        raise InputError(f"{where}: field {name!r} holds half a character: {error}.") from None
    return value
