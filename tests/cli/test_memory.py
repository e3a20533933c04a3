"""Memory that runs out ends in one line that says which settings to change."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm import CausalLM, InputError
from lit_lm.cli import main
from lit_lm.memory import explained, shortage
from tests.cli import QUICK

CPU = "[enforce fail at alloc_cpu.cpp:124] err == 0. DefaultCPUAllocator: can't allocate memory: you tried to allocate 9 bytes."
ERRORS = [
    torch.OutOfMemoryError("CUDA out of memory. Tried to allocate 2.00 GiB.\nMore lines"),
    RuntimeError(CPU),
    MemoryError(),
    OSError(12, "Cannot allocate memory"),
]


@pytest.mark.parametrize(
    ("verb", "error"), list(zip(("fit", "validate", "test", "predict"), ERRORS, strict=True))
)
def test_every_verb_says_what_to_change(
    verb: str,
    error: Exception,
    folder: Path,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    def full(self: Any, batch: Any) -> None:
        raise error

    monkeypatch.setattr(CausalLM, "loss", full)
    monkeypatch.setattr(CausalLM, "predict_step", lambda self, batch, i: full(self, batch))
    args = [verb, "--config", str(folder / "gpt.yaml"), f"--run.dir={tmp_path}", *QUICK]
    assert main([*args, "--trainer.accumulate_grad_batches=3"]) == 2
    said = capsys.readouterr().err
    (line,) = [line for line in said.splitlines() if "error: " in line]
    assert (
        f"out of memory in {verb} ({str(error).splitlines()[0] if str(error) else 'MemoryError'})"
        in line
    )
    assert "--data.init_args.batch_size=4 (now 8)" in line
    assert "--data.init_args.length (now 16)" in line
    assert "--trainer.precision=bf16-mixed (now 32-true)" in line
    assert ("--trainer.accumulate_grad_batches=6 (now 3)" in line) == (verb == "fit")
    assert "batch_tokens" not in line
    assert "Traceback" not in said


def test_other_errors_are_left_alone() -> None:
    assert shortage(RuntimeError("mat1 and mat2 shapes cannot be multiplied")) is None
    assert shortage(OSError(28, "No space left on device")) is None
    error = RuntimeError("wrapped")
    error.__cause__ = MemoryError()
    assert shortage(error) is error.__cause__
    with pytest.raises(KeyError), explained("fit", {}):
        raise KeyError("x")
    with pytest.raises(InputError, match="smaller model"), explained("fit", {}):
        raise MemoryError


@pytest.mark.slow
@pytest.mark.skipif(sys.platform != "linux", reason="limits the address space")
@pytest.mark.parametrize("room", [20, 400], ids=["building", "training"])
def test_a_real_failed_allocation(room: int, folder: Path, tmp_path: Path) -> None:
    """A process that may take so many MB more than it needs to start."""
    code = f"""
import resource, sys
import lit_lm.training
from lit_lm.cli import main
pages = int(open("/proc/self/statm").read().split()[0])
resource.setrlimit(resource.RLIMIT_AS, (pages * 4096 + {room} * 2**20,) * 2)
sys.exit(main(sys.argv[1:]))
"""
    command = [
        sys.executable, "-c", code, "fit", "--config", str(folder / "gpt.yaml"), f"--run.dir={tmp_path}", *QUICK,
        "--model.init_args.net.init_args.d_model=1024", "--data.init_args.num_workers=0",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=200)
    assert out.returncode == 2, out.stderr[-3000:]
    assert "lit-lm fit: error: out of memory in fit (" in out.stderr
    assert "--data.init_args.batch_size=4 (now 8)" in out.stderr
    assert "Traceback" not in out.stderr
