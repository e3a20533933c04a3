"""The plot: a panel for each task, a line for each encoder and start, a band for what the seeds leave open."""

from __future__ import annotations

import math
import textwrap
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_lm.curve.config import METRICS
from lit_lm.curve.tables import collapses, factor, head, holes

Row = dict[str, Any]

# Okabe and Ito's colours, which people with any kind of colour vision tell apart, and a shape beside each.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000")
_MARKERS = ("o", "s", "^", "D", "v", "P", "X")
_DASHES = {"pretrained": "solid", "scratch": (0, (4, 2))}
_ACROSS = 3
"""Panels in a row."""
_MOST_REMARKS = 12
_SIZE = {"left": 0.8, "panel": 4.6, "height": 3.9, "legend": 2.6, "letter": 0.075}
"""In inches; a letter's is that of the small text."""


def draw(found: Row, paths: Sequence[Path]) -> None:
    """Draws what a curve found.

    Args:
        found: as ``results.json`` holds it.
        paths: the files to write; their endings say in which form.
    """
    # Only here: importing it takes half a second. Its pyplot, which keeps figures and changes backends, stays out.
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    across = min(_ACROSS, len(found["tasks"]))
    down = math.ceil(len(found["tasks"]) / across)
    width = _SIZE["panel"] * across + _SIZE["legend"]
    remarks = _remarks(found, int(width / _SIZE["letter"]))
    figure = Figure(
        figsize=(width, _SIZE["height"] * down + 0.16 * len(remarks)), dpi=150, layout="constrained"
    )
    FigureCanvasAgg(figure)
    panels = figure.subplots(down, across, squeeze=False).ravel()
    for panel in panels[len(found["tasks"]) :]:
        panel.set_axis_off()
    for panel, task in zip(panels, found["tasks"], strict=False):
        _panel(panel, task, found)
    figure.legend(handles=_legend(found), loc="outside right upper", fontsize=9, frameon=False)
    text = figure.supxlabel("\n".join(remarks), x=0.01, ha="left", fontsize=8, color="#444444")
    text.set_parse_math(False)
    # The same numbers give the same file.
    with rc_context({"svg.hashsalt": "curve"}):
        for path in paths:
            metadata = {"Date": None} if path.suffix == ".svg" else None
            figure.savefig(path, metadata=metadata)


def _panel(panel: Any, task: Row, found: Row) -> None:
    label, unit = METRICS[task["metric"]]
    points = [point for point in found["points"] if point["task"] == task["name"]]
    panel.set_xscale("log")
    lines = dict.fromkeys((point["encoder"], point["start"]) for point in points)
    for number, (encoder, start) in enumerate(lines):
        its = [p for p in points if (p["encoder"], p["start"]) == (encoder, start)]
        _line(panel, [p for p in its if p["examples"] is not None], unit, number, found)
    panel.set_title(task["name"], loc="left", fontsize=11, fontweight="bold")
    panel.set_ylabel(label, fontsize=9)
    panel.set_xlabel("\n".join(["labelled examples", *_worth(task["name"], found)]), fontsize=9)
    places = {p["labels"]: p["examples"] for p in points if p["examples"] is not None}
    # "all" may stand close to the number before it: a line lower, both can be read.
    names = [("\n" if n == "all" else "") + head(n, points) for n in places]
    panel.set_xticks(list(places.values()), names)
    panel.minorticks_off()
    panel.tick_params(labelsize=8.5)
    panel.grid(alpha=0.25, linewidth=0.6)
    panel.spines[["top", "right"]].set_visible(False)


