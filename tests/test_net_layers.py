"""A network in a later layer is what its own file and class say, whatever network stood there before."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from lit_lm.models import BiLSTMConfig, GPTConfig, LSTMConfig
from lit_lm.net_layers import with_defaults
from lit_lm.settings import parse_experiment
from tests.conftest import ROOT

FIRST = "--config=first.yaml"
FULL = GPTConfig(num_layers=3, d_model=32, num_heads=2, dropout=0.7, positions="rotary")


@pytest.fixture(autouse=True)
def here(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.chdir(tmp_path)
    (tmp_path / "old.yaml").write_text(
        "class_path: lit_lm.models.GPTConfig\n"
        "init_args: {num_layers: 3, d_model: 32, num_heads: 2, dropout: 0.7, positions: rotary}\n"
    )
    (tmp_path / "first.yaml").write_text(
        f"data: {ROOT}/configs/data/builtin_text.yaml\n"
        "model:\n  class_path: lit_lm.tasks.CausalLM\n  init_args:\n    net: old.yaml\n"
    )
    (tmp_path / "small.yaml").write_text(
        "class_path: lit_lm.models.GPTConfig\ninit_args: {d_model: 8, num_heads: 2}\n"
    )
    (tmp_path / "other.yaml").write_text(
        "class_path: lit_lm.models.LSTMConfig\ninit_args: {d_model: 8}\n"
    )
    (tmp_path / "layer.yaml").write_text("model: {init_args: {net: small.yaml}}\n")
    (tmp_path / "short.yaml").write_text("model: {net: small.yaml}\n")
    (tmp_path / "inline.yaml").write_text(
        "model: {init_args: {net: {class_path: lit_lm.models.LSTMConfig, init_args: {d_model: 8}}}}\n"
    )
    (tmp_path / "some.yaml").write_text("model: {init_args: {net: {init_args: {d_model: 8}}}}\n")
    return tmp_path


SMALL, OTHER = GPTConfig(d_model=8, num_heads=2), LSTMConfig(d_model=8)


@pytest.mark.parametrize(
    ("args", "expected"),
    [
        ([], FULL),
        (["--model.init_args.net=small.yaml"], SMALL),
        (["--model.net=small.yaml"], SMALL),
        (["--model.init_args.net", "small.yaml"], SMALL),
        (["--config=layer.yaml"], SMALL),
        (["--config", "short.yaml"], SMALL),
        (["--model.init_args.net=other.yaml"], OTHER),
        (["--config=inline.yaml"], OTHER),
        (["--model.init_args.net=lit_lm.models.LSTMConfig", "--model.init_args.net.init_args.d_model=8"], OTHER),
        (["--model.init_args.net=LSTMConfig", "--model.init_args.net.init_args.d_model=8"], OTHER),
        (["--config=layer.yaml", "--model.init_args.net=other.yaml"], OTHER),
        # Single settings, and settings of the same class without a file, change what is there.
        (["--config=some.yaml"], {"d_model": 8}),
        (["--model.init_args.net.init_args.d_model=8"], {"d_model": 8}),
        (['--model.init_args.net={"class_path": "GPTConfig", "init_args": {"d_model": 8}}'], {"d_model": 8}),
    ],
)  # fmt: skip
def test_later_layers(args: list[str], expected: Any) -> None:
    found = parse_experiment([FIRST, *args])[1]
    if isinstance(expected, dict):
        assert (found.d_model, found.dropout, found.positions) == (8, 0.7, "rotary")
    else:
        assert found == expected


def test_a_curves_baseline_is_the_one_in_its_file() -> None:
    net = ROOT / "configs" / "model" / "bilstm.yaml"
    flags = ["--config", str(ROOT / "configs" / "experiment" / "builtin_topic.yaml")]
    found = parse_experiment([*flags, f"--model.init_args.net={net}"])[1]
    assert found == BiLSTMConfig(num_layers=1, d_model=128, d_hidden=256)


def test_one_network_and_none_need_nothing() -> None:
    for args in ([FIRST], [FIRST, "--trainer.max_steps=1"], ["--config"], ["fit", "--help"]):
        assert with_defaults(args) == args
