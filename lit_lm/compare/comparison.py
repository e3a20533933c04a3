"""From a comparison's YAML to a page: what is run, what comes of it, where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lit_lm import configs
from lit_lm.compare.answer import answer
from lit_lm.compare.config import Comparison, Member, load
from lit_lm.compare.display import choose_display
from lit_lm.compare.files import write_json, write_text
from lit_lm.compare.identity import (
    architecture,
    code_digest,
    identity,
    package_version,
    read_config,
    task,
)
from lit_lm.compare.page import render
from lit_lm.compare.results import budget_text, results
from lit_lm.compare.runner import MEMBER_COMMAND, Job, Outcome, alone_in, run_jobs
from lit_lm.compare.tables import csv_text, markdown, print_tables

_SAMPLES = 6
_SUFFIXES = ("", ".yaml", ".yml")


class MembersFailed(RuntimeError):
    """Some members failed; all others ran, and everything was written.

    Attributes:
        page: the page.
        names: the members that failed.
    """

    def __init__(self, page: Path, names: Sequence[str]) -> None:
        super().__init__(f"{', '.join(names)} failed; the rest is in {page}")
        self.page, self.names = page, tuple(names)


def compare(config: str, *, jobs: int = 1, fresh: bool = False) -> Path:
    """Runs the members of a comparison that are missing, and writes its tables and its page.

    Args:
        config: the comparison's YAML: a path, or the name of a shipped one (``compare/builtin``).
        jobs: how many members run at a time.
        fresh: run all members again, also those that are finished; older results are moved aside.

    Returns:
        The page.

    Raises:
        InputError: the YAML, or one that it names, cannot be used; nothing was run.
        MembersFailed: after everything else ran and was written.
    """
    return run_comparison(load(find(config)), jobs=jobs, fresh=fresh)


def run_comparison(
    comparison: Comparison,
    *,
    jobs: int = 1,
    fresh: bool = False,
    command: Sequence[str] = MEMBER_COMMAND,
    console: Console | None = None,
) -> Path:
    """As :func:`compare`, for a comparison made in Python.

    Args:
        comparison: what to run.
        jobs: how many members run at a time.
        fresh: run all members again.
        command: starts a member; the path of its ``job.json`` is appended.
        console: where progress and tables are shown.
    """
    # Narrower, the tables would lose digits: a line that wraps loses none.
    console = console or Console(width=max(Console().width, 96))
    folder = comparison.folder
    code = code_digest()
    work = [_job(comparison, member, jobs, code) for member in comparison.members]
    display = choose_display(
        console, f"{comparison.name}: {len(work)} members at {budget_text(_plain(comparison))}"
    )
    with alone_in(folder, console):
        outcomes = run_jobs(work, display, command=command, parallel=jobs, fresh=fresh)
        found = results(comparison, outcomes, jobs=jobs, code=code)
        page = _write(found, folder)
    _tell(found, outcomes, page, console)
    failed = [outcome.job.name for outcome in outcomes if outcome.status == "failed"]
    if failed:
        raise MembersFailed(page, failed)
    return page


def find(name: str, beside: Path | None = None) -> Path:
    """A YAML by path or by name.

    Args:
        name: a path, with or without ``.yaml``, or the name of a shipped configuration.
        beside: a folder that relative names are also looked for in.
    """
    for folder in [Path(), *([beside] if beside else [])]:
        for suffix in _SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
    return configs.find(name)


def _job(comparison: Comparison, member: Member, parallel: int, code: str) -> Job:
    path = find(member.config, comparison.path.parent if comparison.path else None).resolve()
    config, files = read_config(path)
    files += [
        default for default in [configs.shipped() / "trainer" / "default.yaml"] if default.is_file()
    ]
    overrides = [*comparison.overrides, *member.overrides]
    budget = _plain(comparison)
    return Job(
        name=member.name,
        folder=(comparison.folder / member.name).resolve(),
        identity=identity(files, overrides, budget=budget, version=package_version()),
        payload={
            "config": str(path),
            "overrides": overrides,
            "budget": budget,
            "group": comparison.name,
            "architecture": architecture(config) or member.name,
            "task": task(config),
            "tags": ["compare", comparison.name],
            "samples": _SAMPLES,
            "code": code,
            "parallel": parallel,
        },
    )


def _plain(comparison: Comparison) -> dict[str, Any] | None:
    budget = comparison.budget
    return None if budget is None else {"unit": budget.unit, "amount": budget.amount}


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
