"""The script that measures translations: what it takes again, and what it does not take for its own."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from benchmarks import translation
from benchmarks.runs import verdict


@pytest.fixture
def commands(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> list[str]:
    """Verbs that were run; training leaves a checkpoint, translating a file."""
    monkeypatch.setenv("LIT_LM_DATA", str(tmp_path))
    done: list[str] = []

    def lit_lm(verb: str, *args: str) -> str:
        done.append(verb)
        if verb == "fit":
            name = next(a for a in args if a.startswith("--run.name=")).partition("=")[2]
            folder = tmp_path / "runs" / name
            (folder / "checkpoints").mkdir(parents=True)
            (folder / "checkpoints" / "average.ckpt").touch()
            (folder / "metrics.csv").write_text("seconds\n1.5\n\n60.0\n")
        elif verb == "score":
            systems = [a for a in args[1:] if a.endswith(("output.txt", "validation.txt"))]
            scores = [12.5, 13.0][: len(systems)]
            rows = [
                {"system": s, "scores": {"bleu_moses": {"score": b, "p": 0.01}}}
                for s, b in zip(systems, scores, strict=True)
            ]
            return json.dumps({"systems": rows, "signatures": {}})
        else:
            output = Path(next(a for a in args if a.startswith("--output=")).partition("=")[2])
            assert not output.exists() or len(done) > 5, "an old output for a new checkpoint"
            output.write_text("x\n")
        return ""

    monkeypatch.setattr(translation, "lit_lm", lit_lm)
    return done


def test_what_is_done_is_not_done_again(commands: list[str], tmp_path: Path) -> None:
    row, plain = translation.ROWS[0], translation.Variation("", ())
    first = translation.measure(row, plain, 0, tmp_path / "runs")
    again = translation.measure(row, plain, 0, tmp_path / "runs")
    assert first == again
    assert first["train_seconds"] == 60.0
    assert commands == ["fit", *("translate", "score") * 4]
    assert first["validation"] == 12.5
    for found in (first, again, first | {"seed": 1, "scores": {"bleu_moses": 13.5}}):
        translation.add(tmp_path / "out", [found], translation.key, translation.page)
    page = (tmp_path / "out.md").read_text()
    assert "bleu_moses: 13.00, standard deviation 0.71" in page
    assert "Bar: bleu_moses of 41 or more: **not reached** (2 of 3 seeds so far)." in page
    assert len(json.loads((tmp_path / "out.json").read_text())) == 2


def test_a_bar_is_for_the_mean_over_all_its_seeds() -> None:
    assert verdict([41.5, 40.9], 41.0, 3) == "reached (2 of 3 seeds so far)"
    assert verdict([41.5, 40.9, 41.1], 41.0, 3) == "reached"
    assert verdict([40.9, 41.0, 41.0, 41.0], 41.0, 3) == "**not reached**"


def test_an_rnn_is_tested_against_the_transformer_of_the_same_training(
    commands: list[str], tmp_path: Path
) -> None:
    transformer, rnn, *_ = translation.ROWS
    variation = translation.Variation("two", ("--trainer.devices=2",))
    alone = translation.measure(rnn, variation, 1, tmp_path / "runs")
    assert alone["against_transformer"] is None
    found = translation.measure(transformer, variation, 1, tmp_path / "runs")
    assert found["against_transformer"] is None
    both = translation.measure(rnn, variation, 1, tmp_path / "runs")
    assert both["against_transformer"] == {"difference": 0.5, "p": 0.01}
    translation.add(tmp_path / "out", [both], translation.key, translation.page)
    page = (tmp_path / "out.md").read_text()
    assert (
        "Seed 1 against the Transformer that was trained alike: +0.50 bleu_moses (p = 0.0100"
        in page
    )
    assert "2 x 1 CPU threads" in page or "2 x 2 CPU threads" in page


def test_a_log_keeps_the_validations(tmp_path: Path) -> None:
    names = ["epoch", "step", "tokens", "flops", "seconds", "val/loss", "val/bpb", "val/accuracy"]
    log = tmp_path / "metrics.csv"
    log.write_text(",".join([*names, "lr"]) + "\n0,9,5,6,1.5,,,,0.1\n0,10,5,6,2.5,4.0,1.5,0.3,\n")
    translation.keep_log(log, tmp_path / "logs" / "a.csv")
    kept = (tmp_path / "logs" / "a.csv").read_text()
    assert kept == ",".join(names) + "\n0,10,5,6,2.5,4.0,1.5,0.3\n"


def test_another_recipe_needs_another_name(
    commands: list[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    row, plain = translation.ROWS[0], translation.Variation("", ())
    translation.measure(row, plain, 0, tmp_path / "runs")
    assert {*translation.recipe(row.experiment)} == {
        "experiment/multi30k_en_de_transformer.yaml",
        "data/multi30k_en_de.yaml",
        "model/transformer_multi30k.yaml",
    }
    assert {*translation.recipe("conll2003")} > {
        "experiment/conll2003.yaml",
        "data/conll2003.yaml",
    }
    monkeypatch.setattr(translation, "recipe", lambda experiment: {"a.yaml": "changed"})
    with pytest.raises(SystemExit, match="trained by another recipe"):
        translation.measure(row, plain, 0, tmp_path / "runs")
    translation.measure(row, translation.Variation("changed", ("--x=1",)), 0, tmp_path / "runs")
    assert commands.count("fit") == 2
