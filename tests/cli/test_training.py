"""The command line as a user types it, from training to generating text."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
import torch
import yaml

from lit_lm import CausalLM, TextData, TokenizerConfig, load_task
from lit_lm.cli import main
from lit_lm.data import TextFiles
from lit_lm.training import run_cli
from tests import tiny
from tests.cli import COMMAND, EXPERIMENTS, QUICK


def test_test_reads_a_checkpoint(folder: Path, trained: dict[str, Path]) -> None:
    cli = run_cli(
        ["test", "--config", str(folder / "mt.yaml"), f"--ckpt_path={trained['mt']}", *QUICK]
    )
    assert {"test/loss", "test/bleu", "test/exact_match", "test/bpb"} <= set(
        cli.trainer.callback_metrics
    )
    assert (
        main(
            [
                "validate",
                "--config",
                str(folder / "gpt.yaml"),
                f"--ckpt_path={trained['gpt']}",
                *QUICK,
            ]
        )
        == 0
    )
    assert (
        main(
            [
                "predict",
                "--config",
                str(folder / "gpt.yaml"),
                f"--ckpt_path={trained['gpt']}",
                *QUICK,
            ]
        )
        == 0
    )


def test_fit_goes_on_from_last(folder: Path, trained: dict[str, Path]) -> None:
    args = [
        "fit",
        "--config",
        str(folder / "gpt.yaml"),
        "--ckpt_path=last",
        "--trainer.max_steps=6",
        *QUICK,
    ]
    assert run_cli(args).trainer.global_step == 6


def test_python_and_the_command_line_save_the_same(
    folder: Path, trained: dict[str, Path], tmp_path: Path
) -> None:
    path = str(folder / "text.txt")
    data = TextData(
        TextFiles(train=path, val=path),
        TokenizerConfig(kind="word"),
        rows="documents",
        length=16,
        batch_size=8,
    )
    from lit_lm import GPTConfig

    task = CausalLM(GPTConfig(num_layers=2, num_heads=2, d_model=32), data.spec)
    trainer = tiny.trainer(tmp_path, max_steps=4)
    trainer.fit(task, data)
    trainer.save_checkpoint(tmp_path / "python.ckpt")
    python = torch.load(tmp_path / "python.ckpt", weights_only=True)
    command = torch.load(trained["gpt"], weights_only=True)
    assert python["hyper_parameters"] == command["hyper_parameters"]
    assert python["tokenizer"] == command["tokenizer"]
    assert python["state_dict"].keys() == command["state_dict"].keys()
    assert type(CausalLM.load_from_checkpoint(tmp_path / "python.ckpt")) is CausalLM
    assert type(load_task(trained["gpt"])) is CausalLM


def test_another_architectures_checkpoint_is_refused(
    folder: Path, trained: dict[str, Path], capsys: pytest.CaptureFixture[str]
) -> None:
    assert (
        main(["test", "--config", str(folder / "gpt.yaml"), f"--ckpt_path={trained['mt']}", *QUICK])
        == 2
    )
    error = capsys.readouterr().err
    assert (
        "holds Translation of TransformerConfig, but the configuration asks for CausalLM of GPTConfig"
        in error
    )


def test_bad_input_gives_one_clear_error(
    folder: Path,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    empty, binary, short = tmp_path / "empty.txt", tmp_path / "latin1.txt", tmp_path / "short.txt"
    empty.write_text("")
    binary.write_bytes(b"fine\ncaf\xe9\n")
    short.write_text("a\nb\n")
    source = "--data.init_args.source.init_args"
    gpt, mt = (
        ["fit", "--config", str(folder / "gpt.yaml")],
        ["fit", "--config", str(folder / "mt.yaml")],
    )
    monkeypatch.delenv("LIT_LM_DATA", raising=False)
    monkeypatch.chdir(tmp_path)
    cases = [
        ([*gpt, f"{source}.train={empty}"], ["empty.txt", "empty"]),
        ([*gpt, f"{source}.train={binary}"], ["latin1.txt", "line 2", "UTF-8"]),
        ([*mt, f"{source}.train=[{folder}/src.txt,{short}]"], ["64", "2", "lines"]),
        ([*gpt, f"{source}.train={tmp_path}/nowhere/x.txt"], ["nowhere"]),
        (["fit", "--config=experiment/wiki_gpt"], ["LIT_LM_DATA"]),
        (["fit", "--config=experiment/nothing"], ["experiment/nothing"]),
        ([*mt, "--data.init_args.max_length=4"], ["max_length=4", "skip"]),
        ([*gpt, "--model.init_args.net.init_args.num_heads=3"], ["num_heads=3", "d_model=32"]),
        ([*gpt, "--budget.amount=-1"], ["budget"]),
        (["generate", str(tmp_path / "no.ckpt")], ["no.ckpt"]),
        (["generate", str(short)], ["short.txt", "checkpoint"]),
        (["dance"], ["dance", "generate"]),
    ]
    for args, words in cases:
        flags = [f"--run.dir={tmp_path}/runs", *QUICK] if args[0] == "fit" else []
        try:
            status: Any = main([*args, *flags])
        except SystemExit as stop:
            status = stop.code
        error = capsys.readouterr().err
        assert status not in (0, None), args
        for word in words:
            assert word in error, (args, word, error)
        assert "Traceback" not in error


def test_help_is_quick_and_imports_nothing_heavy() -> None:
    code = "import sys; from lit_lm.cli import main; main(['--help']); print(sorted({'torch','lightning','wandb'} & set(sys.modules)))"
    out = subprocess.run([sys.executable, "-c", code], capture_output=True, text=True, check=True)
    assert out.stdout.splitlines()[-1] == "[]"
    assert "compare" in out.stdout


@pytest.mark.parametrize(
    "verb",
    [
        "fit",
        "generate",
        "translate",
        "fill-mask",
        "embed",
        "import",
        "export",
        "compare",
        "prepare",
    ],
)
def test_every_verb_has_help(verb: str, capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit) as stop:
        main([verb, "--help"])
    assert stop.value.code == 0
    assert "usage" in capsys.readouterr().out


@pytest.mark.parametrize(
    "name",
    [n if n == "rnn" else pytest.param(n, marks=pytest.mark.slow) for n in EXPERIMENTS],
)
def test_two_processes_and_half_precision_from_configuration_alone(
    name: str, folder: Path, tmp_path: Path
) -> None:
    command = [
        *COMMAND, "fit", "--config", str(folder / f"{name}.yaml"), f"--run.dir={tmp_path}", *QUICK,
        "--config=trainer/ddp", "--config=trainer/bf16", "--trainer.devices=2", "--trainer.max_steps=3",
    ]  # fmt: skip
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    out = subprocess.run(command, capture_output=True, text=True, env=env, check=False, timeout=200)
    assert out.returncode == 0, out.stderr[-3000:]
    assert "sync_dist" not in out.stderr, "what is logged is of all ranks already"
    checkpoint = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
    assert checkpoint["global_step"] == 3
    assert all(v.dtype == torch.float32 for v in checkpoint["state_dict"].values())


@pytest.mark.slow  # tests/tasks/test_gradients.py has it for one step
def test_two_processes_equal_one(folder: Path, tmp_path: Path) -> None:
    """The same global batches: weights agree up to rounding after three steps."""
    env = {**os.environ, "OMP_NUM_THREADS": "1"}
    found = []
    for name, size, flags in (
        ("one", 8, []),
        ("two", 4, ["--config=trainer/ddp", "--trainer.devices=2"]),
    ):
        command = [
            *COMMAND, "fit", "--config", str(folder / "gpt.yaml"), f"--run.dir={tmp_path}", f"--run.name={name}",
            *QUICK, *flags, f"--data.init_args.batch_size={size}", "--trainer.max_epochs=1", "--trainer.max_steps=-1",
            "--trainer.accumulate_grad_batches=100", "--trainer.limit_val_batches=0",
            "--model.init_args.net.init_args.dropout=0", "--trainer.val_check_interval=1.0",
        ]  # fmt: skip
        out = subprocess.run(
            command, capture_output=True, text=True, env=env, check=False, timeout=200
        )
        assert out.returncode == 0, out.stderr[-3000:]
        checkpoint = torch.load(tmp_path / name / "checkpoints" / "last.ckpt", weights_only=True)
        assert checkpoint["global_step"] == 1
        found.append(checkpoint)
    one, two = (c["optimizer_states"][0]["state"] for c in found)
    for key in one:  # Adam's first moment after one step is the gradient
        torch.testing.assert_close(one[key]["exp_avg"], two[key]["exp_avg"], rtol=1e-4, atol=1e-7)
    name = "Meter"
    meters = [next(v for k, v in c["callbacks"].items() if name in k)["totals"] for c in found]
    assert meters[0]["tokens"] == meters[1]["tokens"]
    assert meters[0]["bytes"] == meters[1]["bytes"]


def test_a_new_architecture_is_one_file_and_one_yaml(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: Any
) -> None:
    """From outside the package: trained, used, compared and swept by the command line, with no other change."""
    (tmp_path / "bigram.py").write_text('''
from dataclasses import dataclass
from torch import nn
from lit_lm.models import CausalArchitecture, CausalNetwork

@dataclass(frozen=True)
class BigramConfig(CausalArchitecture):
    dim: int = 16
    def build(self, spec):
        return Bigram(self, spec)

class Bigram(CausalNetwork):
    """Looks at the last token only."""
    max_length = None
    def __init__(self, config, spec):
        super().__init__()
        self.table = nn.Embedding(spec.vocab_size, config.dim)
        self.head = nn.Linear(config.dim, spec.vocab_size)
    def forward(self, ids, mask=None):
        return self.table(ids)
    def start(self, ids, lengths, capacity):
        return self.step(ids[range(len(ids)), lengths - 1], None)
    def step(self, ids, state, parents=None):
        return self.head(self.table(ids)), state
    def keep(self, state, rows):
        return state
    def row_flops(self, *lengths):
        return 2 * self.head.weight.numel() * lengths[0]
''')
    (tmp_path / "bigram.yaml").write_text("class_path: bigram.BigramConfig\ninit_args: {dim: 12}\n")
    text = (folder / "gpt.yaml").read_text()
    start = text.index("    net:")
    (tmp_path / "experiment.yaml").write_text(text[:start] + "    net: bigram.yaml\n")

    # The members of comparisons and sweeps are processes of their own, which know no more than the folder that they
    # start in; nor does this one, in which nothing but `main` itself adds that folder to the path.
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    assert main(["fit", "--config=experiment.yaml", "--run.dir=runs", *QUICK]) == 0
    (tmp_path / "prompts.txt").write_text("a b\n")
    checkpoint = "runs/gpt/checkpoints/best.ckpt"
    assert main(["generate", checkpoint, "prompts.txt", "--max_new_tokens=3"]) == 0
    assert capsys.readouterr().out.startswith("a b")

    member = {"name": "bigram", "config": "experiment.yaml"}
    settings = {"members": [member], "overrides": QUICK, "output_dir": "compared"}
    (tmp_path / "mine.yaml").write_text(yaml.safe_dump(settings))
    assert main(["compare", "mine.yaml"]) == 0
    page = (tmp_path / "compared" / "mine" / "index.html").read_text()
    (row,) = json.loads((tmp_path / "compared" / "mine" / "results.json").read_text())["members"]
    assert (row["architecture"], row["status"]) == ("Bigram", "done")
    assert "Bigram" in page
    assert row["parameters"] > 0 < row["bits_per_byte"]

    swept = {"config": "experiment.yaml", "method": "grid", "output_dir": "swept"}
    swept["metric"] = {"name": "val/loss", "goal": "minimize"}
    swept["parameters"] = {"model.init_args.net.init_args.dim": {"values": [4]}}
    swept["parameters"] |= {
        f.split("=")[0][2:]: {"value": yaml.safe_load(f.split("=")[1])} for f in QUICK
    }
    (tmp_path / "grid.yaml").write_text(yaml.safe_dump(swept))
    assert main(["sweep", "grid.yaml"]) == 0
    found = json.loads((tmp_path / "swept" / "grid" / "results.json").read_text())
    (row,) = found["members"]
    assert row["settings"]["model.init_args.net.init_args.dim"] == 4
    assert row["objective"]
    del sys.modules["bigram"]
