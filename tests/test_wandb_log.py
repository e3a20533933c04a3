"""W&B that raises, refuses, hangs or is away: training goes on, and what was lost is said."""

from __future__ import annotations

import json
import re
import socket
import struct
import sys
import threading
import time
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import wandb

from lit_lm import checkpoints, wandb_artifacts, wandb_log
from lit_lm.callbacks import Samples
from lit_lm.runs import RunConfig
from lit_lm.training import run_cli
from lit_lm.wandb_log import WandbLog
from tests import tiny
from tests.cli import QUICK

KEY = "a" * 40


class FakeRun:
    """Keeps what is logged; every method named in ``broken`` raises."""

    def __init__(self, broken: set[str], id: str | None = None) -> None:
        self.rows: list[tuple[int | None, dict[str, Any]]] = []
        self.broken, self.id, self.name = broken, id or "fresh", "name"
        self.config = SimpleNamespace(update=self._update)
        self.offline = False
        self.updates: dict[str, Any] = {}
        self.kept: list[tuple[Any, list[str]]] = []
        self.used: list[str] = []

    def _do(self, what: str) -> None:
        if what in self.broken:
            raise OSError(f"{what}: no space left on device")

    def log(self, row: dict[str, Any], step: int | None = None) -> None:
        self._do("log")
        self.rows.append((step, row))

    def _update(self, values: dict[str, Any], **kwargs: Any) -> None:
        self._do("config")
        self.updates |= values

    def log_artifact(self, artifact: Any, aliases: list[str]) -> Any:
        self._do("log_artifact")
        self.kept.append((artifact, aliases))
        return artifact

    def use_artifact(self, name: str) -> None:
        self._do("use_artifact")
        self.used.append(name)

    def define_metric(self, *args: Any, **kwargs: Any) -> None:
        self._do("define_metric")


class FakeWandb:
    """``wandb.init`` as it can fail."""

    def __init__(
        self, monkeypatch: pytest.MonkeyPatch, online: Any = None, offline: Any = None
    ) -> None:
        self.calls: list[dict[str, Any]] = []
        self.broken: set[str] = set()
        self.fails = {None: online, "offline": offline}
        monkeypatch.setattr(wandb, "run", None)
        monkeypatch.setattr(wandb, "init", self.init)

    def init(self, **arguments: Any) -> FakeRun:
        self.calls.append(arguments)
        if (error := self.fails[arguments["mode"]]) is not None:
            raise error
        self.run = FakeRun(self.broken, arguments["id"])
        return self.run


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


