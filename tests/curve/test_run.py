import csv
import html
import multiprocessing
import os
import re
import signal
from collections import Counter
from contextlib import contextmanager
from pathlib import Path

import pytest

from lit_lm.compare import runner
from lit_lm.curve import LabelledTask, RunsFailed, load
from lit_lm.curve.config import Encoder
from lit_lm.curve.picture import draw
from lit_lm.curve.plan import Planned, plan
from lit_lm.curve.results import run_of
from lit_lm.curve.tables import collapses
from lit_lm.errors import InputError


def test_from_a_yaml_to_table_and_plot(house):
    found = house.run()
    assert sorted(path.name for path in house.output.iterdir() if path.is_file()) == [
        *(".lock", "results.csv", "results.json", "results.md"),
    ]
    assert house.drawn == [house.output / "curve.png", house.output / "curve.svg"]
    by_name = {(p["encoder"], p["start"], p["labels"]): p for p in found["points"]}
    assert len(by_name) == 9
    # The fake runs reach 0.2 + 0.25 log10(worth / 10), 0.01 more with seed 1; pre-training makes a label worth eight.
    assert by_name["bert", "scratch", 100]["mean"] == pytest.approx(0.455)
    assert by_name["lstm", "scratch", "all"]["examples"] == 500
    worth = {each["labels"]: each["factor"] for each in found["efficiency"]}
    assert worth[10] == pytest.approx(8)
    table = (house.output / "results.md").read_text()
    assert "| bert, scratch | 20.5 ± 6.4 | 45.5 ± 6.4 |" in table
    assert "| bert | 8× | > 5× | > 1× |" in table
    with (house.output / "results.csv").open() as file:
        rows = list(csv.DictReader(file))
    assert len(rows) == 18
    assert all(float(row["value"]) == float(row["test/accuracy"]) for row in rows)
    assert "95 % confidence interval" in house.console.file.getvalue()


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_it_has_tables_of_what_is_done_and_goes_on_with_the_rest(
    house, monkeypatch, tmp_path, number
):
    house.experiment("news", wait=["seed1 "])
    house.go()
    whole = house.run()
    assert len(house.starts()) == 1 + 18
    house.run()
    assert house.starts() == []

    house.output.rename(tmp_path / "whole")
    house.go(False)
    house.drawn.clear()
    half = stopping(house, monkeypatch, number, lambda: results_of(house) == 1 + 9, every=1e9)
    with half, pytest.raises(KeyboardInterrupt):
        house.run()
    house.starts()
    found, table = house.found(), (house.output / "results.md").read_text()
    told = "Unfinished: 9 of 18 runs are done, 9 not run yet."
    assert f"**{told}**" in table
    assert "| bert, scratch | 20.0 (1 of 2 seeds so far) | 45.0 (1 of 2 seeds so far) |" in table
    assert not any("failed" in text for text in (table, (house.output / "results.csv").read_text()))
    assert {row["status"] for row in found["runs"] if row["seed"]} == {"not run yet"}
    assert house.drawn == [house.output / "curve.png", house.output / "curve.svg"]
    plot = drawn(found, house)
    assert told in plot
    assert plot.count("1/2") == 1 + 9  # beside each point, and explained
    shown = house.console.file.getvalue()
    assert told in shown
    assert "start the same command again" in shown

    house.go()
    assert house.run() == whole
    assert Counter("seed1" in name for name in house.starts()) == {True: 9}
    assert same_files(house, tmp_path / "whole")


def test_killed_it_has_recent_tables_and_goes_on_with_the_rest(house, monkeypatch, tmp_path):
    house.settings |= {"encoders": [{"name": "lstm", "net": "net"}], "labels": [10, 100]}
    house.experiment("news", wait=["-100-seed1 "])
    house.go()
    whole = house.run()
    house.output.rename(tmp_path / "whole")
    house.go(False)
    table = house.output / "results.md"
    told = "**Unfinished: 3 of 4 runs are done, 1 not run yet.**"
    with stopping(
        house, monkeypatch, signal.SIGKILL, lambda: table.exists() and told in table.read_text()
    ):
        child = multiprocessing.get_context("fork").Process(target=house.run, daemon=True)
        child.start()
        child.join(30)
    assert child.exitcode == -signal.SIGKILL
    assert "20.5 ± 6.4 | 45.0 (1 of 2 seeds so far) |" in table.read_text()
    house.starts()
    house.go()
    assert house.run() == whole
    assert house.starts() == ["news/lstm/scratch-100-seed1"]
    assert same_files(house, tmp_path / "whole")


