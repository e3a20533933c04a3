"""From a sweep's YAML to its table and its page: what is run, what comes of it, where it is written."""

from __future__ import annotations

import shlex
from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lit_lm.compare.cluster import Cluster, named
from lit_lm.compare.comparison import MembersFailed
from lit_lm.compare.config import Comparison
from lit_lm.compare.display import choose_display
from lit_lm.compare.files import write_json, write_text
from lit_lm.compare.forks import CAN_FORK, MEMBER_MODULES, Forks
from lit_lm.compare.identity import code_digest
from lit_lm.compare.page import render
from lit_lm.compare.plan import Read, Run, find, judge, read_settings, trials
from lit_lm.compare.results import Made, results
from lit_lm.compare.runner import MEMBER_COMMAND, Outcome, alone_in, run_jobs
from lit_lm.compare.significance import tests
from lit_lm.sweep.agents import agent_rows
from lit_lm.sweep.config import Sweep, load
from lit_lm.sweep.objective import objective, ranked
from lit_lm.sweep.search import Settings, comparison, flags, settings, varied
from lit_lm.sweep.table import csv_text, markdown, print_table, rows
from lit_lm.sweep.wandb_form import experiment


def sweep(config: str, *, jobs: int = 1, fresh: bool = False, executor: str | None = None) -> Path:
    """Runs the members of a sweep that are missing, and writes its table and its page.

    Args:
        config: the sweep's YAML: a path, or the name of a shipped one (``sweep/builtin_gpt``).
        jobs: how many members run at a time.
        fresh: run all members again, also those that are finished; older results are moved aside.
        executor: a YAML that says which cluster runs them: a path, or the name of a shipped one (``executor/slurm``).

    Returns:
        The page.

    Raises:
        InputError: the YAML, or one that it names, cannot be used; nothing was run.
        MembersFailed: after everything else ran and was written.
    """
    return run_sweep(load(find(config)), jobs=jobs, fresh=fresh, cluster=named(executor))


def run_sweep(
    sweep: Sweep,
    *,
    jobs: int = 1,
    fresh: bool = False,
    command: Sequence[str] = MEMBER_COMMAND,
    cluster: Cluster | None = None,
    console: Console | None = None,
    read: Read = read_settings,
) -> Path:
    """As :func:`sweep`, for a sweep made in Python.

    Args:
        sweep: what to run.
        jobs: how many members run at a time.
        fresh: run all members again.
        command: starts a member; the path of its ``job.json`` is appended.
        cluster: starts them elsewhere.
        read: reads a member's settings before anything runs.
        console: where progress and the table are shown.
    """
    console = console or Console(width=max(Console().width, 96))
    code = code_digest()
    chosen = settings(sweep)
    compared = comparison(sweep, chosen)
    runs = trials(compared, jobs, code, read)
    for i, run in enumerate(runs):
        tagged = {
            **run.job.payload,
            "tags": ["sweep", sweep.name],
            "metrics": [sweep.metric.name],
        }
        runs[i] = replace(run, job=replace(run.job, payload=tagged))
    with alone_in(sweep.folder, console), ExitStack() as stack:
        forks = None
        if CAN_FORK and cluster is None and tuple(command) == MEMBER_COMMAND:
            forks = stack.enter_context(Forks(*MEMBER_MODULES))
        outcomes = run_jobs(
            [run.job for run in runs],
            choose_display(console, f"{sweep.name}: {len(runs)} members"),
            command=command,
            forks=forks,
            cluster=cluster,
            parallel=jobs,
            fresh=fresh,
        )
        found = _found(sweep, compared, chosen, runs, outcomes, jobs, code)
        page = _write(found, sweep.folder)
    _tell(sweep, found, outcomes, page, console)
    failed = [outcome.job.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise MembersFailed(page, failed)
    return page


def _found(
    sweep: Sweep,
    compared: Comparison,
    chosen: Sequence[Settings],
    runs: Sequence[Run],
    outcomes: Sequence[Outcome],
    jobs: int,
    code: str,
) -> dict[str, Any]:
    """A comparison's results, its members sorted, and what each of them tried and reached."""
    tried = [judge(run, outcome) for run, outcome in zip(runs, outcomes, strict=True)]
    made = [
        Made(run.member, [trial], trial, [trial.outcome])
        for run, trial in zip(runs, tried, strict=True)
    ]
    found = results(compared, made, jobs=jobs, code=code)
    for row, its, outcome in zip(found["members"], chosen, outcomes, strict=True):
        row["settings"] = its
        row["objective"] = objective(outcome.result, sweep.metric)
    found["members"] = ranked(found["members"], sweep.metric)
    agents = agent_rows(sweep)
    order = ranked([*found["members"], *agents], sweep.metric)
    found["sweep"] = {
        "method": sweep.method,
        "metric": asdict(sweep.metric),
        "seed": sweep.seed,
        "parameters": [its.key for its in sweep.parameters],
        "varied": varied(sweep),
        "agents": agents,
        "order": [row["name"] for row in order],
    }
    words = ["lit-lm", "sweep", str(sweep.path or sweep.name), *([f"--jobs={jobs}"] * (jobs > 1))]
    found["command"] = shlex.join(words)
    found["notes"].append(f"Members stand in the order of their best {sweep.metric.name}.")
    found["tests"] = tests(found)
    return found


def _write(found: dict[str, Any], folder: Path) -> Path:
    write_json(folder / "results.json", found)
    write_text(folder / "results.csv", csv_text(found))
    write_text(folder / "results.md", markdown(found))
    page = folder / "index.html"
    write_text(page, render(found, folder))
    return page


def _tell(
    sweep: Sweep, found: dict[str, Any], outcomes: Sequence[Outcome], page: Path, console: Console
) -> None:
    print_table(found, console)
    console.print()
    for outcome in outcomes:
        if outcome.status == "failed":
            log = outcome.job.folder / "log.txt"
            console.print(
                Text(f"{outcome.job.name} failed: {outcome.reason}\n  see {log}", style="red")
            )
    best = rows(found)[0]
    if best["objective"] is None:
        console.print(Text(f"No member has a finite {sweep.metric.name}."))
    else:
        words = ["lit-lm", "fit", f"--config={experiment(sweep)}", *flags(best["settings"])]
        reached = f"{sweep.metric.name} {best['objective']:.4g}"
        # Not wrapped, so that it can be copied.
        console.print(
            Text(f"best: {best['name']} with {reached}\n  {shlex.join(words)}"), soft_wrap=True
        )
    console.print(
        Text(f"page:  {page}\nalso:  {page.parent}/results.json, results.csv, results.md"),
        soft_wrap=True,
    )
