"""How quality goes with size and with compute: power laws over members of one architecture, and who leads at which budget."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Any, NamedTuple

from lit_lm.compare.columns import BY_KEY, Row
from lit_lm.compare.ranking import contests
from lit_lm.compare.results import leagues

_LEAST = 3
"""Sizes of an architecture that a line is fitted to."""

_BUDGETS = 200
_CURVE, _AXIS = "val/bpb", "flops"


class Fit(NamedTuple):
    """A power law, value = factor * size ** exponent, by least squares of logarithms (Kaplan et al. 2020,
    https://arxiv.org/abs/2001.08361, without a floor that no model can get below).

    Args:
        factor, exponent: of the law.
        error: root mean square of the logarithms' errors: 0.01 is one per cent.
    """

    factor: float
    exponent: float
    error: float


class Lead(NamedTuple):
    """Who is best over a stretch of budgets.

    Args:
        name: the member.
        start, end: training FLOPs.
    """

    name: str
    start: float
    end: float


def fit(sizes: Sequence[float], values: Sequence[float]) -> Fit:
    """The power law through points; sizes and values are above 0, and two sizes at least differ."""
    x, y = ([math.log(number) for number in numbers] for numbers in (sizes, values))
    mean_x, mean_y = sum(x) / len(x), sum(y) / len(y)
    exponent = sum((a - mean_x) * (b - mean_y) for a, b in zip(x, y, strict=True)) / sum(
        (a - mean_x) ** 2 for a in x
    )
    offset = mean_y - exponent * mean_x
    errors = [b - offset - exponent * a for a, b in zip(x, y, strict=True)]
    return Fit(math.exp(offset), exponent, math.sqrt(sum(e * e for e in errors) / len(errors)))


def scaling(found: dict[str, Any]) -> list[dict[str, Any]]:
    """For each league what its members reach by their size, with a law for each architecture of three sizes or more; leagues
    without such an architecture are left out.
    """
    out = []
    for rows, key in contests(found):
        families: dict[str, list[Row]] = {}
        for row in rows:
            if row["parameters"] and row[key] and row[key] > 0:
                families.setdefault(row["architecture"], []).append(row)
        fits = {}
        for name, members in families.items():
            sizes = [row["parameters"] for row in members]
            if len(set(sizes)) >= _LEAST:
                fits[name] = fit(sizes, [row[key] for row in members])._asdict()
        if fits:
            points = [
                {
                    "architecture": name,
                    "name": row["name"],
                    "size": row["parameters"],
                    "value": row[key],
                }
                for name, members in families.items()
                for row in sorted(members, key=lambda row: row["parameters"])
            ]
            league = rows[0]["league"]
            label = f"{BY_KEY[key].title}, test"
            out.append({"league": league, "label": label, "points": points, "fits": fits})
    return out


def leads(found: dict[str, Any]) -> dict[str, list[Lead]]:
    """For each league with two members that have a curve of bits per byte, who is best at which training FLOPs: of the values
    that each had reached by then on the validation split. Where nobody has been validated yet nobody leads.
    """
    out = {}
    for league, rows in leagues(found).items():
        curves = {row["name"]: _reached(row) for row in rows}
        curves = {name: points for name, points in curves.items() if points}
        if len(curves) < 2:
            continue
        first = max(points[0][0] for points in curves.values())
        last = max(points[-1][0] for points in curves.values())
        if not 0 < first < last:
            continue
        stretches: list[Lead] = []
        for i in range(_BUDGETS + 1):
            budget = first * (last / first) ** (i / _BUDGETS)
            at = {name: _by(points, budget) for name, points in curves.items()}
            best = min(at, key=at.__getitem__)
            if stretches and stretches[-1].name == best:
                stretches[-1] = stretches[-1]._replace(end=budget)
            else:
                stretches.append(Lead(best, budget, budget))
        out[league] = stretches
    return out


def _reached(row: Row) -> list[tuple[float, float]]:
    """Budgets at which a member was validated, and the best value so far."""
    curve = (row["curves"] or {}).get(_CURVE)
    if curve is None:
        return []
    best, out = math.inf, []
    for budget, value in zip(curve[_AXIS], curve["value"], strict=True):
        if budget is not None and value is not None:
            best = min(best, value)
            out.append((budget, best))
    return sorted(out)


def _by(points: Sequence[tuple[float, float]], budget: float) -> float:
    """The value that was reached by a budget; infinite before the first."""
    known = [value for at, value in points if at <= budget * (1 + 1e-12)]
    return known[-1] if known else math.inf
