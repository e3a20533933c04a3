"""Checkpoints as artifacts of W&B, with what they started from."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
import wandb

from lit_lm import checkpoints, wandb_artifacts
from lit_lm.runs import RunConfig
from lit_lm.training import run_cli
from lit_lm.wandb_log import WandbLog
from tests import tiny
from tests.cli import QUICK
from tests.fake_wandb import FakeWandb, history_steps, offline_runs, records


@pytest.fixture
def folder(tmp_path: Path) -> Path:
    tiny.write(tmp_path)
    return tmp_path


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
    folder: Path, real_wandb: pytest.MonkeyPatch
) -> None:
    """And what it started from is noted, since W&B records no use of an artifact offline."""
    real_wandb.setenv("WANDB_DATA_DIR", str(folder / "data"))
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
