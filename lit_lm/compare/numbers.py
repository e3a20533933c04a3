"""Numbers for people: one unit and one number of decimals for a whole column."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

Kind = Literal["count", "bytes", "seconds", "ratio", "percent", "score"]

EMPTY = "–"
_COUNTS = ((1e18, "E"), (1e15, "P"), (1e12, "T"), (1e9, "G"), (1e6, "M"), (1e3, "k"))
_BYTES = ((1024.0**4, "TiB"), (1024.0**3, "GiB"), (1024.0**2, "MiB"), (1024.0, "KiB"))
_SECONDS = ((3600.0, "h"), (60.0, "min"))


@dataclass(frozen=True)
class Scale:
    """How a column of numbers is written.

    Args:
        factor: what one unit is worth.
        unit: its name; empty when there is none.
        decimals: digits after the point.
    """

    factor: float
    unit: str
    decimals: int

    def __call__(self, value: float | None) -> str:
        """The number without its unit; a dash for none."""
        return EMPTY if value is None else f"{value / self.factor:,.{self.decimals}f}"

    def with_unit(self, value: float | None) -> str:
        """The number with its unit, for running text."""
        text = self(value)
        gap = "" if self.unit == "" else "\N{NO-BREAK SPACE}"
        return text if value is None else f"{text}{gap}{self.unit}"


def scale(kind: Kind, values: Sequence[float | None]) -> Scale:
    """A scale for all these values: three significant digits of most, two of the smallest."""
    known = sorted(abs(v) for v in values if v is not None and math.isfinite(v) and v != 0)
    if not known:
        return Scale(0.01 if kind == "percent" else 1.0, "%" if kind == "percent" else "", 0)
    if kind == "percent":
        return Scale(0.01, "%", 1)
    if kind == "score":
        return Scale(1.0, "", 1)
    if kind == "ratio":
        return Scale(1.0, "", _decimals(known[0], 4, 3))
    units = {"count": _COUNTS, "bytes": _BYTES, "seconds": _SECONDS}[kind]
    # Seconds stay seconds for long: runs are compared by them.
    enough = {"count": 1.0, "bytes": 1.0, "seconds": 10.0}[kind]
    middle = known[len(known) // 2]
    factor, unit = next(
        ((f, u) for f, u in units if middle >= enough * f), (1.0, "s" if kind == "seconds" else "")
    )
    if kind == "bytes" and unit == "":
        unit = "B"
    whole = factor == 1.0 and all(float(v).is_integer() for v in known)
    decimals = max(_decimals(known[0] / factor, 2, 2), _decimals(middle / factor, 3, 2))
    return Scale(factor, unit, 0 if whole else decimals)


def one(kind: Kind, value: float | None) -> str:
    """A single number with its unit, for running text."""
    return scale(kind, [value]).with_unit(value)


def compact(value: float) -> str:
    """A count in few characters: 2.0 M, 31 k, 950."""
    for factor, unit in _COUNTS:
        if abs(value) >= factor:
            size = value / factor
            return f"{size:.{1 if abs(size) < 10 else 0}f}\N{NO-BREAK SPACE}{unit}"
    return f"{value:.0f}"


def clock(seconds: float | None) -> str:
    """A duration as 12 s, 3:05 min or 1:02 h; nothing for None."""
    if seconds is None:
        return ""
    if seconds < 60:
        return f"{seconds:.0f} s"
    whole = round(seconds)
    if whole < 3600:
        return f"{whole // 60}:{whole % 60:02d} min"
    return f"{whole // 3600}:{whole % 3600 // 60:02d} h"


def _decimals(smallest: float, digits: int, most: int) -> int:
    return max(0, min(most, digits - 1 - math.floor(math.log10(smallest))))