def _line(panel: Any, points: Sequence[Row], unit: float, number: int, found: Row) -> None:
    if not points:
        return
    encoder, start = points[0]["encoder"], points[0]["start"]
    colour, marker = _look(encoder, found)
    counts = [point["examples"] for point in points]
    # None where no run is done: there the line is broken, not drawn across.
    means = [math.nan if p["mean"] is None else p["mean"] / unit for p in points]
    least = 0.0 if unit < 1 else -1.0  # shares, and correlations
    margins = [math.nan if p["margin"] is None else p["margin"] / unit for p in points]
    # No metric is more than one of its units; of two seeds an interval may reach far beyond that.
    low = [max(mean - margin, least) for mean, margin in zip(means, margins, strict=True)]
    high = [min(mean + margin, 1 / unit) for mean, margin in zip(means, margins, strict=True)]
    panel.fill_between(counts, low, high, color=colour, alpha=0.13, linewidth=0)
    panel.vlines(counts, low, high, color=colour, linewidth=0.8, alpha=0.5)
    panel.plot(counts, means, color=colour, linestyle=_DASHES[start], linewidth=1.6)
    for point, x, y in zip(points, counts, means, strict=True):
        style = {"color": colour, "linestyle": "none"}
        if point["mean"] is None:
            if point["failed"]:  # beside each other where several lines have their hole
                style |= {"marker": "x", "transform": panel.get_xaxis_transform()}
                panel.plot([x], [0.03 + 0.04 * number], markersize=6, **style)
            continue
        inside = "white" if point["failed"] else colour
        if point["missing"]:
            seeds = f"{len(point['values'])}/{found['seeds']}"
            place = {"xytext": (4, 4), "textcoords": "offset points"}
            panel.annotate(seeds, (x, y), **place, fontsize=6.5, color=colour)
        panel.plot([x], [y], marker=marker, markersize=5, markerfacecolor=inside, **style)
        if point["collapsed"]:
            panel.plot([x], [y], marker="o", markersize=11, markerfacecolor="none", **style)


def _legend(found: Row) -> list[Any]:
    from matplotlib.lines import Line2D

    def line(label: str, **style: Any) -> Line2D:
        return Line2D([], [], label=label, **style)

    out = []
    for encoder in found["encoders"]:
        colour, marker = _look(encoder, found)
        out.append(line(encoder, color=colour, marker=marker, markersize=5, linewidth=1.6))
    grey = {"color": "#444444"}
    for start in dict.fromkeys(point["start"] for point in found["points"]):
        name = "from scratch" if start == "scratch" else "pre-trained"
        out.append(line(name, linestyle=_DASHES[start], linewidth=1.6, **grey))
    marks = [
        ("some runs collapsed", "o", 11, any(p["collapsed"] for p in found["points"])),
        ("some runs failed", "s", 5, any(p["failed"] and p["values"] for p in found["points"])),
        ("all runs failed", "x", 6, any(p["failed"] and not p["values"] for p in found["points"])),
    ]
    out += [
        line(
            name, marker=marker, markersize=size, markerfacecolor="white", linestyle="none", **grey
        )
        for name, marker, size, used in marks
        if used
    ]
    return out


def _remarks(found: Row, letters: int) -> list[str]:
    """What the lines and bands are, and every hole, in lines of so many letters."""
    seeds, share = found["seeds"], found["confidence"]
    what = f"Lines: mean over {seeds} seeds. Bands: {share:.0%} confidence interval of the mean"
    remarks = [f"{what} (Student's t)." if seeds > 1 else "One seed: no confidence intervals."]
    if found["unfinished"]:
        remarks = [f"{found['unfinished'].capitalize()}. 1/{seeds}: one seed so far.", *remarks]
    remarks += [f"{line}." for line in [*(line for line, _ in holes(found)), *collapses(found)]]
    wrapped = [line for remark in remarks for line in textwrap.wrap(remark, letters)]
    if len(wrapped) > _MOST_REMARKS:
        wrapped = [*wrapped[: _MOST_REMARKS - 1], "More of this kind: results.md."]
    return wrapped


def _worth(task: str, found: Row) -> list[str]:
    """What pre-training is worth at the fewest labels, for each encoder."""
    worth = [each for each in found["efficiency"] if each["task"] == task]
    if not worth:
        return []
    fewest = min(worth, key=lambda each: each["examples"])["labels"]
    parts = [f"{w['encoder']} {factor(w)}" for w in worth if w["labels"] == fewest]
    text = ", ".join(part.replace(" ", "\N{NO-BREAK SPACE}") for part in parts)
    text = f"at {fewest} labels, saved by pre-training: {text}"
    return textwrap.wrap(text, int(_SIZE["panel"] / _SIZE["letter"]))


def _look(encoder: str, found: Row) -> tuple[str, str]:
    number = found["encoders"].index(encoder)
    return _COLOURS[number % len(_COLOURS)], _MARKERS[number % len(_MARKERS)]
