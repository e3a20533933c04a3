"""A comparison that is killed in its middle, with real members."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import time
from pathlib import Path
from typing import Any

import pytest
import yaml

from tests.cli import COMMAND, QUICK


@pytest.mark.slow
@pytest.mark.timeout(900)
def test_killed_half_way_it_finishes_what_is_missing_and_finds_the_same(
    folder: Path, tmp_path: Path
) -> None:
    steps = ["--trainer.max_steps=-1", "--trainer.max_epochs=10", "--trainer.val_check_interval=4"]
    members = [{"name": name, "config": str(folder / f"{name}.yaml")} for name in ("gpt", "rnn")]
    settings = {"members": members, "overrides": [*QUICK, *steps], "seeds": 2}
    files = {}
    for name in ("whole", "killed"):
        files[name] = tmp_path / f"{name}.yaml"
        content = settings | {"output_dir": str(tmp_path / "out")}
        files[name].write_text(yaml.safe_dump(content))

    def start(name: str) -> subprocess.Popen[bytes]:
        return subprocess.Popen([*COMMAND, "compare", str(files[name])], start_new_session=True)

    assert start("whole").wait() == 0
    out = tmp_path / "out" / "killed"
    for member in ("gpt", "rnn"):  # killed twice, in the middle of a training each
        process = start("killed")
        last = out / member / "checkpoints" / "last.ckpt"
        while not last.exists():
            assert process.poll() is None
            time.sleep(0.02)
        os.killpg(process.pid, signal.SIGKILL)
        process.wait()
        assert not (out / member / "result.json").exists()
        time.sleep(3)  # members see that nobody waits for them, and end
    made = out / "gpt" / "result.json"
    assert start("killed").wait() == 0
    before = made.stat().st_mtime
    assert start("killed").wait() == 0
    assert made.stat().st_mtime == before
    assert not (out / "replaced").exists()
    whole, killed = (_results(tmp_path / "out" / name) for name in ("whole", "killed"))
    assert whole == killed


def _results(folder: Path) -> dict[str, Any]:
    """What does not depend on the clock."""
    found = {}
    for path in sorted(folder.glob("*/result.json")):
        result = json.loads(path.read_text())
        curves = {
            name: {axis: its[axis] for axis in ("step", "tokens", "value")}
            for name, its in result["curves"].items()
        }
        keys = ("test", "steps", "tokens", "bytes", "flops", "samples", "parameters")
        found[path.parent.name] = {"curves": curves, **{key: result[key] for key in keys}}
    return found
