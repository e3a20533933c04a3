"""A sweep's table: in the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lit_lm.compare.columns import COLUMNS
from lit_lm.compare.numbers import EMPTY, one
from lit_lm.compare.tables import markdown as compared
from lit_lm.sweep.search import short_keys


def print_table(found: dict[str, Any], console: Console) -> None:
    """Prints the members by what they reached."""
    grid = Grid(box=None, pad_edge=False)
    for i, head in enumerate(_heads(found)):
        grid.add_column(
            Text(head), justify="left" if i == 0 else "right", header_style="dim", overflow="fold"
        )
    for i, row in enumerate(rows(found)):
        style = "red" if row["objective"] is None else "bold green" if i == 0 else ""
        grid.add_row(*(Text(cell, style=style) for cell in _cells(found, row)))
    console.print()
    console.print(grid)


def markdown(found: dict[str, Any]) -> str:
    """The table, the best member in bold, and the tables of a comparison below it."""
    heads = _heads(found)
    lines = [_line(heads), _line(["---", *["---:"] * (len(heads) - 1)])]
    for i, row in enumerate(rows(found)):
        cells = _cells(found, row)
        if i == 0 and row["objective"] is not None:
            cells = [f"**{cell}**" for cell in cells]
        lines.append(_line(cells))
    return "\n".join(lines) + "\n\n" + compared(found)


def csv_text(found: dict[str, Any]) -> str:
    """All settings and all columns of a comparison, unrounded; empty cells are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    settings = [str(key) for key in found["sweep"]["parameters"]]
    columns = [column.key for column in COLUMNS]
    writer.writerow(
        ["name", "status", "reason", found["sweep"]["metric"]["name"], *settings, *columns]
    )
    for row in rows(found):
        tried = [row["settings"].get(key) for key in settings]
        values = [row.get(key) for key in ("name", "status", "reason", "objective")]
        values += [*tried, *(row.get(key) for key in columns)]
        writer.writerow(["" if value is None else value for value in values])
    return out.getvalue()


def rows(found: dict[str, Any]) -> list[dict[str, Any]]:
    """Members and runs of agents, the best first."""
    by_name = {row["name"]: row for row in [*found["members"], *found["sweep"]["agents"]]}
    return [by_name[name] for name in found["sweep"]["order"]]


def _heads(found: dict[str, Any]) -> list[str]:
    keys = found["sweep"]["varied"]
    return ["", found["sweep"]["metric"]["name"], *short_keys(keys), "training", "status"]


def _cells(found: dict[str, Any], row: dict[str, Any]) -> list[str]:
    value, seconds = row["objective"], row.get("seconds")
    return [
        row["name"],
        EMPTY if value is None else f"{value:.4g}",
        *(_shown(row["settings"].get(key)) for key in found["sweep"]["varied"]),
        EMPTY if seconds is None else one("seconds", seconds),
        row.get("status") or "agent's",
    ]


def _shown(value: Any) -> str:
    return EMPTY if value is None else f"{value:.6g}" if isinstance(value, float) else str(value)


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
