"""Members of one size: an architecture's widths are scaled until its network has as many parameters as are asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import fields, replace
from functools import cache
from pathlib import Path
from typing import Any, TypeVar

import torch

from lit_lm.compare.config import Parameters
from lit_lm.errors import InputError
from lit_lm.flops import cost
from lit_lm.models.base import Architecture
from lit_lm.specs import DataSpec

_KEY = "model.init_args.net"
_NEAR = 0.03
"""How far from what is asked for a member may be: widths are whole numbers."""
_WIDEST = 1 << 19
A = TypeVar("A", bound=Architecture)


@cache
def size_flags(config: Path, overrides: tuple[str, ...], wanted: Parameters) -> tuple[str, ...]:
    """Flags that give an experiment's network the widths for so many parameters. Prepares its data, if that was not
    done before: the vocabulary is part of the size.
    """
    from lit_lm.settings import parse_experiment

    data, net = parse_experiment([f"--config={config}", *overrides])
    return tuple(differences(net, fitted(net, data.spec, wanted), _KEY))


def fitted(net: A, spec: DataSpec, wanted: Parameters) -> A:
    """The architecture with its widths scaled to a number of parameters.

    Widths are the settings whose names begin with ``d_``. All of them are scaled alike, ``d_model`` in steps of two for each
    attention head; then those inside the layers close the gap that is left.

    Args:
        net: the architecture; its proportions, depth and all else are kept.
        spec: the data's.
        wanted: how many, and what counts.

    Raises:
        InputError: it has no widths, or none of them gives a size within 3 % of what is wanted.
    """
    if not widths(net):
        raise InputError(
            f"parameters: {type(net).__name__} has no setting whose name begins with d_, so nothing that could be made "
            "wider: leave `parameters` out, and give each member the size that it is to have"
        )

    def off(candidate: A) -> float:
        return count(candidate, spec, wanted.embeddings) - wanted.amount

    best = _nearest(lambda k: scaled(net, k), off, 8)
    inner = max(widths(best, inner=True).values(), default=0)
    if inner > 1:
        finer = _nearest(lambda k: scaled(best, 2 * k / inner, inner=True), off, inner // 2)
        best = min(best, finer, key=lambda its: abs(off(its)))
    if abs(off(best)) > _NEAR * wanted.amount:
        what = "" if wanted.embeddings else " without embeddings"
        raise InputError(
            f"parameters: {type(net).__name__} cannot be given {wanted.amount:,.0f} parameters{what}: the nearest that its "
            f"widths allow is {off(best) + wanted.amount:,.0f}. Ask for another number, or change its depth or vocabulary"
        )
    return best


def count(net: Architecture, spec: DataSpec, embeddings: bool = True) -> int:
    """Trainable numbers of an architecture's network, which is not built in memory."""
    with torch.device("meta"):
        network = net.build(spec)
    found = cost(network, 1.0, 1.0)
    return found.parameters - (0 if embeddings else found.embedding_parameters)


def widths(net: Architecture, *, inner: bool = False) -> dict[str, int]:
    """The widths of an architecture by their dotted names; ``inner``: only those inside the layers."""
    out: dict[str, int] = {}
    for field in fields(net):
        value = getattr(net, field.name)
        if isinstance(value, Architecture):
            out |= {f"{field.name}.{name}": its for name, its in widths(value, inner=inner).items()}
        elif field.name.startswith("d_") and not (inner and field.name == "d_model"):
            if field.name == "d_ff" and value is None:
                value = 4 * net.d_model  # type: ignore[attr-defined]
            out |= {field.name: value} if isinstance(value, int) else {}
    return out


def scaled(net: A, factor: float, *, inner: bool = False) -> A:
    """The architecture with its widths times a factor; ``factor`` of all widths counts steps of ``d_model``."""
    changes: dict[str, Any] = {
        field.name: scaled(getattr(net, field.name), factor, inner=inner)
        for field in fields(net)
        if isinstance(getattr(net, field.name), Architecture)
    }
    mine = {name: value for name, value in widths(net, inner=inner).items() if "." not in name}
    if not inner and mine:
        step = 2 * getattr(net, "num_heads", 1)
        factor = step * factor / mine.get("d_model", next(iter(mine.values())))
    changes |= {name: max(2, 2 * round(value * factor / 2)) for name, value in mine.items()}
    return replace(net, **changes)


def _nearest(made: Callable[[int], A], off: Callable[[A], float], guess: int) -> A:
    """Of architectures that grow with a number from 1 on, the one that is off by least."""

    @cache
    def found(k: int) -> float:
        return off(made(k))

    low = high = guess
    while low > 1 and found(low) > 0:
        high, low = low, low // 2
    while found(high) < 0 and max(widths(made(high)).values()) < _WIDEST:
        low, high = high, 2 * high
    while high - low > 1:
        middle = (low + high) // 2
        low, high = (middle, high) if found(middle) < 0 else (low, middle)
    return made(min(low, high, key=lambda k: abs(found(k))))


def differences(before: Architecture, after: Architecture, key: str) -> list[str]:
    """Flags that turn one architecture into the other, of the same class."""
    out = []
    for field in fields(before):
        one, other = getattr(before, field.name), getattr(after, field.name)
        name = f"{key}.init_args.{field.name}"
        if isinstance(one, Architecture):
            out += differences(one, other, name)
        elif one != other:
            out.append(f"--{name}={other}")
    return out
