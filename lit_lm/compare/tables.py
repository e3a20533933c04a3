"""The results as tables: in the terminal, as Markdown and as CSV."""

from __future__ import annotations

import csv
import io
from collections.abc import Sequence
from typing import Any, Literal

from rich.console import Console
from rich.table import Table
from rich.text import Text

from lit_lm.compare.columns import COLUMNS, GROUPS, Row, group, heading_unit, scales, winners
from lit_lm.compare.numbers import EMPTY
from lit_lm.compare.results import leagues

_IDENTITY = ("name", "league", "architecture", "status", "reason", "config")


def print_tables(found: dict[str, Any], console: Console) -> None:
    """Prints the tables, and why cells are empty."""
    scale = scales(found["members"])
    for name, title in GROUPS.items():
        columns = group(name)
        table = Table(
            title=title, title_justify="left", title_style="bold", box=None, pad_edge=False
        )
        table.add_column("", no_wrap=True, overflow="fold")
        for column in columns:
            unit = heading_unit(column, scale[column.key])
            # One word a line, so that a table fits into 80 columns.
            words = "\n".join(column.title.split()) + "\n" * (1 - column.title.count(" "))
            head = Text(f"{words}\n{unit}", justify="right")
            table.add_column(head, justify="right", header_style="dim", no_wrap=True)
        for league, rows in leagues(found).items():
            table.add_row(Text(league, style="italic dim"))
            best = {column.key: winners(rows, column) for column in columns}
            for row in rows:
                cells = [
                    Text(
                        scale[c.key](row.get(c.key)),
                        style="bold green" if row["name"] in best[c.key] else "",
                    )
                    for c in columns
                ]
                table.add_row(
                    Text(f"  {row['name']}", style="red" if row["status"] == "failed" else ""),
                    *cells,
                )
        console.print()
        console.print(table)
    console.print()
    for line in empty_notes([row for row in found["members"] if row["status"] != "failed"]):
        console.print(Text(f"{EMPTY} {line}", style="dim"))


def markdown(found: dict[str, Any]) -> str:
    """The tables as Markdown, the best of each league in bold."""
    scale = scales(found["members"])
    lines = []
    for name, title in GROUPS.items():
        columns = group(name)
        heads = []
        for column in columns:
            unit = heading_unit(column, scale[column.key])
            heads.append(f"{column.title} ({unit})" if unit else column.title)
        lines += [f"**{title}**", "", _markdown_row(["", "league", *heads])]
        lines.append(_markdown_row(["---", "---", *["---:"] * len(columns)]))
        for league, rows in leagues(found).items():
            best = {column.key: winners(rows, column) for column in columns}
            for row in rows:
                texts = [
                    (scale[c.key](row.get(c.key)), row["name"] in best[c.key]) for c in columns
                ]
                cells = [f"**{text}**" if bold else text for text, bold in texts]
                lines.append(_markdown_row([row["name"], league, *cells]))
        lines.append("")
    lines += [f"- {line}" for line in empty_notes(found["members"])]
    return "\n".join(lines).rstrip() + "\n"


def csv_text(found: dict[str, Any]) -> str:
    """All columns, unrounded, in base units (bytes, seconds, shares); empty cells are empty."""
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    keys = [*_IDENTITY, *(column.key for column in COLUMNS)]
    writer.writerow(keys)
    for row in found["members"]:
        writer.writerow(["" if row.get(key) is None else row[key] for key in keys])
    return out.getvalue()


def empty_notes(
    rows: Sequence[Row], groups: Sequence[Literal["quality", "cost"]] = ("quality", "cost")
) -> list[str]:
    """Why cells of these tables are empty, one line for each reason of a member."""
    titles = {c.key: c.title for name in groups for c in group(name)}
    lines = []
    for row in rows:
        reasons: dict[str, list[str]] = {}
        for key, reason in row["empty"].items():
            if key in titles:
                reasons.setdefault(reason, []).append(titles[key])
        for reason, names in reasons.items():
            what = "" if row["status"] == "failed" else f" ({', '.join(names)})"
            lines.append(f"{row['name']}{what}: {reason}")
    return lines


def _markdown_row(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
