"""`--config trainer/profile`, as a user types it."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import pytest

from lit_lm.cli import main
from tests.cli import COMMAND, QUICK


@pytest.mark.slow
def test_a_profile_is_one_command(folder: Path, tmp_path: Path) -> None:
    """The table is printed, the trace written, and nothing of the run that is profiled is touched."""
    args = ["fit", "--config", str(folder / "gpt.yaml"), "--config", "trainer/profile"]
    command = [*COMMAND, *args, f"--run.dir={tmp_path}", "--trainer.accelerator=cpu"]
    done = subprocess.run(command, capture_output=True, text=True, check=True)
    shown = done.stdout + done.stderr
    assert "Self CPU %" in shown
    assert "aten::addmm" in shown
    assert "[pl][profile][Strategy]SingleDeviceStrategy.backward" in shown
    assert [path.name for path in tmp_path.iterdir()] == ["profile"]
    assert not list(tmp_path.rglob("*.ckpt"))
    trace = json.loads((tmp_path / "profile" / "trace.json").read_text())
    steps = [e for e in trace["traceEvents"] if e.get("name", "").startswith("ProfilerStep#")]
    assert len({e["name"] for e in steps}) == 10


def test_its_settings_are_checked(folder: Path, tmp_path: Path) -> None:
    args = ["fit", "--config", str(folder / "gpt.yaml"), "--config", "trainer/profile", *QUICK]
    bad = ["--trainer.profiler.init_args.steps=0", f"--run.dir={tmp_path}"]
    assert main([*args, *bad]) == 2
