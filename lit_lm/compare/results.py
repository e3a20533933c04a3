"""All that a comparison found, in plain types: what ``results.json`` holds, and pages show."""

from __future__ import annotations

import importlib
import math
import shlex
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any

from lit_lm.compare.columns import COLUMNS, Row
from lit_lm.compare.config import Comparison, Member
from lit_lm.compare.empty import empty_reason
from lit_lm.compare.numbers import compact
from lit_lm.compare.runner import Outcome

SCHEMA = 1
UNKNOWN_LEAGUE = "league not known"
_RESULT_KEYS = (
    *(
        "parameters",
        "embedding_parameters",
        "steps",
        "tokens",
        "bytes",
        "flops",
        "seconds",
        "peak_memory_bytes",
    ),
    *(
        "peak_memory_of",
        "wall_seconds",
        "checkpoint",
        "validation",
        "hardware",
        "versions",
        "wandb_url",
    ),
    *("curves", "samples"),
)


def results(
    comparison: Comparison, outcomes: Sequence[Outcome], *, jobs: int = 1, code: str | None = None
) -> dict[str, Any]:
    """Everything that a comparison found.

    Args:
        comparison: what was asked for.
        outcomes: what became of its members, in their order.
        jobs: how many members ran at a time.
        code: digest of the package's code as it is now, to be compared with the members'.
    """
    rows = [_row(m, o) for m, o in zip(comparison.members, outcomes, strict=True)]
    config = str(comparison.path or comparison.name)
    command = ["lit-lm", "compare", config, *([f"--jobs={jobs}"] if jobs > 1 else [])]
    budget = comparison.budget
    return {
        "schema": SCHEMA,
        "name": comparison.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "budget": None if budget is None else {"unit": budget.unit, "amount": budget.amount},
        "overrides": list(comparison.overrides),
        "notes": _notes(rows, outcomes, code),
        "members": rows,
    }


def leagues(found: dict[str, Any]) -> dict[str, list[Row]]:
    """Members by league, in the order of the comparison; those of no known league come last."""
    out: dict[str, list[Row]] = {}
    for row in sorted(found["members"], key=lambda row: row["league"] == UNKNOWN_LEAGUE):
        out.setdefault(row["league"], []).append(row)
    return out


def budget_text(budget: dict[str, Any] | None) -> str:
    """A budget for people, such as "2.0 M tokens"."""
    if budget is None:
        return "each experiment's own length"
    unit = {"flops": "FLOP"}.get(budget["unit"], budget["unit"])
    text = compact(budget["amount"])
    return f"{text}{'' if unit == 'FLOP' and not text[-1].isdigit() else ' '}{unit}"


def _row(member: Member, outcome: Outcome) -> Row:
    result = outcome.result or {}
    test = _tested(result.get("test", {}))
    row: Row = {
        "name": member.name,
        "league": result.get("league") or _league(outcome.job.payload.get("task")),
        "architecture": result.get("architecture") or outcome.job.payload.get("architecture"),
        "status": outcome.status,
        "reason": outcome.reason,
        "config": member.config,
        "overrides": list(member.overrides),
        "folder": str(outcome.job.folder),
        **{c.key: test.get(c.metric) for c in COLUMNS if c.metric},
        **{key: result.get(key) for key in _RESULT_KEYS},
    }
    row["not_finite"] = [c.key for c in COLUMNS if c.metric in test and test[c.metric] is None]
    row["above_optimum"] = _ratio(row["perplexity"], row["optimal_perplexity"], minus=1.0)
    row["tokens_per_second"] = _ratio(row["tokens"], row["seconds"])
    row["optimum"] = _optimum(row)
    row["empty"] = {c.key: empty_reason(row, c.key) for c in COLUMNS if row.get(c.key) is None}
    return row


def _tested(logged: dict[str, float | None]) -> dict[str, float | None]:
    """The test metrics, less a loss that is none over a text: a masked model's, which is a sum of two."""
    return {key: value for key, value in logged.items() if key != "loss" or "ppl" in logged}


def _league(task: str | None) -> str:
    """The league of a member that failed: what its task would have said."""
    module, _, name = (task or "").rpartition(".")
    try:
        kind = getattr(importlib.import_module(module), name)
    except (ImportError, AttributeError, ValueError):
        return UNKNOWN_LEAGUE
    return str(getattr(kind, "league", UNKNOWN_LEAGUE))


def _ratio(above: float | None, below: float | None, minus: float = 0.0) -> float | None:
    return above / below - minus if above is not None and below else None


def _optimum(row: Row) -> dict[str, float]:
    """The best possible value of each validation curve; the test split's where it has none."""
    logged = ((row["curves"] or {}).get("val/optimal_ppl") or {}).get("value") or [
        row["optimal_perplexity"]
    ]
    if not logged[-1]:
        return {}
    loss = math.log(logged[-1])
    per_loss = _ratio(
        row["bits_per_byte"], row["loss"]
    )  # bytes and tokens are the data's, not the model's
    return {"val/loss": loss} | ({"val/bpb": loss * per_loss} if per_loss else {})


def _notes(rows: list[Row], outcomes: Sequence[Outcome], code: str | None) -> list[str]:
    notes = []
    made = {o.job.name: o.result for o in outcomes if o.result}
    if code is not None:
        stale = [name for name, r in made.items() if r.get("code") not in (None, code)]
        if stale:
            notes.append(
                f"{join_names(stale)}: the result is from before a change in lit_lm's own code. "
                "Run again with --fresh to be sure that it still holds."
            )
    beside = [name for name, r in made.items() if (r.get("parallel") or 1) > 1]
    if beside:
        notes.append(
            f"{join_names(beside)}: trained beside other members: "
            "seconds and speed are not those of an idle machine."
        )
    if len({row["hardware"] for row in rows if row["hardware"]}) > 1:
        notes.append("Not all ran on the same hardware: seconds, speed and memory do not compare.")
    if len({row["peak_memory_of"] for row in rows if row["peak_memory_of"]}) > 1:
        notes.append(
            "Peak memory is the GPU's for some members and the whole process's for others."
        )
    if any(row["perplexity"] is not None for row in rows):
        notes.append(
            "Loss and perplexity are per token: they compare members with the same tokenizer. "
            "Bits per byte compare all that have them, inside a league."
        )
    return notes


def join_names(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
