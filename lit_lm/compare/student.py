"""Student's t distribution with whole degrees of freedom, and what is inferred from few seeds with it."""

from __future__ import annotations

import math
import statistics
from collections.abc import Sequence


def t_quantile(share: float, freedom: int) -> float:
    """The quantile of Student's t, for shares of a half and more.

    Bisection over the angle arctan(t / sqrt(freedom)), in which the distribution is a finite sum (Abramowitz and
    Stegun 1964, 26.7.3 and 26.7.4).
    """
    low, high = 0.0, math.pi / 2
    for _ in range(60):
        middle = (low + high) / 2
        low, high = (middle, high) if _within(middle, freedom) < 2 * share - 1 else (low, middle)
    return math.tan((low + high) / 2) * math.sqrt(freedom)


def welch(first: Sequence[float], second: Sequence[float]) -> float | None:
    """The two-sided p-value of Welch's t test of equal means (Welch 1947), its degrees of freedom rounded down, which
    makes the value larger, never smaller; None where a side has fewer than two values.
    """
    if min(len(first), len(second)) < 2:
        return None
    parts = [statistics.variance(values) / len(values) for values in (first, second)]
    gap = statistics.mean(first) - statistics.mean(second)
    if not sum(parts):
        return 0.0 if gap else 1.0
    freedom = sum(parts) ** 2 / sum(
        part**2 / (len(values) - 1) for part, values in zip(parts, (first, second), strict=True)
    )
    whole = max(math.floor(freedom), 1)
    angle = math.atan(abs(gap) / math.sqrt(sum(parts)) / math.sqrt(whole))
    return max(1 - _within(angle, whole), 0.0)


def _within(angle: float, freedom: int) -> float:
    """The probability that |t| is at most tan(angle) * sqrt(freedom)."""
    odd = freedom % 2
    term, total = (math.cos(angle) if odd else 1.0), 0.0
    for k in range(1 + odd, freedom, 2):
        total += term
        term *= math.cos(angle) ** 2 * k / (k + 1)
    total *= math.sin(angle)
    return 2 / math.pi * (angle + total) if odd else total
