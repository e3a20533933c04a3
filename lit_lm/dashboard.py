"""``lit-lm dashboard``: a comparison as a report on W&B, made from its ``results.json``. The runs are there already, or come by
``wandb sync``; the report shows them by league, and says who won.
"""

from __future__ import annotations

import importlib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from lit_lm.compare.answer import answer
from lit_lm.compare.columns import COLUMNS, Row
from lit_lm.compare.curves import AXES
from lit_lm.compare.files import read_json
from lit_lm.compare.ranking import fills
from lit_lm.compare.results import UNKNOWN_LEAGUE, leagues
from lit_lm.errors import InputError

# Learning curves of a league: all of the first three that its members have, else the last one.
_CURVES = ("val/bpb", "val/bleu", "val/mlm_loss")
_ANY_CURVE = "val/loss"
_COSTS = ("flops", "seconds")
# Panels stand on a grid of 24 columns: four in a row.
_ACROSS, _WIDTH, _HEIGHT = 4, 6, 7
_LOGIN = "log in with `wandb login`, or set WANDB_API_KEY"


def dashboard(folder: str | Path, *, entity: str | None = None, project: str = "lit_lm") -> str:
    """Makes the report of a comparison; each call makes a new one.

    Args:
        folder: the comparison's, with its ``results.json``.
        entity: W&B's user or team; None for the one that a login has by default.
        project: the W&B project that its runs are in.

    Returns:
        The report's address.

    Raises:
        InputError: there are no results, wandb-workspaces is not installed, nobody is logged in, or W&B refuses.
    """
    found = read_results(folder)
    reports = _reports()
    import wandb

    try:
        entity = entity or wandb.Api().default_entity
        made = report(reports, found, entity=str(entity), project=project)
        made.save()
        return str(made.url)
    except (wandb.errors.UsageError, wandb.errors.AuthenticationError) as error:
        raise InputError(f"W&B knows no account here ({_first_line(error)}): {_LOGIN}") from error
    except Exception as error:
        if isinstance(error, ValueError) and "not found" in str(error):
            raise InputError(
                f"W&B has no project {entity}/{project}: name the runs' own by --entity and --project, or upload them "
                f"first: wandb sync {folder}/*/wandb/offline-run-*"
            ) from error
        raise InputError(f"W&B did not take the report: {_first_line(error)}") from error


def read_results(folder: str | Path) -> dict[str, Any]:
    """A comparison's results.

    Raises:
        InputError: there are none.
    """
    found = read_json(Path(folder) / "results.json")
    if found is None or not {"name", "members", "budget"} <= found.keys():
        raise InputError(
            f"{folder} holds no results.json of a comparison: give the folder that lit-lm compare wrote, such as "
            "runs/compare/builtin"
        )
    return {"tests": [], "notes": [], **found}


def report(reports: Any, found: dict[str, Any], *, entity: str, project: str) -> Any:
    """The report, not yet saved: the answer, a section for each league, what differs, and the command.

    Args:
        reports: the module ``wandb_workspaces.reports.v2``.
        found: a comparison's results.
        entity: W&B's user or team.
        project: the project of the runs.
    """
    blocks: list[Any] = [reports.P(sentence) for sentence in answer(found)]
    sections = list(_sections(found))
    where = {"entity": entity, "project": project}
    for title, rows in sections:
        runs = _runs(reports, found["name"], title, rows, **where)
        panels = _placed(reports, [*_curves(reports, rows), *_bars(reports, rows)])
        blocks += [reports.H2(title), reports.PanelGrid(runsets=[runs], panels=panels)]
    if sections:
        everyone = [row for _, rows in sections for row in rows]
        runs = _runs(reports, found["name"], "all members", everyone, **where)
        size = {"w": _ACROSS * _WIDTH, "h": 2 * _HEIGHT}
        table, differ = reports.Layout(**size), reports.Layout(**size, y=2 * _HEIGHT)
        panels = [
            reports.WeavePanelSummaryTable(table_name="val/samples", layout=table),
            reports.RunComparer(diff_only="split", layout=differ),
        ]
        blocks += [
            reports.H2("What they write, and what they differ in"),
            reports.PanelGrid(runsets=[runs], panels=panels),
        ]
    if found["notes"]:
        blocks += [reports.H2("Notes"), reports.UnorderedList(items=list(found["notes"]))]
    if "command" in found:
        blocks.append(reports.P(["Made by ", reports.InlineCode(found["command"])]))
    return reports.Report(
        entity=entity,
        project=project,
        title=f"Comparison {found['name']}"[:128],
        description="One budget for all members; made by lit-lm dashboard",
        blocks=blocks,
        width="fluid",
    )


