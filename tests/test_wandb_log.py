"""W&B that raises, refuses, hangs or is away: training goes on, and what was lost is said."""

from __future__ import annotations

import json
import socket
import sys
import threading
import time
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any

import pytest
import wandb

from lit_lm import wandb_log
from lit_lm.callbacks import Samples
from lit_lm.runs import RunConfig
from lit_lm.wandb_log import WandbLog
from tests import tiny
from tests.fake_wandb import FakeRun, FakeWandb, history_steps, offline_runs


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path)
    return tmp_path


def train(folder: Path, logger: WandbLog, **settings: Any) -> Any:
    """A few steps with validations and tables of samples."""
    logger.experiment.config.update({}, allow_val_change=True)
    task, data = tiny.make("causal", folder)
    settings = {"max_steps": 6, "val_check_interval": 2, "log_every_n_steps": 1, **settings}
    run = tiny.trainer(folder, logger=logger, callbacks=[Samples(2)], **settings)
    run.fit(task, data)
    run.test(task, data, verbose=False)
    assert run.fit_loop.epoch_loop.global_step == settings["max_steps"]
    return run


def logger(folder: Path, mode: str = "online", wandb_id: str | None = None) -> WandbLog:
    resumed = {} if wandb_id is None else {"wandb_id": wandb_id}
    (_, found) = RunConfig(dir=str(folder), wandb=mode).loggers("fit", resumed)  # type: ignore[arg-type]
    assert isinstance(found, WandbLog)
    return found


