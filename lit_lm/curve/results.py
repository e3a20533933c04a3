"""All that a curve found: the runs one by one, and what they say together, in plain types."""

from __future__ import annotations

import csv
import io
import os
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import asdict
from pathlib import Path
from typing import Any

from lit_lm.compare.runner import Outcome
from lit_lm.curve.analysis import CONFIDENCE, Run, efficiencies, points
from lit_lm.curve.config import Curve
from lit_lm.curve.plan import Planned

SCHEMA = 1
# What says that a run gives one answer for everything: the first of these that its task measures, at this or less, or undefined.
_SPREAD = {"classes_predicted": 1, "entities_predicted": 0, "pearson": 0, "f1": 0}
_NO_WEIGHTS = "it kept no checkpoint, or that is gone (--fresh runs all again)"
_RUN_KEYS = ("task", "encoder", "start", "labels", "seed", "examples", "status", "collapsed")


def run_of(planned: Planned, result: Mapping[str, Any] | None, reason: str | None = None) -> Run:
    """What a result says of the planned run.

    Args:
        planned: the run.
        result: what its process left; None if it failed or is not run yet.
        reason: why it failed.
    """
    examples = None if planned.labels == "all" else planned.labels
    value, collapsed = None, False
    if result is not None:
        test = result["test"]
        examples = result.get("examples") or examples
        spread = next((key for key in _SPREAD if key in test), None)
        told = None if spread is None else test[spread]
        collapsed = spread is not None and (told is None or abs(told) <= _SPREAD[spread])
        value = test.get(planned.task.metric)
        if value is None and collapsed and planned.task.metric in test:
            value = 0.0  # a correlation that is not defined: with one answer, nothing is told apart
        if value is None:
            among = ", ".join(test) or "nothing"
            reason = f"test/{planned.task.metric} is no number, or not measured (measured: {among})"
        elif examples is None:
            value, reason = None, "it does not say how many examples it was trained on"
    return Run(
        planned.task.name,
        planned.encoder.name,
        planned.start,
        planned.labels,
        planned.seed,
        examples=examples,
        value=value,
        collapsed=collapsed and value is not None,
        reason=reason,
    )


def results(
    curve: Curve,
    plan: Sequence[Planned],
    outcomes: Mapping[str, Outcome],
    pretrainings: Sequence[Outcome],
    code: str,
) -> dict[str, Any]:
    """Everything that a curve found, or has found so far.

    Args:
        curve: what was asked for.
        plan: its runs.
        outcomes: what became of their jobs, by name; those that are not there are not run yet.
        pretrainings: what became of the pre-trainings; a run without a job failed with that of its encoder, or waits for it.
        code: digest of the package's code as it is now, to be compared with the runs'.
    """
    failed = {o.job.folder.name: o.reason or _NO_WEIGHTS for o in pretrainings}
    rows, runs = [], []
    for planned in plan:
        result = reason = None
        if planned.job is not None:
            if (outcome := outcomes.get(planned.job.name)) is not None:
                result, reason = outcome.result, outcome.reason
        elif planned.encoder.name in failed:
            reason = f"the pre-training of its encoder failed: {failed[planned.encoder.name]}"
        run = run_of(planned, result, reason)
        runs.append(run)
        rows.append(_row(run, planned, result, curve.folder))
    found = points(runs)
    made = [o.result for o in (*outcomes.values(), *pretrainings) if o.result is not None]
    stale = any(result["code"] != code for result in made)
    note = "Some results were made by other code of lit_lm; --fresh runs all again."
    return {
        "schema": SCHEMA,
        "name": curve.name,
        "tasks": [{"name": task.name, "metric": task.metric} for task in curve.tasks],
        "encoders": [encoder.name for encoder in curve.encoders],
        "starts": list(curve.starts),
        "labels": list(curve.labels),
        "seeds": curve.seeds,
        "confidence": CONFIDENCE,
        "unfinished": _unfinished(runs),
        "notes": [note] if stale else [],
        "pretraining": [_pretraining(outcome, curve.folder) for outcome in pretrainings],
        "points": [
            {**asdict(point), "mean": point.mean, "margin": point.margin} for point in found
        ],
        "efficiency": [{**asdict(each), "factor": each.factor} for each in efficiencies(found)],
        "runs": rows,
    }


def csv_text(found: Mapping[str, Any]) -> str:
    """Every run, unrounded; empty cells are empty."""
    metrics = sorted({key for row in found["runs"] for key in row["test"]})
    out = io.StringIO()
    writer = csv.writer(out, lineterminator="\n")
    ends = ("steps", "seconds", "reason")
    writer.writerow([*_RUN_KEYS, "value", *(f"test/{key}" for key in metrics), *ends])
    for row in found["runs"]:
        cells = [row[key] for key in (*_RUN_KEYS, "value")]
        cells += [row["test"].get(key) for key in metrics] + [row[key] for key in ends]
        writer.writerow(["" if cell is None else cell for cell in cells])
    return out.getvalue()


def _unfinished(runs: Sequence[Run]) -> str | None:
    """How many runs are done, in words; None where none is left to be run."""
    counts = Counter(run.status for run in runs)
    if not counts["not run yet"]:
        return None
    failed = f", {counts['failed']} failed" if counts["failed"] else ""
    missing = counts["not run yet"]
    return (
        f"unfinished: {counts['done']} of {len(runs)} runs are done{failed}, {missing} not run yet"
    )


def _row(
    run: Run, planned: Planned, result: Mapping[str, Any] | None, folder: Path
) -> dict[str, Any]:
    result = result or {}
    return {
        **asdict(run),
        "status": run.status,
        "metric": planned.task.metric,
        "test": result.get("test", {}),
        "steps": result.get("steps"),
        "seconds": result.get("seconds"),
        "parameters": result.get("parameters"),
        "folder": os.path.relpath(planned.folder, folder),
    }


def _pretraining(outcome: Outcome, folder: Path) -> dict[str, Any]:
    result = outcome.result or {}
    return {
        "encoder": outcome.job.folder.name,
        "status": "failed" if outcome.status == "failed" else "done",
        "reason": outcome.reason,
        **{key: result.get(key) for key in ("parameters", "steps", "tokens", "seconds", "test")},
        "folder": os.path.relpath(outcome.job.folder, folder),
    }
