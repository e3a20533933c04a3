"""Arguments of a task in the one form that YAML and checkpoints both hold."""

from __future__ import annotations

import dataclasses
from typing import Any

from lit_lm.models.base import Architecture


def plain(value: Any) -> Any:
    """Configuration dataclasses as the plain types that YAML and checkpoints hold.

    An architecture becomes ``{"class_path": ..., "init_args": ...}``, any other dataclass a dict.
    """
    if isinstance(value, Architecture):
        kind = type(value)
        return {"class_path": f"{kind.__module__}.{kind.__qualname__}", "init_args": _fields(value)}
    if dataclasses.is_dataclass(value) and not isinstance(value, type):
        return _fields(value)
    return list(value) if isinstance(value, tuple) else value


def _fields(value: Any) -> dict[str, Any]:
    return {f.name: plain(getattr(value, f.name)) for f in dataclasses.fields(value)}