def test_each_step_is_one_row(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(monkeypatch)
    train(folder, logger(folder))
    steps = [step for step, _ in fake.run.rows]
    assert None not in steps
    assert steps == sorted(steps)  # W&B drops a row that goes back
    together: dict[Any, dict[str, Any]] = {}
    for step, row in fake.run.rows:
        together.setdefault(step, {}).update(row)
        assert row["trainer/global_step"] == step
    samples = [step for step, row in together.items() if "val/samples" in row]
    assert samples == [step for step, row in together.items() if "val/loss" in row]
    assert len(samples) == 3
    assert sum("train/loss" in row for row in together.values()) == 6


def test_a_late_row_is_not_lost(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(monkeypatch)
    log = logger(folder)
    log.log_metrics({"a": 1.0}, 5)
    log.log_metrics({"b": 2.0}, 4)  # Lightning logs the means of an epoch so
    log.log_metrics({"c": 2.0})
    assert [step for step, _ in fake.run.rows] == [5, 5, None]
    assert fake.run.rows[1][1] == {"b": 2.0, "trainer/global_step": 4}


def test_a_run_is_gone_on_with(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(monkeypatch)
    log = logger(folder, wandb_id="abc123")
    log.log_metrics({"a": 1.0}, 0)
    assert fake.calls[0]["id"] == "abc123"
    assert fake.calls[0]["resume"] == "allow"
    assert log.version == "abc123"


@pytest.mark.parametrize("what", ["log", "config", "define_metric"])
def test_a_call_that_raises_is_reported_once_and_counted(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(monkeypatch)
    log = logger(folder)
    assert log.experiment.id == "fresh"
    fake.run.broken.add(what)
    with pytest.warns(UserWarning, match="W&B") as warnings:
        train(folder, log)
    told = [str(w.message) for w in warnings if "W&B" in str(w.message)]
    assert sum(f"OSError: {what}: no space left" in text for text in told) == 1
    assert log._failed >= 2 or what != "log"


def test_after_a_table_that_failed_there_is_a_pause(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(monkeypatch)
    log = logger(folder)
    log.log_table("t", ["a"], [[1]], step=0)
    fake.run.broken.add("log")
    with pytest.warns(UserWarning, match="a call failed"):
        log.log_table("t", ["a"], [[1]], step=1)
    fake.run.broken.clear()
    log.log_table("t", ["a"], [[1]], step=2)
    log.log_metrics({"a": 1.0}, 2)
    log._tables_after = 0.0
    log.log_table("t", ["a"], [[1]], step=3)
    assert [step for step, _ in fake.run.rows] == [0, 2, 3]
    assert log._failed == 2


def test_pictures_are_logged_or_reported(folder: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    fake = FakeWandb(monkeypatch)
    monkeypatch.setattr(wandb, "Image", lambda picture, **kwargs: f"picture of {picture}")
    log = logger(folder)
    log.log_image("val/attention_0", ["a.png"], step=3)
    picture = {"val/attention_0": ["picture of a.png"], "trainer/global_step": 3}
    assert fake.run.rows == [(3, picture)]

    def broken(picture: str, **kwargs: Any) -> None:
        raise OSError("no such picture")

    monkeypatch.setattr(wandb, "Image", broken)
    with pytest.warns(UserWarning, match="OSError: no such picture"):
        log.log_image("val/attention_0", ["a.png"], step=4)
    assert len(fake.run.rows) == 1


@pytest.mark.parametrize("offline", [None, RuntimeError("disk")])
def test_a_run_that_cannot_start_falls_back(
    offline: Any, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(monkeypatch, online=TimeoutError("no answer"), offline=offline)
    log = logger(folder)
    with pytest.warns(UserWarning, match="W&B") as warnings:
        train(folder, log)
    told = "\n".join(str(w.message) for w in warnings if "W&B" in str(w.message))
    assert told.count("TimeoutError: no answer") == 1
    assert told.count("RuntimeError: disk") == (0 if offline is None else 1)
    assert [c["mode"] for c in fake.calls] == [None, "offline"]
    if offline is None:
        assert fake.run.rows
        assert "wandb sync" in told
    else:
        log.experiment.config.update({"a": 1})
        log.experiment.define_metric("a")
        assert log.version is None
        assert log.experiment.url is None
        assert "metrics.csv" in told


def test_a_run_of_the_users_own_is_used_and_ours_is_not_mixed(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(monkeypatch)
    finished = []
    monkeypatch.setattr(wandb, "finish", lambda: finished.append(wandb.run))
    theirs = FakeRun(set(), "sweep")
    monkeypatch.setattr(wandb, "run", theirs)
    assert logger(folder).experiment.id == "sweep"
    assert not fake.calls
    monkeypatch.setattr(wandb, "run", None)
    assert logger(folder).experiment.id == "fresh"
    monkeypatch.setattr(wandb, "run", fake.run)  # as wandb.init leaves it
    one = fake.run
    logger(folder).log_metrics({"a": 1.0}, 0)
    assert finished == [one]
    assert not one.rows


class Server:
    """Answers every request with a status; or never; or, while it is ``well``, as much as W&B needs to start a run.

    Args:
        status: of every answer; None for no answer.
        well: whether it starts runs.
    """

    def __init__(self, status: int | None, well: bool = False) -> None:
        self.well = well

        class Handler(BaseHTTPRequestHandler):
            def answer(handler) -> None:
                body = handler.rfile.read(int(handler.headers.get("content-length") or 0))
                if status is None and not self.well:
                    time.sleep(300)
                content = json.dumps({"data": _graphql(body)}).encode()
                handler.send_response(200 if self.well else status or 200)
                handler.send_header("content-type", "application/json")
                handler.send_header("content-length", str(len(content)))
                handler.end_headers()
                handler.wfile.write(content)

            do_GET = do_POST = do_PUT = answer

            def log_message(self, *args: Any) -> None: ...

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.server.daemon_threads = True
        threading.Thread(target=self.server.serve_forever, daemon=True).start()
        self.url = f"http://127.0.0.1:{self.server.server_port}"


def _graphql(body: bytes) -> dict[str, Any]:
    if b"RunResumeStatus" in body:
        return {"model": None}
    if b"upsertBucket" not in body:
        return {}
    project = {"name": "p", "entity": {"name": "e"}}
    bucket = {"id": "x", "name": "r", "displayName": "n", "historyLineCount": 0, "project": project}
    return {"upsertBucket": {"bucket": bucket, "inserted": True}}


def test_a_host_that_refuses_does_not_stop_training(
    folder: Path, real_wandb: pytest.MonkeyPatch
) -> None:
    real_wandb.setattr(wandb_log, "INIT_SECONDS", 3.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        real_wandb.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        start = time.monotonic()
        with pytest.warns(UserWarning, match="cannot be logged online"):
            train(folder, logger(folder))
        wandb.finish()
    assert time.monotonic() - start < 30
    assert len(offline_runs(folder)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("answer", [401, 500, None], ids=str)
def test_a_host_that_answers_badly_does_not_stop_training(
    answer: int | None, folder: Path, real_wandb: pytest.MonkeyPatch
) -> None:
    real_wandb.setenv("WANDB_BASE_URL", Server(answer).url)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="cannot be logged online"):
        train(folder, logger(folder))
    wandb.finish()
    assert time.monotonic() - start < 60
    assert len(offline_runs(folder)) == 1


@pytest.mark.slow
def test_a_key_that_cannot_be_one_does_not_stop_training(
    folder: Path, real_wandb: pytest.MonkeyPatch
) -> None:
    real_wandb.setenv("WANDB_API_KEY", "short")
    with pytest.warns(UserWarning, match="cannot be logged online"):
        train(folder, logger(folder))
    assert len(offline_runs(folder)) == 1


def test_each_step_is_in_the_file_once(folder: Path, real_wandb: pytest.MonkeyPatch) -> None:
    """In what ``wandb sync`` uploads."""
    train(folder, logger(folder, "offline"))
    wandb.finish()
    steps = history_steps(offline_runs(folder)[0], least=6)
    assert steps == sorted(set(steps))
    assert len(steps) >= 6


@pytest.mark.slow
def test_a_host_that_falls_silent_does_not_hold_up_the_end(
    folder: Path, real_wandb: pytest.MonkeyPatch
) -> None:
    """Online at first; then nothing answers: training goes on, and the end waits as long as it may."""
    real_wandb.setattr(wandb_log, "FINISH_SECONDS", 4.0)
    server = Server(None, well=True)
    real_wandb.setenv("WANDB_BASE_URL", server.url)
    log = logger(folder)
    assert log.experiment.url
    assert not offline_runs(folder)
    server.well = False
    start = time.monotonic()
    train(folder, log)
    assert time.monotonic() - start < 30  # only the first of three tables waits
    start = time.monotonic()
    wandb.finish()
    assert time.monotonic() - start < 15
    (file,) = folder.glob("run/wandb/run-*/*.wandb")
    assert history_steps(file)  # perhaps not all: W&B's service waits for its host, too


def test_launch_is_asked_only_where_it_was_imported(monkeypatch):
    import wandb.sdk.wandb_run as wandb_run

    from lit_lm.wandb_log import _leave_launch_alone

    asked = []
    name = "_detect_and_apply_job_inputs"
    monkeypatch.setattr(wandb_run.Run, name, lambda run: asked.append(run))
    _leave_launch_alone()
    _leave_launch_alone()  # every run does
    monkeypatch.delitem(sys.modules, "wandb.sdk.launch", raising=False)
    getattr(wandb_run.Run, name)("a")
    monkeypatch.setitem(sys.modules, "wandb.sdk.launch", wandb_run)
    getattr(wandb_run.Run, name)("b")
    assert asked == ["b"]