@pytest.fixture
def real(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The real wandb, which would be online, and is at rest afterwards."""
    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", KEY)
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield monkeypatch
    wandb.finish()
    wandb.teardown()


def offline_runs(folder: Path) -> list[Path]:
    return list(folder.glob("run/wandb/offline-run-*/*.wandb"))


def test_a_host_that_refuses_does_not_stop_training(folder: Path, real: pytest.MonkeyPatch) -> None:
    real.setattr(wandb_log, "INIT_SECONDS", 3.0)
    with socket.socket() as unused:
        unused.bind(("127.0.0.1", 0))  # nobody listens
        real.setenv("WANDB_BASE_URL", f"http://127.0.0.1:{unused.getsockname()[1]}")
        start = time.monotonic()
        with pytest.warns(UserWarning, match="cannot be logged online"):
            train(folder, logger(folder))
        wandb.finish()
    assert time.monotonic() - start < 30
    assert len(offline_runs(folder)) == 1


@pytest.mark.slow
@pytest.mark.parametrize("answer", [401, 500, None], ids=str)
def test_a_host_that_answers_badly_does_not_stop_training(
    answer: int | None, folder: Path, real: pytest.MonkeyPatch
) -> None:
    real.setenv("WANDB_BASE_URL", Server(answer).url)
    start = time.monotonic()
    with pytest.warns(UserWarning, match="cannot be logged online"):
        train(folder, logger(folder))
    wandb.finish()
    assert time.monotonic() - start < 60
    assert len(offline_runs(folder)) == 1


@pytest.mark.slow
def test_a_key_that_cannot_be_one_does_not_stop_training(
    folder: Path, real: pytest.MonkeyPatch
) -> None:
    real.setenv("WANDB_API_KEY", "short")
    with pytest.warns(UserWarning, match="cannot be logged online"):
        train(folder, logger(folder))
    assert len(offline_runs(folder)) == 1


def history_steps(file: Path, least: int = 1, seconds: float = 20.0) -> list[int]:
    """W&B's steps in a run's file, which W&B's service may write a little after the run's end."""
    until = time.monotonic() + seconds
    while len(steps := _steps(file)) < least and time.monotonic() < until:
        time.sleep(0.2)
    return steps


def _steps(file: Path) -> list[int]:
    steps = []
    for record in records(file):
        if record.HasField("history"):
            items = {(i.key or i.nested_key[0]): i.value_json for i in record.history.item}
            steps.append(int(json.loads(items["_step"])))
    return steps


def records(file: Path) -> list[Any]:
    """Records in the framing of LevelDB's log behind seven bytes."""
    from wandb.proto.wandb_internal_pb2 import Record

    content, at, part, found = file.read_bytes(), 7, b"", []
    while at + 7 <= len(content):
        left = 32768 - at % 32768
        if left < 7:
            at += left
            continue
        _, length, kind = struct.unpack("<IHB", content[at : at + 7])
        if kind == 0 or at + 7 + length > len(content):
            break  # it is being written
        part += content[at + 7 : at + 7 + length]
        at += 7 + length
        if kind in (1, 4):  # whole, or the last part
            found.append(Record.FromString(part))
            part = b""
    return found


def test_each_step_is_in_the_file_once(folder: Path, real: pytest.MonkeyPatch) -> None:
    """In what ``wandb sync`` uploads."""
    train(folder, logger(folder, "offline"))
    wandb.finish()
    steps = history_steps(offline_runs(folder)[0], least=6)
    assert steps == sorted(set(steps))
    assert len(steps) >= 6


@pytest.mark.slow
def test_a_host_that_falls_silent_does_not_hold_up_the_end(
    folder: Path, real: pytest.MonkeyPatch
) -> None:
    """Online at first; then nothing answers: training goes on, and the end waits as long as it may."""
    real.setattr(wandb_log, "FINISH_SECONDS", 4.0)
    server = Server(None, well=True)
    real.setenv("WANDB_BASE_URL", server.url)
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


EXPERIMENT = """
run: {{dir: {0}, wandb: online}}
trainer: {{max_steps: 2, val_check_interval: 1, enable_model_summary: false}}
data:
  class_path: lit_lm.data.TextData
  init_args:
    source:
      class_path: lit_lm.data.TextFiles
      init_args: {{train: {0}/text.txt, val: {0}/text.txt}}
    tokenizer: {{kind: word}}
    rows: documents
    length: 16
    batch_size: 32
model:
  class_path: lit_lm.tasks.CausalLM
  init_args:
    net: {{class_path: lit_lm.models.GPTConfig, init_args: {{num_layers: 1, num_heads: 1, d_model: 8}}}}
"""


def fit(folder: Path, name: str, *flags: str) -> Path:
    """A run of the command line; returns its last checkpoint."""
    (folder / "experiment.yaml").write_text(EXPERIMENT.format(folder))
    quick = [flag for flag in QUICK if "wandb" not in flag]
    run_cli(["fit", f"--config={folder}/experiment.yaml", f"--run.name={name}", *quick, *flags])
    return folder / name / "checkpoints" / "last.ckpt"


def test_what_a_run_leaves_and_started_from_are_artifacts(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(folder / "data"))
    fake = FakeWandb(monkeypatch)
    path = fit(folder, "before", "--run.artifact=last")
    before = fake.run
    ((artifact, aliases),) = before.kept
    assert (artifact.type, artifact.name, aliases) == ("model", "before-fresh", ["last"])
    (entry,) = artifact.manifest.entries.values()
    assert Path(entry.local_path).read_bytes() == path.read_bytes()
    about = dict(artifact.metadata)
    assert (about["architecture"], about["task"], about["step"]) == ("GPT", "CausalLM", 2)
    logged = [row for _, row in before.rows if "val/loss" in row]
    assert len(logged) == 2
    assert about["metrics"]["val/loss"] == logged[-1]["val/loss"] != logged[0]["val/loss"]
    assert not before.used

    fit(folder, "after", "--run.artifact=best", f"--pretrained.path={path}")
    after = fake.run
    assert after.used == ["lit_lm/before-fresh:last"]
    assert after.updates["started_from"] == "lit_lm/before-fresh:last"
    ((artifact, aliases),) = after.kept
    assert (artifact.name, aliases) == ("after-fresh", ["best"])


def checkpoint(path: Path, **content: Any) -> dict[str, Any]:
    """The least that an artifact is made of, as a file."""
    content = {"state_dict": {}, "global_step": 4, **content}
    checkpoints.save(content, path)
    return content


def started(path: Path, **pretrained: Any) -> dict[str, Any]:
    return {"config": {"pretrained": {"path": str(path), "weights": True, **pretrained}}}


def test_only_a_checkpoint_that_was_kept_is_an_origin(tmp_path: Path) -> None:
    path = tmp_path / "a.ckpt"
    logs = {"resume": {"logs": {"wandb_id": "id1"}}}
    run = {"name": "a/b c", "project": "p", "artifact": "best"}
    checkpoint(path, config={"run": run}, **logs)
    assert wandb_artifacts.origin(started(path)) == "p/a-b-c-id1:best"
    assert wandb_artifacts.origin(started(path, weights=False)) is None
    assert wandb_artifacts.origin(started(tmp_path)) is None
    assert wandb_artifacts.origin({"config": {"pretrained": {"path": None}}}) is None
    assert wandb_artifacts.origin({}) is None
    checkpoint(path, config={"run": {**run, "artifact": "none"}}, **logs)
    assert wandb_artifacts.origin(started(path)) is None
    checkpoint(path, config={"run": run})
    assert wandb_artifacts.origin(started(path)) is None


def test_names_of_artifacts_are_names(tmp_path: Path) -> None:
    for run in ("gpt", "ünï codé / x", "-", "a" * 300):
        name = wandb_artifacts.name_of(run, "id1")
        assert re.fullmatch("[A-Za-z0-9_.-]{1,128}", name)
        assert wandb_artifacts.name_of(run, "id2") != name


def kept_offline(folder: Path, artifact: str = "last") -> WandbLog:
    run = RunConfig(dir=str(folder), wandb="offline", artifact=artifact)  # type: ignore[arg-type]
    (_, log) = run.loggers()
    assert isinstance(log, WandbLog)
    return log


def test_the_artifact_of_a_run_offline_is_in_its_file_once(
    folder: Path, real: pytest.MonkeyPatch
) -> None:
    """And what it started from is noted, since W&B records no use of an artifact offline."""
    real.setenv("WANDB_DATA_DIR", str(folder / "data"))
    before = folder / "before.ckpt"
    logs = {"resume": {"logs": {"wandb_id": "id1"}}}
    run = {"name": "before", "project": "p", "artifact": "last"}
    checkpoint(before, config={"run": run}, **logs)
    last = folder / "run" / "checkpoints" / "last.ckpt"
    checkpoint(last, **started(before))
    log = kept_offline(folder)
    log.log_metrics({"val/loss": 1.5, "train/loss": 1.0}, 3)
    log.log_metrics({"val/loss": 2.5}, 4)  # behind the checkpoint
    log.finalize("success")
    log.finalize("success")  # of a test
    wandb.finish()
    assert history_steps(offline_runs(folder)[0], least=2) == [3, 4]
    found = records(offline_runs(folder)[0])
    (artifact,) = [record.artifact for record in found if record.HasField("artifact")]
    assert artifact.name == f"run-{log.version}"
    assert json.loads(artifact.metadata)["metrics"] == {"val/loss": 1.5}
    (entry,) = artifact.manifest.contents
    assert Path(entry.local_path).read_bytes() == last.read_bytes()
    settings = {i.key: i.value_json for r in found if r.HasField("config") for i in r.config.update}
    assert settings["started_from"] == '"p/before-id1:last"'
    assert log._failed == 0


@pytest.mark.parametrize("what", ["use_artifact", "log_artifact"])
def test_an_artifact_that_fails_is_reported(
    what: str, folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("WANDB_DATA_DIR", str(folder / "data"))
    fake = FakeWandb(monkeypatch)
    log = kept_offline(folder)
    before = folder / "before.ckpt"
    run = {"name": "before", "project": "p", "artifact": "last"}
    checkpoint(before, config={"run": run}, resume={"logs": {"wandb_id": "id1"}})
    checkpoint(folder / "run" / "checkpoints" / "last.ckpt", **started(before))
    assert log.experiment.id == "fresh"
    fake.run.broken.add(what)
    with pytest.warns(UserWarning, match=f"{what}: no space left"):
        log.finalize("success")
    assert len(fake.run.kept) == (what == "use_artifact")
    assert log._failed == 1  # a host that does not answer is asked once
    assert fake.run.updates["started_from"] == "p/before-id1:last"


def test_no_artifact_without_a_checkpoint_or_of_a_failed_run(
    folder: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    fake = FakeWandb(monkeypatch)
    log = kept_offline(folder, "best")
    with pytest.warns(UserWarning, match="no best checkpoint"):
        log.finalize("success")
    checkpoint(folder / "run" / "checkpoints" / "best.ckpt")
    log.finalize("failed")
    assert log.experiment.id
    assert not fake.run.kept
    (_, tested) = RunConfig(dir=str(folder), wandb="offline", artifact="best").loggers("test")
    tested.finalize("success")
    assert not fake.run.kept