def test_stopped_in_a_pretraining_the_other_encoders_keep_their_place(house, monkeypatch):
    house.settings["labels"] = [10, 100]
    house.run()
    house.experiment("slow", checkpoint="other weights", wait=["late"])
    house.settings["encoders"].append({"name": "late", "pretrain": "slow.yaml"})
    house.starts()
    late = stopping(house, monkeypatch, signal.SIGINT, lambda: "pretraining/late" in house.starts())
    with late, pytest.raises(KeyboardInterrupt):
        house.run()
    found, table = house.found(), (house.output / "results.md").read_text()
    assert "Unfinished: 12 of 20 runs are done, 8 not run yet." in table
    assert "| bert, scratch | 20.5 ± 6.4 | 45.5 ± 6.4 |\n" in table
    assert "| late, scratch | – (0 of 2 seeds so far) | –" in table
    assert [each["encoder"] for each in found["pretraining"]] == ["bert"]
    assert "failed" not in drawn(found, house)


def test_other_weights_other_runs(house):
    house.settings["labels"] = [10]
    house.run()
    house.starts()
    house.experiment("lm", checkpoint="other weights")
    house.run()
    again = house.starts()
    assert again[0] == "pretraining/bert"
    assert {name.split("/")[1] for name in again[1:]} == {"bert"}
    assert len(list(house.output.glob("news/bert/replaced/*"))) == len(again) - 1 == 4


def test_failed_runs_are_holes_with_a_name(house):
    house.experiment("news", fail=["scratch-100-seed1 ", "bert/pretrained-10-"], collapsed=10)
    with pytest.raises(RunsFailed, match="4 of 18 runs failed") as error:
        house.run()
    assert error.value.plot == house.output / "curve.png"
    found = house.found()
    failed = {(p["encoder"], p["start"], p["labels"]): p["failed"] for p in found["points"]}
    assert {key: count for key, count in failed.items() if count} == {
        ("bert", "scratch", 100): 1,
        ("lstm", "scratch", 100): 1,
        ("bert", "pretrained", 10): 2,
    }
    table = (house.output / "results.md").read_text()
    assert "45.0 (1 failed)" in table  # a single value has no interval
    assert "– (2 failed)" in table
    assert "20.0 ± 0.0 (2 collapsed)" in table
    told = "news, bert pretrained: failed at 10 labels (2 of 2 runs)"
    assert f"- {told}: ValueError: out of luck" in table
    plot = drawn(found, house)
    assert told in plot
    assert "bert scratch: collapsed at 10 labels (2 of 2 runs)" in plot
    assert {"some runs collapsed", "some runs failed", "all runs failed"} <= set(
        map(str.strip, plot.splitlines())
    )
    assert "95% confidence interval of the mean (Student's t)" in plot


def test_collapsed_runs_count_in_the_mean(house):
    house.settings["encoders"].pop(0)
    house.experiment("news", collapsed=10)
    first, *others = house.run()["points"]
    assert (first["collapsed"], first["failed"], first["mean"]) == (2, 0, pytest.approx(0.2))
    assert not any(point["collapsed"] for point in others)


def test_collapsed_runs_are_counted_among_those_that_are_made():
    rows = [
        {"task": "news", "encoder": "bert", "start": start, "labels": 10, "status": status}
        | {"collapsed": start == "scratch" and status == "done"}
        for start in ("scratch", "pretrained")
        for status in ("done", "failed", "not run yet", "not run yet")
    ]
    found = {"runs": rows, "labels": [10], "seeds": 4}
    assert collapses(found) == ["news, bert scratch: collapsed at 10 labels (1 of 2 runs)"]


def test_a_failed_pretraining_is_a_hole_of_its_encoder_only(house):
    house.settings["labels"] = [10]
    house.experiment("lm", checkpoint="weights", fail=["bert"])
    with pytest.raises(RunsFailed, match="4 of 6"):
        house.run()
    reasons = {row["encoder"]: row["reason"] for row in house.found()["runs"]}
    assert reasons["lstm"] is None
    assert reasons["bert"] == "the pre-training of its encoder failed: ValueError: out of luck"
    house.starts()
    house.experiment("lm", checkpoint="weights")
    assert all(row["value"] for row in house.run()["runs"])
    assert not any("lstm" in name for name in house.starts())


@pytest.mark.parametrize(
    ("metric", "test", "value", "collapsed"),
    [
        ("accuracy", {"accuracy": 0.6, "mcc": 0.2}, 0.6, False),
        ("accuracy", {"accuracy": 0.6, "mcc": 0.0, "classes_predicted": 1.0}, 0.6, True),
        ("accuracy", {"accuracy": 0.5, "mcc": 0.0, "classes_predicted": 2.0}, 0.5, False),
        ("accuracy", {"accuracy": 0.6, "classes_predicted": 2.0, "f1": 0.0}, 0.6, False),
        ("f1", {"f1": 0.0, "entities_predicted": 7.0}, 0.0, False),
        ("f1", {"f1": 0.0, "entities_predicted": 0.0}, 0.0, True),
        ("f1", {"f1": 0.0, "precision": 0.0}, 0.0, True),
        ("f1", {"f1": 0.3, "precision": 0.2}, 0.3, False),
        ("spearman", {"pearson": None, "spearman": None}, 0.0, True),
        ("pearson", {"pearson": -0.1}, -0.1, False),
        ("accuracy", {"accuracy": None, "mcc": 0.2}, None, False),
        ("accuracy", {"f1": 0.3}, None, False),
    ],
)
def test_what_a_result_says(metric, test, value, collapsed, tmp_path):
    task, encoder = LabelledTask("news", "a", metric), Encoder("lstm", net="b")
    planned = Planned(task, encoder, "scratch", 10, 0, tmp_path, None)
    run = run_of(planned, {"test": test, "examples": 10})
    assert (run.value, run.collapsed) == (value, collapsed)
    assert (run.reason is None) == (value is not None)


