"""Sweeps that run, with fake members: sorted, resumed, one of them failing; agents' runs in the same table."""

import csv

import pytest
import yaml

from lit_lm.compare import MembersFailed

from .conftest import RATE, WIDTH


def test_six_members_are_run_and_sorted_and_kept(bench):
    bench.fake["by_rate"] = {"0.001": 0.2, "0.002": -0.1, "0.004": 0.1}
    page = bench.run(jobs=3)
    names = [f"d_model{width}-lr{rate}" for width in (64, 128) for rate in (0.001, 0.002, 0.004)]
    assert bench.starts() == sorted(names)
    found = bench.found()
    order = [row["settings"][RATE] for row in found["members"]]
    assert order == [0.002, 0.002, 0.004, 0.004, 0.001, 0.001]
    objectives = [row["objective"] for row in found["members"]]
    assert objectives == sorted(objectives)
    assert all(1.5 < value < 1.9 for value in objectives)
    assert f"lit-lm fit --config={bench.folder}/experiment.yaml" in bench.said()
    assert f"--{WIDTH}=64 --{RATE}=0.002\n" in bench.said()
    assert "best: d_model64-lr0.002 with val/loss 1.53" in bench.said()
    table = list(csv.DictReader((bench.output / "results.csv").open()))
    assert [float(row[RATE]) for row in table] == order
    assert [float(row["val/loss"]) for row in table] == objectives
    assert float(table[0]["loss"]) == pytest.approx(1.52)
    assert (bench.output / "results.md").read_text().splitlines()[2].startswith("| **d_model64-lr")
    text = page.read_text()
    assert f"lit-lm sweep {bench.folder}/rates.yaml --jobs=3" in text
    assert all(name in text for name in names)
    # Stopped before two were done: they alone are run, and what comes of it is the same.
    for name in names[:2]:
        (bench.output / name / "result.json").unlink()
    bench.run()
    assert bench.starts() == sorted(names[:2])
    again = bench.found()
    for one, other in zip(found["members"], again["members"], strict=True):
        assert (one["name"], one["objective"]) == (other["name"], other["objective"])
    # More values, more members: those that are there are kept.
    bench.settings["parameters"][RATE]["values"].append(0.008)
    bench.run()
    assert bench.starts() == ["d_model128-lr0.008", "d_model64-lr0.008"]


def test_one_that_fails_stops_no_other(bench):
    bench.settings |= {"method": "random", "runs": 2, "metric": {"name": "val/accuracy"}}
    bench.settings["metric"]["goal"] = "maximize"
    bench.settings["parameters"] = {"seed_everything": {"min": 0, "max": 1}}
    bench.fake["fail_seeds"] = [0]
    with pytest.raises(MembersFailed, match="seed_everything0 failed"):
        bench.run()
    assert bench.starts() == ["seed_everything0", "seed_everything1"]
    good, bad = bench.found()["members"]
    assert (good["name"], good["status"]) == ("seed_everything1", "done")
    assert good["objective"] == pytest.approx(0.5, abs=0.01)
    assert (bad["status"], bad["objective"]) == ("failed", None)
    assert "RuntimeError: bad luck" in bench.said()
    assert "best: seed_everything1" in bench.said()
    assert "| seed_everything0 | – | 0 | – | failed |" in (bench.output / "results.md").read_text()
    with pytest.raises(MembersFailed):
        bench.run()
    assert bench.starts() == ["seed_everything0"]  # the other one is kept


def test_runs_of_agents_stand_in_the_same_table(bench):
    bench.settings["parameters"] = {RATE: {"values": [0.001, 0.002]}}
    for name, losses in (("k3v9", ["3.0", "0.5", "0.6"]), ("early", [])):
        folder = bench.output / "agents" / name
        folder.mkdir(parents=True)
        config = {"model": {"init_args": {"optim": {"lr": 0.0033}}}}
        (folder / "config.yaml").write_text(yaml.safe_dump(config))
        (folder / "metrics.csv").write_text(
            "\n".join(["step,val/loss", *(f"1,{x}" for x in losses)])
        )
    (bench.output / "agents" / "empty").mkdir()
    bench.run()
    assert bench.starts() == ["lr0.001", "lr0.002"]
    found = bench.found()
    assert found["sweep"]["order"] == ["agents/k3v9", "lr0.001", "lr0.002", "agents/early"]
    lines = (bench.output / "results.md").read_text().splitlines()
    assert lines[2] == "| **agents/k3v9** | **0.5** | **0.0033** | **–** | **agent's** |"
    assert f"--{RATE}=0.0033" in bench.said()


def test_no_value_at_all(bench):
    bench.settings |= {"metric": {"name": "val/bleu"}}
    bench.settings["parameters"] = {RATE: {"value": 0.001}}
    bench.run()
    assert bench.starts() == ["only"]
    assert "No member has a finite val/bleu." in bench.said()
