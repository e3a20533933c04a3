"""The page: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

import base64
from collections.abc import Sequence
from datetime import datetime
from itertools import groupby
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lit_lm.compare.answer import answer
from lit_lm.compare.charts import METRICS, charts
from lit_lm.compare.columns import Group, Row
from lit_lm.compare.differences import differences
from lit_lm.compare.encoders import TITLE, picture
from lit_lm.compare.layout import GROUPS, REMARKS, Table, tables, winners
from lit_lm.compare.numbers import compact
from lit_lm.compare.results import budget_text, join_names, leagues
from lit_lm.compare.samples import samples
from lit_lm.compare.scaling import leads, scaling

_LOG_LINES = 30
_PICTURES = 2
"""Pictures of attention that are shown of each member."""

_MOST_CHARACTERS = 20_000


def render(found: dict[str, Any], folder: Path) -> str:
    """Makes the page.

    Args:
        found: what ``results.json`` holds.
        folder: the comparison's; members' configurations and logs are read from below it.
    """
    environment = Environment(
        loader=PackageLoader("lit_lm.compare", "."),
        autoescape=True,  # sample texts are somebody's data, and can hold anything
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    rows = found["members"]
    by_league = leagues(found)
    drawn = charts(by_league)
    shown = {metric for chart in drawn for metric in chart["axes"]}
    folders = {row["name"]: folder / Path(row["folder"]).name for row in rows}
    laws = scaling(found)
    here = Path(__file__).parent
    return environment.get_template("page.html.j2").render(
        found=found,
        created=datetime.fromisoformat(found["created"])
        .strftime("%d %B %Y, %H:%M UTC")
        .lstrip("0"),
        budget=budget_text(found["budget"], found["parameters"]),
        curves=[{**curve, "picture": picture(curve)} for curve in found["curves"]],
        curves_title=TITLE,
        answer=answer(found),
        groups=[
            _group(name, list(made)) for name, made in groupby(tables(found), lambda t: t.group)
        ],
        colors={row["name"]: i % 8 for i, row in enumerate(rows)},
        charts=drawn,
        metrics={metric: name for metric, name in METRICS.items() if metric in shown},
        samples={
            league: samples(members) for league, members in by_league.items() if samples(members)
        },
        details=[_details(row, folders[row["name"]]) for row in rows],
        differences=differences(folders),
        pictures={
            name: made
            for name, its in folders.items()
            if (made := _pictures(its, _PICTURES if found["samples"] else 0))
        },
        scaling=laws,
        laws=[_law(law) for law in laws],
        leads={league: _leads(its) for league, its in leads(found).items()},
        hardware=_shared(rows, "hardware"),
        versions=_shared(rows, "versions"),
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        script=Markup((here / "page.js").read_text(encoding="utf-8")),
        sorting=Markup((here / "sort.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def _group(name: Group, made: Sequence[Table]) -> dict[str, Any]:
    """All tables of a group, cell by cell."""
    return {
        "title": GROUPS[name],
        "remark": REMARKS.get(name),
        "tables": [_table(table) for table in made],
    }


def _table(table: Table) -> dict[str, Any]:
    notes: list[str] = []
    bodies = []
    for league, rows in table.leagues.items():
        best = {column.key: winners(rows, column) for column in table.columns}
        body = []
        for row in rows:
            failed, whole = row["status"] == "failed", table.whole_reason(row)
            cells = [
                {
                    "text": table.text(row, column),
                    "value": row[column.key],
                    "best": row["name"] in best[column.key],
                    "note": _note(row["empty"].get(column.key), notes) if not whole else None,
                }
                for column in table.columns
            ]
            body.append({"name": row["name"], "failed": failed, "whole": whole, "cells": cells})
        bodies.append({"league": league, "rows": body})
    heads = [
        {"title": column.title, "unit": table.heading_unit(column), "help": column.help}
        for column in table.columns
    ]
    label = f"{GROUPS[table.group]}: {join_names(list(table.leagues))}"
    spread = any(
        row["spread"].get(c.key) is not None
        for rows in table.leagues.values()
        for row in rows
        for c in table.columns
    )
    return {"label": label, "heads": heads, "bodies": bodies, "notes": notes, "spread": spread}


def _note(reason: str | None, notes: list[str]) -> int | None:
    """The number of a reason below the table; a new one is added."""
    if reason is None:
        return None
    if reason not in notes:
        notes.append(reason)
    return notes.index(reason) + 1


def _law(law: dict[str, Any]) -> list[str]:
    """The fitted lines of a league in words."""
    return [
        f"{name}: {its['factor']:.3g} × parameters^{its['exponent']:.3f}, off by {its['error']:.1%} (root mean square)"
        for name, its in law["fits"].items()
    ]


def _leads(stretches: Sequence[Any]) -> str:
    """Who leads when, in a sentence."""
    if len(stretches) == 1:
        return (
            f"{stretches[0].name} leads at every budget from {compact(stretches[0].start)}FLOP on."
        )
    parts = [f"{its.name} up to {compact(its.end)}FLOP" for its in stretches[:-1]]
    return f"{', then '.join(parts)}, and from there {stretches[-1].name}."


def _pictures(folder: Path, most: int) -> list[tuple[str, str]]:
    """Names and data addresses of the pictures that a member's test has left, and of attention at most so many."""
    files = sorted((folder / "attention").glob("test_*.png"))[:most]
    files += [path for path in [folder / "confusion" / "test.png"] if path.is_file()]
    return [
        (path.parent.name, f"data:image/png;base64,{base64.b64encode(path.read_bytes()).decode()}")
        for path in files
    ]


def _details(row: Row, member: Path) -> dict[str, Any]:
    log = _read(member / "log.txt") if row["status"] == "failed" else ""
    return {
        "row": row,
        "config": _read(member / "config.yaml")[:_MOST_CHARACTERS],
        "log": "\n".join(log.splitlines()[-_LOG_LINES:])[-_MOST_CHARACTERS:],
    }


def _read(path: Path) -> str:
    return path.read_text(encoding="utf-8", errors="replace") if path.is_file() else ""


def _shared(rows: Sequence[Row], key: str) -> list[tuple[str, Any]]:
    """Each distinct value with the members it holds for; no names where it holds for all."""
    values: list[Any] = []
    for row in rows:
        if row[key] and row[key] not in values:
            values.append(row[key])
    names = [", ".join(row["name"] for row in rows if row[key] == value) for value in values]
    return [
        ("" if len(values) == 1 else name, value) for name, value in zip(names, values, strict=True)
    ]
