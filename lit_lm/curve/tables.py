"""The results as tables, in the terminal and as Markdown, and what is missing in them in words."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from rich.console import Console
from rich.table import Table as Grid
from rich.text import Text

from lit_lm.compare.numbers import EMPTY, compact
from lit_lm.curve.config import METRICS

Row = dict[str, Any]
EXPLAINED = "Mean over seeds on the test split ± half of the 95 % confidence interval of the mean (Student's t over seeds)."
FACTORS = (
    "How many labels from scratch do as well as one label with pre-training (means from scratch made monotone, "
    "interpolated over the logarithm of the number of labels). > and <: only the bound is known from what was run."
)


@dataclass(frozen=True)
class Table:
    """One table of texts.

    Args:
        title: what stands above it.
        heads: one for each column.
        rows: cells; the first is the row's name.
    """

    title: str
    heads: list[str]
    rows: list[list[str]]


def tables(found: Row) -> list[Table]:
    """For each task what was reached, and what pre-training is worth."""
    out = []
    for task in found["tasks"]:
        label, unit = METRICS[task["metric"]]
        points = [point for point in found["points"] if point["task"] == task["name"]]
        heads = ["", *(head(labels, points) for labels in found["labels"])]
        lines = {(point["encoder"], point["start"]): None for point in points}
        cells = {
            (p["encoder"], p["start"], p["labels"]): cell(p, unit, found["seeds"]) for p in points
        }
        rows = [
            [f"{encoder}, {start}", *(cells[encoder, start, n] for n in found["labels"])]
            for encoder, start in lines
        ]
        out.append(Table(f"{task['name']}: {label}", heads, rows))
        worth = [each for each in found["efficiency"] if each["task"] == task["name"]]
        factors = {(each["encoder"], each["labels"]): factor(each) for each in worth}
        rows = [
            [name, *(factors.get((name, n), EMPTY) for n in found["labels"])]
            for name in dict.fromkeys(each["encoder"] for each in worth)
        ]
        if rows:
            out.append(Table(f"{task['name']}: labels saved by pre-training", heads, rows))
    return out


def head(labels: int | str, points: Sequence[Row]) -> str:
    """A number of labels as a heading; of "all" also how many that is."""
    if labels != "all":
        return f"{labels:,}"
    known = next((p["examples"] for p in points if p["labels"] == "all" and p["examples"]), None)
    return "all" if known is None else f"all ({known:,})"


def cell(point: Row, unit: float, seeds: int) -> str:
    """Mean and margin of a point, how many of its runs collapsed or failed, and its seeds so far where some are not run yet."""
    decimals = 1 if unit < 1 else 3
    text = EMPTY if point["mean"] is None else f"{point['mean'] / unit:.{decimals}f}"
    if point["margin"] is not None:
        text += f" ± {point['margin'] / unit:.{decimals}f}"
    counts = [(point["collapsed"], "collapsed"), (point["failed"], "failed")]
    told = [f"{count} {word}" for count, word in counts if count]
    if point["missing"]:
        told.append(f"{len(point['values'])} of {seeds} seeds so far")
    return f"{text} ({', '.join(told)})" if told else text


def factor(each: Row) -> str:
    """A factor of labels saved, with two digits, and whether it is a bound."""
    value = each["factor"]
    number = f"{value:.2g}" if value < 100 else compact(value).replace("\N{NO-BREAK SPACE}", "")
    return {"": "", "more": "> ", "less": "< "}[each["bound"]] + number + "×"


def holes(found: Row) -> list[tuple[str, str]]:
    """Which runs failed, and why: a pair for each line of the plot and each reason."""
    groups: dict[tuple[str, str], list[Row]] = {}
    for row in found["runs"]:
        if row["status"] == "failed":
            groups.setdefault((_line_of(row), row["reason"]), []).append(row)
    return [
        (f"{line}: failed at {_counted(rows, found)}", reason)
        for (line, reason), rows in groups.items()
    ]


def collapses(found: Row) -> list[str]:
    """Which runs collapsed, for each line of the plot."""
    groups: dict[str, list[Row]] = {}
    for row in found["runs"]:
        if row["collapsed"]:
            groups.setdefault(_line_of(row), []).append(row)
    return [f"{line}: collapsed at {_counted(rows, found)}" for line, rows in groups.items()]


def markdown(found: Row) -> str:
    """All tables, what failed and what collapsed."""
    lines = [f"# {found['name']}", ""]
    lines += [f"**{found['unfinished'].capitalize()}.**", ""] if found["unfinished"] else []
    lines += [EXPLAINED, ""]
    for table in tables(found):
        lines += [f"**{table.title}**", ""]
        lines += [_line(table.heads), _line(["---", *["---:"] * (len(table.heads) - 1)])]
        lines += [*map(_line, table.rows), ""]
    if found["efficiency"]:
        lines += [FACTORS, ""]
    lines += _listed("Failed runs, missing in the means:", list(map(": ".join, holes(found))))
    lines += _listed("Collapsed runs (one answer for everything), in the means:", collapses(found))
    lines += _listed("Notes:", found["notes"])
    return "\n".join(lines).rstrip() + "\n"


def print_tables(found: Row, console: Console) -> None:
    """The same in the terminal."""
    for table in tables(found):
        grid = Grid(box=None, pad_edge=False, title=table.title, title_justify="left")
        for i, heading in enumerate(table.heads):
            grid.add_column(Text(heading), justify="right" if i else "left", header_style="dim")
        for row in table.rows:
            grid.add_row(*map(Text, row))
        console.print()
        console.print(grid)
    console.print()
    for line in [EXPLAINED, *([FACTORS] if found["efficiency"] else [])]:
        console.print(Text(line, style="dim"))
    for line in [*collapses(found), *found["notes"]]:
        console.print(Text(line))
    for line, reason in holes(found):
        console.print(Text(f"{line}: {reason}", style="red"))


def _line_of(row: Row) -> str:
    return f"{row['task']}, {row['encoder']} {row['start']}"


def _counted(rows: Sequence[Row], found: Row) -> str:
    """10 labels (2 of 5 runs), 30 labels (1 of 5 runs), of all that are made."""
    line = _line_of(rows[0])
    all_of = Counter(
        row["labels"]
        for row in found["runs"]
        if row["status"] != "not run yet" and _line_of(row) == line
    )
    counts = Counter(row["labels"] for row in rows)
    told = [(n, counts[n]) for n in found["labels"] if counts[n]]
    return ", ".join(f"{n} labels ({count} of {all_of[n]} runs)" for n, count in told)


def _listed(title: str, items: Sequence[str]) -> list[str]:
    return [title, "", *(f"- {item}" for item in items), ""] if items else []


def _line(cells: Sequence[str]) -> str:
    return "| " + " | ".join(cell.replace("|", "\\|").replace("\n", " ") for cell in cells) + " |"
