"""What stands in which table: the same for the terminal, for Markdown and for the page."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from lit_lm.compare.columns import COLUMNS, Column, Group, Row
from lit_lm.compare.numbers import Scale, scale
from lit_lm.compare.results import join_names, leagues

GROUPS: dict[Group, str] = {
    "quality": "What it learned",
    "gaps": "What it fills in",
    "cost": "What it cost",
}
# What must be known before anybody reads a number of the group.
REMARKS: dict[Group, str] = {
    "gaps": "A lone gap is guessed with all other tokens in sight, before and behind it. "
    "What is called pseudo comes from such guesses: it is no probability of a text, "
    "and does not compare with perplexity or bits per byte."
}
_ONE_SCALE = (
    ("perplexity", "optimal_perplexity", "forward_perplexity", "backward_perplexity"),
    ("pseudo_perplexity", "optimal_pseudo_perplexity"),
)


@dataclass(frozen=True)
class Table:
    """Columns, and the leagues that have values in them.

    Args:
        group: what it is about.
        columns: those in which some member of each league has a value.
        leagues: members by league, the failed ones too.
        scales: how the numbers of each column are written.
    """

    group: Group
    columns: tuple[Column, ...]
    leagues: dict[str, list[Row]]
    scales: dict[str, Scale]

    def heading_unit(self, column: Column) -> str:
        """The unit under a heading, such as ``M`` or ``k tokens/s``."""
        gap = "" if column.unit == "FLOP" else " "  # TFLOP, but k tokens/s
        return gap.join(part for part in (self.scales[column.key].unit, column.unit) if part)

    def text(self, row: Row, column: Column) -> str:
        """A cell: of several seeds the mean, and their standard deviation."""
        scale, spread = self.scales[column.key], row["spread"].get(column.key)
        return scale(row[column.key]) + (f" ± {scale(spread)}" if spread is not None else "")

    def whole_reason(self, row: Row) -> str | None:
        """Why a member has no value at all here, if that has one reason."""
        reasons = {row["empty"].get(column.key) for column in self.columns}
        return reasons.pop() if len(reasons) == 1 else None

    def notes(self) -> list[str]:
        """Why cells are empty, one line for each reason; failed members have a place of their own."""
        names: dict[tuple[str, str], list[str]] = {}
        for row in (row for rows in self.leagues.values() for row in rows):
            if row["status"] == "failed":
                continue
            reasons: dict[str, list[str]] = {}
            for column in self.columns:
                if column.key in row["empty"]:
                    reasons.setdefault(row["empty"][column.key], []).append(column.title)
            for reason, titles in reasons.items():
                what = "" if self.whole_reason(row) else f" ({', '.join(titles)})"
                names.setdefault((what, reason), []).append(row["name"])
        return [f"{join_names(who)}{what}: {reason}" for (what, reason), who in names.items()]


def tables(found: dict[str, Any]) -> list[Table]:
    """The tables in order. Each league has its own columns; leagues with the same ones share a table."""
    scale = scales(found["members"])
    out = []
    for name in GROUPS:
        shared: dict[tuple[Column, ...], dict[str, list[Row]]] = {}
        for league, rows in leagues(found).items():
            columns = tuple(
                column
                for column in COLUMNS
                if column.group == name and any(row[column.key] is not None for row in rows)
            )
            if columns:
                shared.setdefault(columns, {})[league] = rows
        out += [Table(name, columns, rows, scale) for columns, rows in shared.items()]
    return out


def scales(rows: Sequence[Row]) -> dict[str, Scale]:
    """One scale for each column, over all rows; all kinds of perplexity that compare share theirs."""
    values = {column.key: [row.get(column.key) for row in rows] for column in COLUMNS}
    for keys in _ONE_SCALE:
        together = [value for key in keys for value in values[key]]
        values |= dict.fromkeys(keys, together)
    return {column.key: scale(column.kind, values[column.key]) for column in COLUMNS}


def winners(rows: Sequence[Row], column: Column) -> set[str]:
    """Names of the rows that are best in a column; none where there is nothing to win."""
    known = [(row[column.key], row["name"]) for row in rows if row.get(column.key) is not None]
    if column.better is None or len(known) < 2:
        return set()
    best = (min if column.better == "low" else max)(value for value, _ in known)
    found = {name for value, name in known if value == best}
    return found if len(found) < len(known) else set()
