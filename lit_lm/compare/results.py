"""All that a comparison found, in plain types: what ``results.json`` holds, and pages show."""

from __future__ import annotations

import importlib
import math
import shlex
import statistics
from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Any, NamedTuple

from lit_lm.compare.columns import COLUMNS, Row
from lit_lm.compare.config import Comparison, Member
from lit_lm.compare.empty import empty_reason
from lit_lm.compare.encoders import encoders
from lit_lm.compare.numbers import compact, one
from lit_lm.compare.plan import Trial, budget_of, parameters_of
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
    *("curves", "samples", "evaluation"),
)


class Made(NamedTuple):
    """What came of a member.

    Args:
        member: the member.
        trials: of the multiples of its learning rates, with seed 0.
        chosen: the one that went on.
        outcomes: of the chosen one with each seed.
    """

    member: Member
    trials: list[Trial]
    chosen: Trial
    outcomes: list[Outcome]


def results(
    comparison: Comparison, made: Sequence[Made], *, jobs: int = 1, code: str | None = None
) -> dict[str, Any]:
    """Everything that a comparison found.

    Args:
        comparison: what was asked for.
        made: what came of its members, in their order.
        jobs: how many members ran at a time.
        code: digest of the package's code as it is now, to be compared with the members'.
    """
    rows = [_member(its) for its in made]
    if not comparison.samples:
        rows = [row | {"samples": None} for row in rows]
    _part_leagues(rows)
    outcomes = [outcome for its in made for outcome in its.outcomes]
    config = str(comparison.path or comparison.name)
    command = ["lit-lm", "compare", config, *([f"--jobs={jobs}"] if jobs > 1 else [])]
    return {
        "schema": SCHEMA,
        "name": comparison.name,
        "created": datetime.now(UTC).isoformat(timespec="seconds"),
        "command": shlex.join(command),
        "budget": budget_of(comparison),
        "parameters": parameters_of(comparison),
        "seeds": comparison.seeds,
        "learning_rates": list(comparison.learning_rates),
        "overrides": list(comparison.overrides),
        "samples": comparison.samples,
        "notes": _notes(rows, outcomes, code),
        "members": rows,
        "curves": encoders(comparison.curves, comparison.path.parent if comparison.path else None),
    }


def leagues(found: dict[str, Any]) -> dict[str, list[Row]]:
    """Members by league, in the order of the comparison; those of no known league come last."""
    out: dict[str, list[Row]] = {}
    for row in sorted(found["members"], key=lambda row: row["league"] == UNKNOWN_LEAGUE):
        out.setdefault(row["league"], []).append(row)
    return out


def budget_text(budget: dict[str, Any] | None, parameters: dict[str, Any] | None = None) -> str:
    """A budget for people, such as "2.0 M tokens", and the size of members that are all of one."""
    if budget is None:
        text = "each experiment's own length"
    else:
        unit = {"flops": "FLOP"}.get(budget["unit"], budget["unit"])
        text = compact(budget["amount"])
        text += f"{'' if unit == 'FLOP' and not text[-1].isdigit() else ' '}{unit}"
    if parameters is not None:
        what = "" if parameters["embeddings"] else " without embeddings"
        text += f" and {one('count', parameters['amount'])} parameters{what} each"
    return text


def _member(made: Made) -> Row:
    """A member's row: of several seeds the means, with what they are means of."""
    rows = [_row(made.member, outcome) for outcome in made.outcomes]
    done = [row for row in rows if row["status"] != "failed"] or rows
    row = dict(done[0])
    row["values"] = {
        column.key: [its[column.key] for its in done if its[column.key] is not None]
        for column in COLUMNS
    }
    row["spread"] = {}
    for column in COLUMNS:
        values = row["values"][column.key]
        if len(done) > 1 and values:
            row[column.key] = statistics.mean(values)
            if len(values) > 1 and column.better is not None:
                row["spread"][column.key] = statistics.stdev(values)
            row["empty"].pop(column.key, None)
    row["seeds"] = len(rows)
    row["failed_seeds"] = [
        {"run": o.job.name, "reason": o.reason} for o in made.outcomes if o.status == "failed"
    ]
    row["learning_rate"] = made.chosen.factor
    row["trials"] = [{"factor": t.factor, "validation": t.value} for t in made.trials]
    return row


def _part_leagues(rows: list[Row]) -> None:
    """Members that were tested on other text than the first of their league are in a league of their own: their numbers do
    not compare.
    """
    first: dict[str, dict[str, Any]] = {}
    for row in rows:
        tested = row["evaluation"]
        if tested is None:
            continue
        known = first.setdefault(row["league"], {})
        if tested not in known:
            known[tested] = row["name"]
        if list(known).index(tested):
            row["other_text"] = next(iter(known.values()))
            row["league"] = f"{row['league']}, tested on other text ({known[tested]})"


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
    for row in rows:
        for failed in row["failed_seeds"] if row["status"] != "failed" else []:
            notes.append(
                f"{row['name']}: {failed['run']} failed ({failed['reason']}); the means are over the other seeds."
            )
        if "other_text" in row:
            notes.append(
                f"{row['name']} was tested on other text than {row['other_text']}: they are not compared. Give both "
                "experiments the same test files (or validation files, where no test files are given), in the same order."
            )
    if any(len(row["trials"]) > 1 for row in rows):
        chosen = ", ".join(f"{row['name']} {row['learning_rate']:g}" for row in rows)
        count = len(rows[0]["trials"])
        notes.append(
            f"Every member tried {count} multiples of its learning rates with seed 0; chosen by validation: {chosen}."
        )
    return notes


def join_names(names: Sequence[str]) -> str:
    """Names in a sentence."""
    return names[0] if len(names) == 1 else f"{', '.join(names[:-1])} and {names[-1]}"
