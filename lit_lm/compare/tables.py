"""The results as tables: in the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from itertools import groupby
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lit_lm.compare.columns import COLUMNS
from lit_lm.compare.encoders import TITLE
from lit_lm.compare.layout import GROUPS, REMARKS, Table, tables, winners
from lit_lm.compare.numbers import EMPTY

_IDENTITY = ("name", "league", "architecture", "status", "reason", "config")


def print_tables(found: dict[str, Any], console: Console) -> None:
    """Prints the tables, and why cells are empty."""
    width = max(len(row["name"]) for row in found["members"]) + 2
    for name, group in groupby(tables(found), key=lambda table: table.group):
        console.print()
        console.print(Text(GROUPS[name], style="bold"))
        for table in group:
            console.print(_drawn(table, width))
            for line in table.notes():
                console.print(Text(f"{EMPTY} {line}", style="dim"))
        if name in REMARKS:
            console.print(Text(REMARKS[name], style="dim"))


def _drawn(table: Table, width: int) -> Grid:
    out = Grid(box=None, pad_edge=False)
    # As wide in every table, so that members stand below each other.
    out.add_column("", no_wrap=True, overflow="fold", min_width=width)
    height = max(len(column.title.split()) for column in table.columns)
    units = any(table.heading_unit(column) for column in table.columns)
    for column in table.columns:
        # One word a line, so that a table fits into 100 columns.
        words = column.title.split()
        lines = [*[""] * (height - len(words)), *words, *[table.heading_unit(column)] * units]
        head = Text("\n".join(lines), justify="right")
        out.add_column(head, justify="right", header_style="dim", no_wrap=True)
    for league, rows in table.leagues.items():
        out.add_row(Text(league, style="italic dim"))
        best = {column.key: winners(rows, column) for column in table.columns}
        for row in rows:
            cells = [
                Text(
                    table.text(row, column),
                    style="bold green" if row["name"] in best[column.key] else "",
                )
                for column in table.columns
            ]
            style = "red" if row["status"] == "failed" else ""
            out.add_row(Text(f"  {row['name']}", style=style), *cells)
    return out


def markdown(found: dict[str, Any]) -> str:
    """The tables as Markdown, the best of each league in bold."""
    lines = []
    for name, group in groupby(tables(found), key=lambda table: table.group):
        lines += [f"**{GROUPS[name]}**", ""]
        for table in group:
            lines += [*_markdown_table(table), ""]
            lines += [*(f"- {line}" for line in table.notes()), ""] if table.notes() else []
        lines += [REMARKS[name], ""] if name in REMARKS else []
    lines += _curves(found["curves"])
    failed = [row for row in found["members"] if row["status"] == "failed"]
    lines += [f"- {row['name']} failed: {row['reason']}" for row in failed]
    return "\n".join(lines).rstrip() + "\n"


def _curves(curves: Sequence[dict[str, Any]]) -> list[str]:
    """The league of the encoders."""
    lines = [f"**{TITLE}**", ""] if curves else []
    for curve in curves:
        lines += [f"{curve['name']}: {curve['missing']}.", ""] if curve["missing"] else []
        for table in curve["tables"]:
            rows = [table["heads"], ["---", *["---:"] * (len(table["heads"]) - 1)], *table["rows"]]
            lines += [f"{curve['name']}, {table['title']}", "", *map(_markdown_row, rows), ""]
    return lines


def _markdown_table(table: Table) -> list[str]:
    heads = []
    for column in table.columns:
        unit = table.heading_unit(column)
        heads.append(f"{column.title} ({unit})" if unit else column.title)
    lines = [
        _markdown_row(["", "league", *heads]),
        _markdown_row(["---", "---", *["---:"] * len(heads)]),
    ]
    for league, rows in table.leagues.items():
        best = {column.key: winners(rows, column) for column in table.columns}
        for row in rows:
            texts = [(table.text(row, c), row["name"] in best[c.key]) for c in table.columns]
            cells = [f"**{text}**" if bold else text for text, bold in texts]
            lines.append(_markdown_row([row["name"], league, *cells]))
    return lines


def csv_text(found: dict[str, Any]) -> str:
    """All columns, unrounded, in base units (bytes, seconds, shares); empty cells are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [*_IDENTITY, *(column.key for column in COLUMNS)]
    writer.writerow(keys)
    for row in found["members"]:
        writer.writerow(["" if row.get(key) is None else row[key] for key in keys])
    return out.getvalue()


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
