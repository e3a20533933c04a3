"""What a sweep's members are sorted by."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from typing import Any

from lit_lm.sweep.config import Metric


def best_of(values: Iterable[float | None], metric: Metric) -> float | None:
    """The best of some values; None if there is none."""
    known = [value for value in values if value is not None]
    if not known:
        return None
    return min(known) if metric.goal == "minimize" else max(known)


def objective(result: dict[str, Any] | None, metric: Metric) -> float | None:
    """What a member has reached: the best of its validations, or the last where no curve was kept."""
    result = result or {}
    curve = (result.get("curves") or {}).get(metric.name)
    last = (result.get("validation") or {}).get(metric.name.removeprefix("val/"))
    return best_of(curve["value"] if curve else [last], metric)


def ranked(rows: Sequence[dict[str, Any]], metric: Metric) -> list[dict[str, Any]]:
    """Rows by their ``objective``, the best first; those without one come last, as they were."""
    sign = 1 if metric.goal == "minimize" else -1
    return sorted(
        rows, key=lambda row: (row["objective"] is None, sign * (row["objective"] or 0.0))
    )
