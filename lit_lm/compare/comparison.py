"""From a comparison's YAML to a page: what is run, what comes of it, where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lit_lm.compare.answer import answer
from lit_lm.compare.cluster import Cluster, named
from lit_lm.compare.config import Comparison, load
from lit_lm.compare.display import choose_display
from lit_lm.compare.encoders import encoders
from lit_lm.compare.files import write_json, write_text
from lit_lm.compare.identity import code_digest
from lit_lm.compare.page import render
from lit_lm.compare.plan import (
    Read,
    Run,
    best,
    budget_of,
    find,
    further,
    judge,
    parameters_of,
    read_settings,
    trials,
)
from lit_lm.compare.results import Made, budget_text, results
from lit_lm.compare.runner import MEMBER_COMMAND, Outcome, alone_in, run_jobs
from lit_lm.compare.significance import tests
from lit_lm.compare.tables import csv_text, markdown, print_tables
from lit_lm.errors import FailedRuns


class MembersFailed(FailedRuns):
    """Some members failed; all others ran, and everything was written.

    Attributes:
        page: the page.
        names: the members that failed.
    """

    def __init__(self, page: Path, names: Sequence[str]) -> None:
        super().__init__(f"{', '.join(names)} failed; the rest is in {page}")
        self.page, self.names = page, tuple(names)


def compare(
    config: str, *, jobs: int = 1, fresh: bool = False, executor: str | None = None
) -> Path:
    """Runs the members of a comparison that are missing, and writes its tables and its page.

    Args:
        config: the comparison's YAML: a path, or the name of a shipped one (``compare/builtin``).
        jobs: how many members run at a time.
        fresh: run all members again, also those that are finished; older results are moved aside.
        executor: a YAML that says which cluster runs them: a path, or the name of a shipped one (``executor/slurm``).

    Returns:
        The page.

    Raises:
        InputError: the YAML, or one that it names, cannot be used; nothing was run.
        MembersFailed: after everything else ran and was written.
    """
    return run_comparison(load(find(config)), jobs=jobs, fresh=fresh, cluster=named(executor))


def run_comparison(
    comparison: Comparison,
    *,
    jobs: int = 1,
    fresh: bool = False,
    command: Sequence[str] = MEMBER_COMMAND,
    cluster: Cluster | None = None,
    console: Console | None = None,
    read: Read = read_settings,
) -> Path:
    """As :func:`compare`, for a comparison made in Python.

    Args:
        comparison: what to run.
        jobs: how many members run at a time.
        fresh: run all members again.
        command: starts a member; the path of its ``job.json`` is appended.
        cluster: starts them elsewhere.
        read: reads a member's settings before anything runs.
        console: where progress and tables are shown.
    """
    # Narrower, the tables would lose digits: a line that wraps loses none.
    console = console or Console(width=max(Console().width, 96))
    folder = comparison.folder
    code = code_digest()
    if comparison.parameters is not None:
        console.print(
            Text(
                "Finding the widths that give each member its size; data that was never prepared is prepared first."
            )
        )
    first = trials(comparison, jobs, code, read)
    encoders(
        comparison.curves, comparison.path.parent if comparison.path else None
    )  # mistakes show now
    folder.mkdir(parents=True, exist_ok=True)
    budget = budget_text(budget_of(comparison), parameters_of(comparison))

    def run(runs: Sequence[Run], what: str) -> list[Outcome]:
        display = choose_display(console, f"{comparison.name}: {len(runs)} {what} at {budget}")
        work = [run.job for run in runs]
        return run_jobs(work, display, command=command, cluster=cluster, parallel=jobs, fresh=fresh)

    with alone_in(folder, console):
        outcomes = run(first, "trials" if comparison.learning_rates else "members")
        made = _made(comparison, first, outcomes)
        chosen = {m.member.name: m.chosen.factor for m in made if m.chosen.outcome.result}
        rest = further(comparison, chosen, jobs, code, read)
        if rest:
            more = run(rest, "further seeds")
            made = [
                m._replace(
                    outcomes=[
                        *m.outcomes,
                        *(o for r, o in zip(rest, more, strict=True) if r.member == m.member),
                    ]
                )
                for m in made
            ]
            outcomes += more
        found = results(comparison, made, jobs=jobs, code=code)
        found["tests"] = tests(found)
        page = _write(found, folder)
    _tell(found, outcomes, page, console)
    failed = [outcome.job.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise MembersFailed(page, failed)
    return page


def _made(comparison: Comparison, runs: Sequence[Run], outcomes: Sequence[Outcome]) -> list[Made]:
    """What came of each member's trials, and which of them goes on."""
    out = []
    for member in comparison.members:
        tried = [
            judge(run, outcome)
            for run, outcome in zip(runs, outcomes, strict=True)
            if run.member == member
        ]
        chosen = best(tried)
        out.append(Made(member, tried, chosen, [chosen.outcome]))
    return out


def _write(found: dict[str, Any], folder: Path) -> Path:
    write_json(folder / "results.json", found)
    write_text(folder / "results.csv", csv_text(found))
    write_text(folder / "results.md", markdown(found))
    page = folder / "index.html"
    write_text(page, render(found, folder))
    return page


def _tell(found: dict[str, Any], outcomes: Sequence[Outcome], page: Path, console: Console) -> None:
    print_tables(found, console)
    console.print()
    for sentence in answer(found):
        console.print(Text(sentence))
    for outcome in outcomes:
        if outcome.status == "failed":
            log = outcome.job.folder / "log.txt"
            console.print(
                Text(f"{outcome.job.name} failed: {outcome.reason}\n  see {log}", style="red")
            )
    # Not wrapped, so that it can be clicked and copied.
    console.print(
        Text(f"page:  {page}\nalso:  {page.parent}/results.json, results.csv, results.md"),
        soft_wrap=True,
    )