def test_mistakes_are_found_before_anything_runs(house):
    house.settings["encoders"].append({"name": "minilm", "checkpoint": "no such file"})
    with pytest.raises(InputError, match="no such file"):
        house.run()
    assert house.starts() == []
    house.settings["encoders"].pop()
    house.settings["tasks"][0]["config"] = "experiment/no_such_thing"
    with pytest.raises(InputError, match="no_such_thing"):
        house.run()
    assert house.starts() == []


def test_shipped_curves_can_be_planned(house, tmp_path, monkeypatch):
    from lit_lm import configs

    weights = tmp_path / "weights.ckpt"
    weights.write_text("weights")
    monkeypatch.chdir(tmp_path)
    for path in (configs.shipped() / "curve").glob("*.yaml"):
        curve = load(path)
        for encoder in curve.encoders:
            if encoder.checkpoint is not None:  # made or fetched before, as the file's head says
                Path(encoder.checkpoint).parent.mkdir(parents=True, exist_ok=True)
                Path(encoder.checkpoint).write_text("weights")
        made = {encoder.name: weights for encoder in curve.encoders if encoder.net is None}
        found = plan(curve, made, 1, "code")
        assert found
        for planned in found:
            told = dict(flag.split("=", 1) for flag in planned.job.payload["overrides"])
            if planned.labels != "all":
                warm = int(told["--model.init_args.optim.warmup_steps"])
                assert 1 <= warm <= int(told["--trainer.max_steps"]) / 10


def test_one_seed_is_drawn_without_a_band(house):
    house.settings |= {"seeds": 1, "labels": [10], "starts": ["scratch"]}
    found = house.run()
    assert "±" not in (house.output / "results.md").read_text().partition("**")[2]
    assert "One seed: no confidence intervals" in drawn(found, house)
    first = (house.folder / "text.svg").read_bytes()
    drawn(found, house)  # the same numbers give the same file
    assert (house.folder / "text.svg").read_bytes() == first
    draw(found, [house.folder / "plot.png"])
    assert (house.folder / "plot.png").read_bytes()[:4] == b"\x89PNG"


def test_bands_end_at_what_the_metric_can_be(house, monkeypatch):
    found = house.run()
    for point in found["points"]:
        point["margin"] = 5.0  # of two seeds that are far apart
    low, high = panel(found, monkeypatch).dataLim.intervaly
    assert (low, high) == pytest.approx((0, 100))


def test_a_cross_is_for_failed_runs_not_for_those_to_come(house, monkeypatch):
    found = house.run()
    found["points"][1] |= {"values": [], "mean": None, "margin": None, "missing": 2}
    assert "x" not in {line.get_marker() for line in panel(found, monkeypatch).lines}
    found["points"][1] |= {"failed": 1, "missing": 1}
    assert "x" in {line.get_marker() for line in panel(found, monkeypatch).lines}


@contextmanager
def stopping(house, monkeypatch, number, when, every=0.0):
    """Sends this process a signal while jobs run, and has it told what became of them every so many seconds."""
    sleep = runner.time.sleep

    def stop(seconds):
        sleep(seconds)
        if when():
            os.kill(os.getpid(), number)

    # Tests that a shell has put into the background ignore Ctrl-C.
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    try:
        with monkeypatch.context() as patch:
            patch.setattr(runner, "_TELL_SECONDS", every)
            patch.setattr(runner.time, "sleep", stop)
            yield
    finally:
        signal.signal(signal.SIGINT, before)


def results_of(house):
    return len(list(house.output.rglob("result.json")))


def same_files(house, folder):
    names = ("results.json", "results.csv", "results.md")
    return all((house.output / n).read_bytes() == (folder / n).read_bytes() for n in names)


def panel(found, monkeypatch):
    """The plot's first panel."""
    from matplotlib.figure import Figure

    kept = []
    monkeypatch.setattr(Figure, "savefig", lambda self, path, **settings: kept.append(self))
    draw(found, [Path("plot.png")])
    return next(axes for axes in kept[0].axes if axes.get_title(loc="left"))


def drawn(found, house):
    """The texts of the plot. In an SVG letters are shapes, but for this setting."""
    from matplotlib import rc_context

    with rc_context({"svg.fonttype": "none"}):
        draw(found, [house.folder / "text.svg"])
    return re.sub(r"<[^>]*>", "", html.unescape((house.folder / "text.svg").read_text()))
