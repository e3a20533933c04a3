"""Curves of a run's own table."""

import csv

import pytest

from lit_lm.compare.curves import read_curves


@pytest.mark.parametrize("best", [0, 501, 999])
def test_the_best_stays_however_long_a_curve_is(tmp_path, best):
    with (tmp_path / "metrics.csv").open("w", newline="") as file:
        rows = csv.DictWriter(file, ["step", "val/loss", "val/f1"])
        rows.writeheader()
        for i in range(1000):
            rows.writerow({"step": i, "val/loss": 1 + (i != best), "val/f1": float(i == best)})
    curves = read_curves(tmp_path, ["val/f1"])
    assert set(read_curves(tmp_path)) == {"val/loss"}
    for metric, value in (("val/loss", 1), ("val/f1", 1)):
        curve = curves[metric]
        assert len(curve["step"]) <= 402
        assert curve["step"] == sorted(curve["step"])
        assert value == curve["value"][curve["step"].index(best)]
