"""From a curve's YAML to its table and its plot: what is run, what comes of it, where it is written."""

from __future__ import annotations

from collections.abc import Sequence
from contextlib import ExitStack
from dataclasses import asdict
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.text import Text

from lit_lm.compare.cluster import Cluster, named
from lit_lm.compare.display import choose_display
from lit_lm.compare.files import write_json, write_text
from lit_lm.compare.forks import CAN_FORK, MEMBER_MODULES, Forks
from lit_lm.compare.identity import code_digest
from lit_lm.compare.plan import find
from lit_lm.compare.runner import MEMBER_COMMAND, Job, Outcome, alone_in, run_jobs
from lit_lm.curve.config import Curve, load
from lit_lm.curve.picture import draw
from lit_lm.curve.plan import plan, pretrainings
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
    """Makes the runs of a curve that are missing, and writes its table and its plot.

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
    plan(curve, dict.fromkeys(before), jobs, code)  # mistakes are found before anything runs
    with alone_in(curve.folder, console), ExitStack() as stack:

        def run(
            work: Sequence[Job], what: str, parallel: int, forks: Forks | None
        ) -> list[Outcome]:
            display = choose_display(console, f"{curve.name}: {len(work)} {what}")
            return run_jobs(
                work,
                display,
                command=command,
                forks=forks,
                cluster=cluster,
                parallel=parallel,
                fresh=fresh,
            )

        # A single pre-training has all cores to itself.
        most = min(jobs, max(len(before), 1))
        made = run(list(before.values()), "pre-trainings", most, None) if before else []
        weights = {outcome.job.folder.name: _checkpoint(outcome) for outcome in made}
        planned = plan(curve, weights, jobs, code)
        work = [each.job for each in planned if each.job is not None]
        forks = None
        if CAN_FORK and cluster is None and tuple(command) == MEMBER_COMMAND:
            forks = stack.enter_context(Forks(*MEMBER_MODULES))
        outcomes = {outcome.job.name: outcome for outcome in run(work, "runs", jobs, forks)}
        found = results(curve, planned, outcomes, made, code)
        plot = _write(found, curve.folder)
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


def _write(found: dict[str, Any], folder: Path) -> Path:
    made = [asdict(table) for table in tables(found)]
    write_json(folder / "results.json", found | {"tables": made})
    write_text(folder / "results.csv", csv_text(found))
    write_text(folder / "results.md", markdown(found))
    plot = folder / "curve.png"
    draw(found, [plot, folder / "curve.svg"])
    return plot
