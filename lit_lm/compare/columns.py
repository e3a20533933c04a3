"""What is compared: the columns of every table, and why a cell can be empty."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

from lit_lm.compare.numbers import Kind, Scale, scale

Row = dict[str, Any]


@dataclass(frozen=True)
class Column:
    """One thing that is known of a member.

    Args:
        key: its name in ``results.json`` and in the CSV.
        title: its heading.
        kind: how its numbers are written.
        group: the table it stands in; None for the CSV only.
        better: which value wins inside a league; None where neither is better.
        unit: a unit to be written beside the scale's own.
        help: what it is, in a sentence.
    """

    key: str
    title: str
    kind: Kind
    group: Literal["quality", "cost"] | None
    better: Literal["low", "high"] | None = None
    unit: str = ""
    help: str = ""


COLUMNS = (
    Column(
        "loss",
        "loss",
        "ratio",
        "quality",
        "low",
        "nats/token",
        "mean test cross-entropy per predicted token",
    ),
    Column(
        "bits_per_byte",
        "bits per byte",
        "ratio",
        "quality",
        "low",
        "",
        "test cross-entropy per byte of raw text",
    ),
    Column(
        "perplexity", "perplexity", "ratio", "quality", "low", "", "exp(loss) on the test split"
    ),
    Column(
        "optimal_perplexity",
        "optimum",
        "ratio",
        "quality",
        None,
        "",
        "lowest that this data allows",
    ),
    Column(
        "above_optimum",
        "above optimum",
        "percent",
        "quality",
        "low",
        "",
        "perplexity / optimum - 1",
    ),
    Column(
        "bleu",
        "BLEU",
        "score",
        "quality",
        "high",
        "",
        "of decoded test sentences (sacrebleu, 0 to 100)",
    ),
    Column(
        "exact_match",
        "exact match",
        "percent",
        "quality",
        "high",
        "",
        "test sentences decoded word for word",
    ),
    Column(
        "accuracy",
        "accuracy",
        "percent",
        None,
        "high",
        "",
        "test tokens predicted right given the true past",
    ),
    Column(
        "parameters", "parameters", "count", "cost", None, "", "trainable, shared ones counted once"
    ),
    Column("steps", "steps", "count", None, None, "", "optimizer steps"),
    Column("tokens", "tokens", "count", "cost", None, "", "predicted in training"),
    Column("bytes", "text", "bytes", "cost", None, "", "raw bytes that the tokens stand for"),
    Column(
        "flops",
        "compute",
        "count",
        "cost",
        None,
        "FLOP",
        "of the model, forward and backward, without padding",
    ),
    Column(
        "seconds", "training", "seconds", "cost", None, "", "time in training, without validation"
    ),
    Column(
        "tokens_per_second", "speed", "count", "cost", None, "tokens/s", "tokens / training time"
    ),
    Column(
        "peak_memory_bytes", "peak memory", "bytes", "cost", None, "", "most in use while training"
    ),
    Column(
        "wall_seconds",
        "whole time",
        "seconds",
        None,
        None,
        "",
        "from start to result, everything included",
    ),
)
BY_KEY = {column.key: column for column in COLUMNS}
GROUPS = {"quality": "What it learned", "cost": "What it cost"}

_NO_REFERENCE = "it continues text: there is no reference to score an output against"
_NO_OPTIMUM = "this data does not say which perplexity is possible"


def group(name: str) -> list[Column]:
    """The columns of one table."""
    return [column for column in COLUMNS if column.group == name]


def scales(rows: Sequence[Row]) -> dict[str, Scale]:
    """One scale for each column, over all rows; the two perplexities share theirs."""
    values = {column.key: [row.get(column.key) for row in rows] for column in COLUMNS}
    values["perplexity"] = values["optimal_perplexity"] = (
        values["perplexity"] + values["optimal_perplexity"]
    )
    return {column.key: scale(column.kind, values[column.key]) for column in COLUMNS}


def heading_unit(column: Column, scale: Scale) -> str:
    """The unit under a heading, such as ``M`` or ``k tokens/s``."""
    gap = "" if column.unit == "FLOP" else " "  # TFLOP, but k tokens/s
    return gap.join(part for part in (scale.unit, column.unit) if part)


def winners(rows: Sequence[Row], column: Column) -> set[str]:
    """Names of the rows that are best in a column; none where there is nothing to win."""
    known = [(row[column.key], row["name"]) for row in rows if row.get(column.key) is not None]
    if column.better is None or len(known) < 2:
        return set()
    best = (min if column.better == "low" else max)(value for value, _ in known)
    found = {name for value, name in known if value == best}
    return found if len(found) < len(known) else set()


def empty_reason(row: Row, key: str) -> str:
    """Why a member has no value in a column."""
    if row["status"] == "failed":
        return f"failed: {row['reason']}"
    if key in row.get("not_finite", ()):
        return "not a finite number: training diverged"
    if key in ("bleu", "exact_match") and row["league"] == "language models":
        return _NO_REFERENCE
    if key in ("optimal_perplexity", "above_optimum") and row.get("perplexity") is not None:
        return _NO_OPTIMUM
    if key == "peak_memory_bytes":
        return "this system does not report it"
    return "it was not measured"
