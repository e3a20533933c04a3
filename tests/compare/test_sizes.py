"""Members of one size, and the league of the encoders, which other runs have made."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from lit_lm import configs
from lit_lm.compare.config import Parameters
from lit_lm.compare.files import read_json
from lit_lm.compare.results import budget_text
from lit_lm.compare.sizes import count, differences, fitted, widths
from lit_lm.errors import InputError
from lit_lm.models import AveragedConfig, GPTConfig
from lit_lm.specs import DataSpec
from tests.compare.conftest import LM

SPEC = DataSpec(vocab_size=300, max_length=32, max_target_length=32, max_characters=8)
NETS = [
    *(("gpt", 3e5, True), ("lstm", 2e6, False), ("elmo", 8e5, True), ("bert", 3e5, False)),
    *(("transformer", 2e6, True), ("rnn", 3e5, False), ("decoder_only", 8e5, False)),
]


@pytest.mark.parametrize(("name", "amount", "embeddings"), NETS)
def test_every_architecture_gets_the_size(name: str, amount: float, embeddings: bool) -> None:
    net = configs.architecture(f"model/{name}_builtin")
    made = fitted(net, SPEC, Parameters(amount, embeddings))
    assert count(made, SPEC, embeddings) == pytest.approx(amount, rel=0.03)
    ratios = [b / a for a, b in zip(widths(net).values(), widths(made).values(), strict=True)]
    assert max(ratios) < 2 * min(ratios)  # it is wider, and of much the same shape
    flags = differences(net, made, "net")
    assert all(flag.startswith("--net.init_args.") and ".d_" in flag for flag in flags)


def test_what_cannot_be_had_is_refused() -> None:
    gpt = GPTConfig(num_layers=2, num_heads=2, d_model=32)
    with pytest.raises(
        InputError, match=r"GPTConfig cannot be given 100 parameters.* nearest .*depth"
    ):
        fitted(gpt, SPEC, Parameters(100))
    with pytest.raises(InputError, match=r"without embeddings: the nearest"):
        fitted(AveragedConfig(), SPEC, Parameters(1e6, embeddings=False))


def test_members_are_given_their_widths_and_the_page_says_so(house, monkeypatch) -> None:
    monkeypatch.setattr(
        "lit_lm.compare.sizes.size_flags", lambda *_: ("--model.init_args.net.x=3",)
    )
    house.settings["parameters"] = {"amount": 2e6, "embeddings": False}
    house.add("gpt", LM)
    page = house.run()
    text = budget_text(house.settings["budget"], house.settings["parameters"])
    assert "parameters without embeddings each" in text
    assert text in page.read_text()
    job = read_json(house.output / "gpt" / "job.json")
    assert job["overrides"] == ["--model.init_args.net.x=3"]
    assert house.starts() == ["gpt"]
    house.settings["parameters"]["amount"] = 3e6
    house.run()
    assert house.starts() == []  # the flags are the same, so is the member


def test_the_league_of_the_encoders(house, tmp_path: Path) -> None:
    folder = tmp_path / "curve"
    folder.mkdir()
    table = {
        "title": "news: accuracy",
        "heads": ["", "10", "all (50)"],
        "rows": [["bert", "61.0", "93.5"]],
    }
    (folder / "results.json").write_text(json.dumps({"name": "few", "tables": [table]}))
    (folder / "curve.svg").write_text("<svg/>")
    house.add("gpt", LM)
    house.settings["curves"] = ["curve", "not/there"]  # beside the YAML
    text = house.run().read_text()
    for part in (
        "few, news: accuracy",
        "93.5",
        "data:image/svg+xml;base64,",
        "not/there yet: `lit-lm curve`",
    ):
        assert part in text
    assert "| bert | 61.0 | 93.5 |" in (house.output / "results.md").read_text()
    told = "unfinished: 1 of 2 runs are done, 1 not run yet"
    so_far = {"name": "few", "tables": [table], "unfinished": told}
    (folder / "results.json").write_text(json.dumps(so_far))
    assert f"few: {told}." in house.run().read_text()
    assert f"few: {told}." in (house.output / "results.md").read_text()
    (folder / "results.json").write_text("[]")
    with pytest.raises(InputError, match=r"results\.json does not hold the results of a curve"):
        house.run()
