"""The harness of the benchmarks tells slow from fast, and sides that do different work from those that do the same."""

from __future__ import annotations

import time
from pathlib import Path

import pytest
import torch

from benchmarks import report
from benchmarks.harness import Entrant, Work, agreed, peak_memory, race


def busy(seconds: float, loss: float = 1.0) -> Entrant:
    def step() -> float:
        end = time.process_time() + seconds
        while time.process_time() < end:
            pass
        return loss

    return Entrant(step, 10)


def test_a_side_that_takes_three_times_as_long_is_three_times_as_slow(tmp_path: Path) -> None:
    work = Work("w", "Work", {}, bars={"slow": 2.9, "other": 3.1})
    sides = {"ours": busy(0.01), "slow": busy(0.03), "other": busy(0.03)}
    found = race(sides, seconds=0.1, rounds=5)
    assert found["slow"].ratio == pytest.approx(3, rel=0.03)
    assert found["ours"].rate == pytest.approx(1000, rel=0.05)
    done = report.race(work, found, {}, {}, {"gone": "No module named gone"}, 1.0)
    finding = report.Finding("f", "a thing", 3.0, "s", "< 2 s", False)
    report.save(tmp_path / "speed", report.machine({"float32": 1e9}), [done], [finding])
    assert repr(report.load(tmp_path / "speed")) == repr(([done], [finding]))  # NaN is not NaN
    lines = (tmp_path / "speed.md").read_text().splitlines()
    row = {line.split(" | ")[0].strip("| "): line for line in lines if line.startswith("| ")}
    assert row["slow"].endswith("| >= 2.9 x | reached |")
    assert row["other"].endswith("| >= 3.1 x | **not reached** |")
    assert "No module named gone" in row["gone"]
    assert "**not reached**" in row["a thing"]


def test_sides_whose_losses_differ_do_not_race() -> None:
    work = Work("w", "Work", {}, agree={"peer": 0.01})
    same = race({"ours": busy(0.001), "peer": busy(0.001, 1.005)}, seconds=0, rounds=3)
    assert agreed(work, same) == {"peer": pytest.approx(0.005)}
    other = race({"ours": busy(0.001), "peer": busy(0.001, 1.02)}, seconds=0, rounds=3)
    with pytest.raises(AssertionError, match=r"peer has 1\.02"):
        agreed(work, other)


def test_peak_memory_is_what_a_side_holds_at_its_peak() -> None:
    def make() -> Entrant:
        kept = torch.ones(20 << 20)  # 80 MiB

        def step() -> float:
            return float((kept + 1)[0])  # and as much again, for a moment

        return Entrant(step, 1)

    assert peak_memory(make) / 2**20 == pytest.approx(160, rel=0.1)