def run_names(row: Row) -> list[str]:
    """The W&B names of a member's runs that count: those with the learning rates that were chosen, of all seeds."""
    factor = row.get("learning_rate") or 1
    first = row["name"] + (f"-x{factor:g}" if factor != 1 else "")
    return [first, *(f"{first}-seed{seed}" for seed in range(1, row.get("seeds") or 1))]


def _sections(found: dict[str, Any]) -> Iterator[tuple[str, list[Row]]]:
    """Members that compare, by league. Those that fill gaps stand apart: their loss is another one."""
    for league, rows in leagues(found).items():
        done = [row for row in rows if row["status"] != "failed"]
        for apart, title in ((False, league), (True, f"{league} that fill gaps")):
            members = [row for row in done if fills(row) == apart]
            if members and league != UNKNOWN_LEAGUE:
                yield title, members


def _runs(reports: Any, group: str, name: str, rows: Sequence[Row], **where: str) -> Any:
    """The runs of members, picked out of the comparison's group."""
    expr = importlib.import_module("wandb_workspaces.expr")
    names = [its for row in rows for its in run_names(row)]
    filters = expr.And(expr.Metric("Group") == group, expr.Metric("Name").isin(names))
    return reports.Runset(name=name, filters=filters, **where)


def _curves(reports: Any, rows: Sequence[Row]) -> list[Any]:
    """How they learned, over each of the common axes."""
    logged = {metric for row in rows for metric in row["curves"] or {}}
    shown = [metric for metric in _CURVES if metric in logged] or [_ANY_CURVE]
    return [
        reports.LinePlot(title=f"{metric} by {axis}", x=axis, y=[metric], **_grouped(rows))
        for metric in shown
        for axis in AXES
    ]


def _bars(reports: Any, rows: Sequence[Row]) -> list[Any]:
    """What they reached on the test split, and at which cost."""
    tested = [
        (f"test/{column.metric}", f" ({column.better}er is better)")
        for column in COLUMNS
        if column.metric and column.better and column.group
        if any(row.get(column.key) is not None for row in rows)
    ]
    return [
        reports.BarPlot(title=f"{metric}{better}", metrics=[metric], **_grouped(rows))
        for metric, better in [*tested, *((cost, "") for cost in _COSTS)]
    ]


def _grouped(rows: Sequence[Row]) -> dict[str, Any]:
    """By job type, which is the architecture: a mean and a band over its seeds. Where two members share an architecture,
    they would be one: each run stands for itself.
    """
    architectures = [row["architecture"] for row in rows]
    if len(set(architectures)) < len(architectures):
        return {}
    return {"groupby": "JobType", "groupby_aggfunc": "mean", "groupby_rangefunc": "minmax"}


def _placed(reports: Any, panels: list[Any]) -> list[Any]:
    for i, panel in enumerate(panels):
        x, y = i % _ACROSS * _WIDTH, i // _ACROSS * _HEIGHT
        panel.layout = reports.Layout(x=x, y=y, w=_WIDTH, h=_HEIGHT)
    return panels


def _reports() -> Any:
    """W&B's library of reports, which is an optional extra.

    Raises:
        InputError: it is not installed.
    """
    try:
        return importlib.import_module("wandb_workspaces.reports.v2")
    except ImportError as error:
        raise InputError(
            f"a report on W&B is made by wandb-workspaces ({error}): install it with pip install 'lit_lm[dashboard]'"
        ) from error


def _first_line(error: Exception) -> str:
    text = re.sub(r"\s+", " ", str(error)).strip()
    return f"{type(error).__name__}: {text[:300]}" if text else type(error).__name__
