"""Which learning curves are drawn together: only those in one unit, of one league."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from lit_lm.compare.columns import Row

# What can be chosen, and how it is called; a chart that lacks the chosen one shows its own first.
METRICS = {"bpb": "bits per byte", "loss": "loss", "accuracy": "accuracy"}


@dataclass(frozen=True)
class Kind:
    """One sort of chart.

    Args:
        title: behind the league's name; empty for what the whole league is about.
        needs: the curve that a member must have to be in it.
        curves: for each of ``METRICS`` that it can show, the curve and what its axis says.
        remark: below the chart.
    """

    title: str
    needs: str
    curves: dict[str, tuple[str, str]]
    remark: str = ""


KINDS = (
    Kind(
        "",
        # A masked model has a val/loss too, in another unit; bits per byte it has not.
        needs="val/bpb",
        curves={
            "bpb": ("val/bpb", "bits per byte"),
            "loss": ("val/loss", "loss, nats per token"),
            "accuracy": ("val/accuracy", "tokens guessed right"),
        },
    ),
    Kind(
        "filling gaps",
        needs="val/mlm_loss",
        curves={
            "loss": ("val/mlm_loss", "loss, nats per gap"),
            "accuracy": ("val/mlm_accuracy", "gaps filled right"),
        },
        remark="Of hidden tokens only, with both sides in sight: does not compare with a loss over the text.",
    ),
    Kind(
        "telling the next sentence",
        needs="val/nsp_loss",
        curves={
            "loss": ("val/nsp_loss", "loss, nats per pair"),
            "accuracy": ("val/nsp_accuracy", "pairs told right"),
        },
        remark="Whether the second sentence follows the first: a coin gives a loss of 0.693 and 50 %.",
    ),
)


def charts(by_league: dict[str, list[Row]]) -> list[dict[str, Any]]:
    """What the page's script draws."""
    made = [_chart(league, rows, kind) for league, rows in by_league.items() for kind in KINDS]
    return [chart for chart in made if chart["members"]]


def _chart(league: str, rows: list[Row], kind: Kind) -> dict[str, Any]:
    members = [row for row in rows if kind.needs in (row["curves"] or {})]
    logged = {key for row in members for key in row["curves"]}
    shown = {metric: pair for metric, pair in kind.curves.items() if pair[0] in logged}
    return {
        "title": f"{league}: {kind.title}" if kind.title else league,
        "remark": kind.remark,
        "first": next(iter(shown), None),
        "axes": {metric: label for metric, (_, label) in shown.items()},
        "members": [
            {
                "name": row["name"],
                "curves": _picked(shown, row["curves"]),
                "optimum": _picked(shown, row["optimum"]),
            }
            for row in members
        ],
    }


def _picked(shown: dict[str, tuple[str, str]], values: dict[str, Any]) -> dict[str, Any]:
    return {metric: values[key] for metric, (key, _) in shown.items() if key in values}
