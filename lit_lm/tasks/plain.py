"""What a task and its checkpoint share: arguments in the one form that YAML and checkpoints both hold, and weights."""

from __future__ import annotations

import dataclasses
from typing import Any

from torch import nn

from lit_lm.errors import InputError
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


def check_weights(module: nn.Module, checkpoint: dict[str, Any]) -> None:
    """Raises InputError unless a checkpoint's weights are those of ``module``, by name and shape."""
    found, wanted = checkpoint["state_dict"], module.state_dict()
    wrong = [f"it has no {name}" for name in wanted if name not in found]
    wrong += [f"it has {name} besides" for name in found if name not in wanted]
    wrong += [
        f"{name} is {tuple(found[name].shape)} there, {tuple(weight.shape)} here"
        for name, weight in wanted.items()
        if name in found and found[name].shape != weight.shape
    ]
    if wrong:
        more = f" (and {len(wrong) - 3} more)" if len(wrong) > 3 else ""
        raise InputError(
            f"the checkpoint's weights are not this network's: {'; '.join(wrong[:3])}{more}. Give the settings of the "
            "network that it was trained with"
        )
