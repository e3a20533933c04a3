"""The page: one HTML file that needs nothing else, not even a network."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from pathlib import Path
from typing import Any

from jinja2 import Environment, PackageLoader, StrictUndefined
from markupsafe import Markup
from plotly.offline import get_plotlyjs

from lit_lm.compare.answer import answer
from lit_lm.compare.columns import (
    GROUPS,
    Column,
    Row,
    empty_reason,
    group,
    heading_unit,
    scales,
    winners,
)
from lit_lm.compare.numbers import EMPTY, Scale
from lit_lm.compare.results import budget_text, leagues

_LOG_LINES = 30
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
    here = Path(__file__).parent
    return environment.get_template("page.html.j2").render(
        found=found,
        created=datetime.fromisoformat(found["created"])
        .strftime("%d %B %Y, %H:%M UTC")
        .lstrip("0"),
        budget=budget_text(found["budget"]),
        answer=answer(found),
        tables=tables(found),
        colors={row["name"]: i % 8 for i, row in enumerate(rows)},
        charts=charts(by_league),
        has_curves=any(row["curves"] for row in rows),
        samples={
            league: samples(members) for league, members in by_league.items() if samples(members)
        },
        details=[_details(row, folder) for row in rows],
        hardware=_shared(rows, "hardware"),
        versions=_shared(rows, "versions"),
        style=Markup((here / "page.css").read_text(encoding="utf-8")),
        script=Markup((here / "page.js").read_text(encoding="utf-8")),
        plotly=Markup(get_plotlyjs()),
    )


def tables(found: dict[str, Any]) -> list[dict[str, Any]]:
    """The tables, cell by cell, with numbered reasons for the cells that are empty."""
    scale = scales(found["members"])
    out = []
    for name, title in GROUPS.items():
        columns = group(name)
        notes: list[str] = []
        bodies = []
        for league, rows in leagues(found).items():
            best = {column.key: winners(rows, column) for column in columns}
            body = [
                {
                    "name": row["name"],
                    "failed": row["reason"] if row["status"] == "failed" else None,
                    "cells": [
                        _cell(row, c, scale[c.key], row["name"] in best[c.key], notes)
                        for c in columns
                    ],
                }
                for row in rows
            ]
            bodies.append({"league": league, "rows": body})
        heads = [
            {"title": c.title, "unit": heading_unit(c, scale[c.key]), "help": c.help}
            for c in columns
        ]
        out.append({"title": title, "heads": heads, "bodies": bodies, "notes": notes})
    return out


def charts(by_league: dict[str, list[Row]]) -> list[dict[str, Any]]:
    """What the page's script draws: one chart for each league that has curves."""
    out: list[dict[str, Any]] = []
    for league, rows in by_league.items():
        members = [
            {"name": row["name"], "curves": row["curves"], "optimum": row["optimum"]}
            for row in rows
            if row["curves"]
        ]
        if members:
            out.append({"league": league, "members": members})
    return out


def samples(rows: Sequence[Row]) -> list[dict[str, Any]]:
    """Outputs of a league's members side by side, wherever they were given the same."""
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    for row in rows:
        for sample in row["samples"] or []:
            given = tuple((key, text) for key, text in sample.items() if key != "output")
            output = sample.get("output", "")
            exact = sample.get("reference") == output
            text = output.strip("\n")
            groups.setdefault(given, []).append({"name": row["name"], "text": text, "exact": exact})
    out = []
    for given, outputs in groups.items():
        prompts = [(key, text) for key, text in given if key != "reference"]
        reference = next((text.strip("\n") for key, text in given if key == "reference"), None)
        long = any("\n" in output["text"] or len(output["text"]) > 200 for output in outputs)
        out.append({"given": prompts, "reference": reference, "outputs": outputs, "long": long})
    return out


def _cell(row: Row, column: Column, scale: Scale, best: bool, notes: list[str]) -> dict[str, Any]:
    value = row.get(column.key)
    if value is not None:
        return {"text": scale(value), "best": best, "note": None}
    reason = empty_reason(row, column.key)
    if row["status"] != "failed" and reason not in notes:
        notes.append(reason)
    return {
        "text": EMPTY,
        "best": False,
        "note": notes.index(reason) + 1 if reason in notes else None,
    }


def _details(row: Row, folder: Path) -> dict[str, Any]:
    member = folder / row["name"]
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
