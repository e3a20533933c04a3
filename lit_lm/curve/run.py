"""From a curve's YAML to its table and its plot: what is run, what comes of it, where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from functools import partial
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lit_lm.compare.cluster import Cluster, named
from lit_lm.compare.display import Display, choose_display
from lit_lm.compare.files import write_json, write_text
from lit_lm.compare.forks import CAN_FORK, MEMBER_MODULES, Forks
from lit_lm.compare.identity import code_digest
from lit_lm.compare.plan import find
from lit_lm.compare.runner import MEMBER_COMMAND, Job, Outcome, alone_in, kept, run_jobs
from lit_lm.curve.config import Curve, load
from lit_lm.curve.picture import draw
from lit_lm.curve.plan import Planned, plan, pretrainings
from lit_lm.curve.results import csv_text, results
from lit_lm.curve.tables import markdown, print_tables, tables
from lit_lm.errors import FailedRuns


class RunsFailed(FailedRuns):
    """Some runs failed; all others ran, and everything was written.

    Attributes:
        plot: the plot, which shows what is missing.
        count: how many runs with labels failed, or were not run because a pre-training failed.
    """

    def __init__(self, plot: Path, count: int, of: int) -> None:
        super().__init__(f"{count} of {of} runs failed; the rest is in {plot}")
        self.plot, self.count = plot, count


def curve(config: str, *, jobs: int = 1, fresh: bool = False, executor: str | None = None) -> Path:
    """Makes the runs of a curve that are missing, and writes its table (also while they run) and its plot (also when stopped).

    Args:
        config: the curve's YAML: a path, or the name of a shipped one (``curve/builtin``).
        jobs: how many runs are made at a time.
        fresh: make all runs again, also those that are finished; older results are moved aside.
        executor: a YAML that says which cluster runs them: a path, or the name of a shipped one (``executor/slurm``).

    Returns:
        The plot, as PNG.

    Raises:
        InputError: the YAML, or one that it names, cannot be used; nothing was run.
        RunsFailed: after everything else ran and was written.
    """
    return run_curve(load(find(config)), jobs=jobs, fresh=fresh, cluster=named(executor))


def run_curve(
    curve: Curve,
    *,
    jobs: int = 1,
    fresh: bool = False,
    command: Sequence[str] = MEMBER_COMMAND,
    cluster: Cluster | None = None,
    console: Console | None = None,
) -> Path:
    """As :func:`curve`, for a curve made in Python.

    Args:
        curve: what to run.
        jobs: how many runs are made at a time.
        fresh: make all runs again.
        command: starts a run; the path of its ``job.json`` is appended.
        cluster: starts them elsewhere.
        console: where progress and tables are shown.
    """
    console = console or Console(width=max(Console().width, 96))
    code = code_digest()
    before = pretrainings(curve, jobs, code)
    found: dict[str, Any] = {}
    run = partial(run_jobs, command=command, cluster=cluster, fresh=fresh)

    def display(work: Sequence[Job], what: str) -> Display:
        return choose_display(console, f"{curve.name}: {len(work)} {what}")

    def planned_with(made: Sequence[Outcome]) -> tuple[list[Planned], list[Job]]:
        weights = {outcome.job.folder.name: _checkpoint(outcome) for outcome in made}
        planned = plan(curve, dict.fromkeys(before) | weights, jobs, code)
        return planned, [each.job for each in planned if each.job is not None]

    def write(
        planned: Sequence[Planned], made: Sequence[Outcome], outcomes: Sequence[Outcome]
    ) -> None:
        by_name = {outcome.job.name: outcome for outcome in outcomes}
        found.update(results(curve, planned, by_name, made, code))
        _write(found, curve.folder)

    def pretrained(made: Sequence[Outcome]) -> None:
        planned, work = planned_with(made)
        write(planned, made, [] if fresh else kept(work))

    planned_with([])  # mistakes are found before anything runs
    with alone_in(curve.folder, console), ExitStack() as stack:
        try:
            work, made = list(before.values()), []
            if work:  # a single pre-training has all cores to itself
                most = min(jobs, len(work))
                made = run(work, display(work, "pre-trainings"), parallel=most, tell=pretrained)
            planned, work = planned_with(made)
            forks = None
            if CAN_FORK and cluster is None and tuple(command) == MEMBER_COMMAND:
                forks = stack.enter_context(Forks(*MEMBER_MODULES))
            tell = partial(write, planned, made)
            tell(run(work, display(work, "runs"), parallel=jobs, forks=forks, tell=tell))
        except KeyboardInterrupt:
            if found.get("unfinished"):
                plot = _draw(found, curve.folder)
                told = f"{found['unfinished'].capitalize()}.\nplot:  {plot}\nalso:  {plot.parent}/results.md"
                console.print(Text(told), soft_wrap=True)
            raise
        plot = _draw(found, curve.folder)
    print_tables(found, console)
    # Not wrapped, so that it can be clicked and copied.
    console.print(
        Text(
            f"plot:  {plot}\nalso:  {plot.parent}/curve.svg, results.json, results.csv, results.md"
        ),
        soft_wrap=True,
    )
    failed = sum(row["status"] == "failed" for row in found["runs"])
    if failed:
        raise RunsFailed(plot, failed, len(planned))
    return plot


def _checkpoint(outcome: Outcome) -> Path | None:
    """The weights that a pre-training left; None where there are none."""
    file = (outcome.result or {}).get("checkpoint_file")
    path = None if file is None else (outcome.job.folder / file).resolve()
    return path if path is not None and path.exists() else None


def _write(found: dict[str, Any], folder: Path) -> None:
    made = [asdict(table) for table in tables(found)]
    write_json(folder / "results.json", found | {"tables": made})
    write_text(folder / "results.csv", csv_text(found))
    write_text(folder / "results.md", markdown(found))


def _draw(found: dict[str, Any], folder: Path) -> Path:
    plot = folder / "curve.png"
    draw(found, [plot, folder / "curve.svg"])
    return plot
