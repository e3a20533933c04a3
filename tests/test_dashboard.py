"""``lit-lm dashboard`` against a stand-in for W&B's host, which keeps what it is sent."""

from __future__ import annotations

import base64
import json
import sys
import threading
from collections.abc import Iterator
from dataclasses import replace
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
import wandb

from lit_lm import dashboard
from lit_lm.cli import main
from lit_lm.compare import load, plan
from lit_lm.compare.answer import answer
from lit_lm.compare.files import write_json
from lit_lm.compare.results import Made, results
from lit_lm.compare.runner import Outcome
from tests.compare.conftest import BERT, LM, TRANSLATOR, House, read

KEY = "a" * 40


class Host:
    """W&B's GraphQL as far as a report needs it: who is there, which projects, and a view to save."""

    def __init__(self) -> None:
        self.saved: list[dict[str, Any]] = []
        self.keys: set[str] = set()
        self.account: dict[str, Any] | None = {
            "id": "1", "entity": "team", "username": "me", "email": "", "flags": "{}", "teams": {"edges": []},
        }  # fmt: skip
        self.project = "p"

        class Handler(BaseHTTPRequestHandler):
            def answer(handler) -> None:
                body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
                sent = json.loads(body) if handler.path == "/graphql" else {}
                if sent:
                    self.keys.add(handler.headers["authorization"])
                found = self.find(sent.get("query", ""), sent.get("variables") or {})
                content = json.dumps({"data": found}).encode()
                handler.send_response(200)
                handler.send_header("content-type", "application/json")
                handler.send_header("content-length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)

            do_GET = do_POST = answer

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"

    def find(self, query: str, given: dict[str, Any]) -> dict[str, Any]:
        if "upsertView" in query:
            self.saved.append(given)
            project = {"id": "x", "name": given["projectName"], "entityName": given["entityName"]}
            view = {
                "id": "Vmlldzo0Mg==",
                "type": given["type"],
                "description": "",
                "project": project,
            }
            view |= {key: given[key] for key in ("name", "displayName", "spec")}
            return {
                "upsertView": {
                    "view": view | {"updatedAt": "2026-01-01T00:00:00"},
                    "inserted": True,
                }
            }
        if "ProjectInternalId" in query:
            known = given["projectName"] == self.project
            return {"project": {"id": "x", "internalId": "17"} if known else None}
        if "GetProjects" in query:
            node = {"__typename": "Project", "id": "x", "name": self.project, "entityName": "team"}
            node |= {"createdAt": "2026-01-01T00:00:00", "isBenchmark": False, "user": None}
            page = {"__typename": "PageInfo", "endCursor": None, "hasNextPage": False}
            return {"models": {"pageInfo": page, "edges": [{"node": node}]}}
        return {"viewer": self.account} if "viewer" in query else {}


@pytest.fixture
def host(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[Host]:
    host = Host()
    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_BASE_URL", host.url)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_ERROR_REPORTING", "false")
    monkeypatch.setenv("NETRC", str(tmp_path / "netrc"))
    yield host
    wandb.teardown()
    host.server.shutdown()


TESTED = {
    "gpt": {"loss": 1.6, "ppl": 4.95, "bpb": 0.55},
    "bert": {"loss": 0.9, "mlm_loss": 0.8, "mlm_accuracy": 0.7, "pll_ppl": 1.9, "pll_bpb": 0.2},
    "mt": {"loss": 0.1, "ppl": 1.1, "bpb": 0.04, "bleu": 97.0, "exact_match": 0.9},
}
CURVES = {"bert": ["val/loss", "val/mlm_loss"], "gpt": ["val/loss", "val/bpb"]}


@pytest.fixture(scope="module")
def house(tmp_path_factory: pytest.TempPathFactory) -> House:
    """What a comparison leaves, without its runs: three members, and one that failed."""
    house = House(tmp_path_factory.mktemp("house"))
    for name, fake in {"gpt": LM, "bert": BERT, "mt": TRANSLATOR, "broken": LM}.items():
        house.add(name, fake)
    comparison = load(house.write())
    made = []
    for run in plan.trials(comparison, 1, "", read):
        name = run.member.name
        outcome = Outcome(run.job, "failed", reason="status 3")
        if name in TESTED:
            curves = {
                key: {"value": [2.0, 1.0]} for key in CURVES.get(name, ["val/loss", "val/bpb"])
            }
            league = "translators" if name == "mt" else "language models"
            result = {"league": league, "architecture": name.upper(), "flops": 1e9, "seconds": 9.0}
            outcome = Outcome(run.job, "done", {**result, "test": TESTED[name], "curves": curves})
        trial = plan.judge(run, outcome)
        made.append(Made(run.member, [trial], trial, [outcome]))
    house.output.mkdir(parents=True)
    write_json(house.output / "results.json", results(comparison, made))
    return house


def texts(block: Any) -> str:
    if isinstance(block, dict):
        return str(block.get("text", "")) + "".join(texts(b) for b in block.get("children", []))
    return ""


def test_a_report_is_saved(house: House, host: Host, capsys: pytest.CaptureFixture[str]) -> None:
    assert main(["dashboard", str(house.output), "--project", "p"]) == 0
    assert (
        capsys.readouterr().out.strip()
        == f"{host.url}/team/p/reports/Comparison-small--Vmlldzo0Mg=="
    )
    assert host.keys == {"Basic " + base64.b64encode(f"api:{KEY}".encode()).decode()}
    (view,) = host.saved
    assert (view["entityName"], view["projectName"], view["type"]) == ("team", "p", "runs")
    blocks = json.loads(view["spec"])["blocks"]
    found = dashboard.read_results(house.output)
    told = [texts(block) for block in blocks if block["type"] == "paragraph"]
    assert set(answer(found)) <= set(told)
    assert any(found["command"] in text for text in told)

    grids: dict[str, Any] = {}
    for heading, block in pairwise(blocks):
        if block["type"] == "panel-grid":
            grids[texts(heading)] = block["metadata"]
    members = {
        "language models": ["gpt"],
        "language models that fill gaps": ["bert"],
        "translators": ["mt"],
    }
    together = {"What they write, and what they differ in": ["gpt", "bert", "mt"]}
    assert {title: chosen(grid) for title, grid in grids.items()} == members | together

    curves, bars = panels(grids["language models"])
    assert curves == [("val/bpb", axis) for axis in ("tokens", "bytes", "flops", "seconds")]
    assert {"test/loss", "test/bpb", "test/ppl", "flops", "seconds"} == set(bars)
    curves, bars = panels(grids["language models that fill gaps"])
    assert {metric for metric, _ in curves} == {"val/mlm_loss"}
    assert {"test/mlm_accuracy", "test/pll_bpb"} <= set(bars)
    assert "test/loss" not in bars  # a sum of two: no loss over a text
    assert "test/bleu" in panels(grids["translators"])[1]


def chosen(grid: dict[str, Any]) -> list[str]:
    """The names that a grid's runs are picked by, out of the comparison's group."""
    (runs,) = grid["runSets"]
    assert runs["project"] == {"name": "p", "entityName": "team", "id": "17"}
    group, names = runs["filters"]["filters"]
    assert (group["key"]["name"], group["op"], group["value"]) == ("group", "=", "small")
    assert (names["key"]["name"], names["op"]) == ("displayName", "IN")
    return list(names["value"])


def panels(grid: dict[str, Any]) -> tuple[list[tuple[str, str]], list[str]]:
    """Metrics and axes of its line plots, and metrics of its bars; all are by architecture and none lies on another."""
    found = grid["panelBankSectionConfig"]["panels"]
    assert {panel["config"]["groupBy"] for panel in found} == {"jobType"}
    places = [(panel["layout"]["x"], panel["layout"]["y"]) for panel in found]
    assert len(set(places)) == len(places)
    lines = [panel["config"] for panel in found if panel["viewType"] == "Run History Line Plot"]
    bars = [panel["config"] for panel in found if panel["viewType"] == "Bar Chart"]
    curves = [(config["metrics"][0], config["xAxis"]) for config in lines]
    return curves, [config["metrics"][0] for config in bars]


def test_members_of_one_architecture_are_not_one_line() -> None:
    rows = [{"architecture": "GPT"}, {"architecture": "GPT"}, {"architecture": "ELMo"}]
    assert dashboard._grouped(rows) == {}
    assert dashboard._grouped(rows[1:])["groupby"] == "JobType"


def test_runs_are_picked_by_the_names_that_they_have(house: House) -> None:
    comparison = load(house.write())
    comparison = replace(comparison, seeds=3, learning_rates=(0.5, 1.0))
    tried = plan.trials(comparison, 1, "", read)
    for factor in (0.5, 1.0):
        more = plan.further(comparison, {"mt": factor}, 1, "", read)
        runs = [run for run in (*tried, *more) if (run.member.name, run.factor) == ("mt", factor)]
        row = {"name": "mt", "learning_rate": factor, "seeds": 3}
        assert dashboard.run_names(row) == [run.job.name for run in runs]
        assert len(runs) == 3


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["dashboard", *args]) == 2
    return capsys.readouterr().err


def test_what_is_missing_is_said(
    house: House,
    host: Host,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    tmp_path: Path,
) -> None:
    folder = str(house.output)
    assert "results.json" in refused(capsys, str(tmp_path))
    (tmp_path / "results.json").write_text('{"runs": []}')  # of a curve
    assert "lit-lm compare" in refused(capsys, str(tmp_path))
    told = refused(capsys, folder, "--project", "other")
    assert "no project team/other" in told
    assert f"wandb sync {folder}" in told
    host.account = None
    assert "wandb login" in refused(capsys, folder, "--project", "p")
    monkeypatch.delenv("WANDB_API_KEY")
    wandb.teardown()
    assert "wandb login" in refused(capsys, folder, "--project", "p")
    monkeypatch.setitem(sys.modules, "wandb_workspaces.reports.v2", None)
    assert "pip install 'lit_lm[dashboard]'" in refused(capsys, folder)
    assert not host.saved
