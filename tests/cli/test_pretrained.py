"""One setting that says where training starts: architecture, tokenizer and weights of a checkpoint."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm import InputError, checkpoints
from lit_lm.training import run_cli
from tests import tiny
from tests.cli import QUICK
from tests.tasks.test_adaptation import pretrained


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("pretrained")
    for kind in ("bert", "causal"):
        pretrained(folder, kind)
    lines = [f"a b {w}\t{'xy'[i % 2]}" for i, w in enumerate("abcdefgh")]
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    (folder / "task.yaml").write_text(f"""
run: {{name: labels, dir: {folder}/runs}}
trainer: {{max_steps: 2, enable_model_summary: false}}
data:
  class_path: lit_lm.data.ClassificationData
  init_args:
    source:
      class_path: lit_lm.data.TsvLabels
      init_args: {{train: {folder}/labels.tsv, val: {folder}/labels.tsv}}
    tokenizer: {{kind: word}}
    max_length: 64
    batch_size: 4
model:
  class_path: lit_lm.tasks.Classification
  init_args:
    net: {{class_path: lit_lm.models.BiLSTMConfig, init_args: {{d_model: 8, d_hidden: 8}}}}
    optim: {{lr: 0.0}}
""")
    return folder


def run(folder: Path, verb: str, *flags: str) -> Any:
    return run_cli([verb, "--config", str(folder / "task.yaml"), *QUICK, *flags])


def test_from_nothing_the_form_is_the_architectures(folder: Path) -> None:
    cli = run(folder, "fit", "--run.name=nothing")
    assert cli.datamodule.form == "source"
    assert cli.model.hparams["spec"]["form"] == "source"


@pytest.mark.parametrize(("kind", "form"), [("bert", "bert"), ("causal", "gpt")])
def test_a_checkpoint_brings_all_that_it_takes(folder: Path, kind: str, form: str) -> None:
    path = folder / f"{kind}.ckpt"
    flag = "--model.init_args.net.init_args.dropout=0.25"
    cli = run(folder, "fit", f"--pretrained.path={path}", f"--run.name={kind}", flag)
    kept = checkpoints.load(path)
    assert cli.model.tokenizer.state() == kept["tokenizer"]
    net = dict(kept["hyper_parameters"]["net"]["init_args"], dropout=0.25, max_length=16)
    assert cli.model.hparams["net"]["init_args"] == net
    assert cli.datamodule.form == form
    assert cli.datamodule.max_length == (64 if net["positions"] != "learned" else 16)
    for name, tensor in cli.model.net.state_dict().items():
        torch.testing.assert_close(tensor, kept["state_dict"][f"net.{name}"])
    # Its own checkpoint is enough to test it, and to go on with it.
    own = folder / "runs" / kind / "checkpoints" / "last.ckpt"
    moved = path.rename(folder / "away.ckpt")
    try:
        tested = run(folder, "test", f"--ckpt_path={own}", f"--run.name={kind}")
        assert "test/accuracy" in tested.trainer.callback_metrics
        gone = run(
            folder,
            "fit",
            "--ckpt_path=last",
            f"--run.name={kind}",
            f"--pretrained.path={path}",
            "--trainer.max_steps=3",
            flag,
        )
        assert gone.trainer.global_step == 3
    finally:
        moved.rename(path)


def test_the_same_without_the_weights(folder: Path) -> None:
    path = folder / "bert.ckpt"
    flags = [f"--pretrained.path={path}", "--pretrained.weights=false", "--run.name=scratch"]
    cli = run(folder, "fit", *flags)
    kept = checkpoints.load(path)
    assert cli.model.tokenizer.state() == kept["tokenizer"]
    name = "embedding.weight"
    assert cli.model.net.state_dict()[name].shape == kept["state_dict"][f"net.{name}"].shape
    assert not torch.equal(cli.model.net.state_dict()[name], kept["state_dict"][f"net.{name}"])


def test_bad_starts_are_refused(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    from lit_lm.cli import main

    def error(*flags: str) -> str:
        arguments = ["fit", "--config", str(folder / "task.yaml"), *QUICK, *flags]
        assert main(arguments) == 2
        return capsys.readouterr().err

    assert "nowhere.ckpt" in error("--pretrained.path=nowhere.ckpt")
    assert "cannot be read as a checkpoint" in error(f"--pretrained.path={folder}/labels.tsv")
    assert "config.json" in error(f"--pretrained.path={folder}")


def test_a_checkpoint_of_other_labels_is_refused(folder: Path) -> None:
    run(folder, "fit", "--run.name=own")
    other = folder / "other.tsv"
    other.write_text((folder / "labels.tsv").read_text().replace("x\n", "p\n"))
    own = folder / "runs" / "own" / "checkpoints" / "last.ckpt"
    source = "--data.init_args.source.init_args"
    flags = [f"{source}.train={other}", f"{source}.val={other}", f"--ckpt_path={own}"]
    for verb in ("test", "fit"):
        with pytest.raises(
            InputError, match="the data's labels are p, y, and the checkpoint was trained on x, y"
        ):
            run(folder, verb, *flags, "--run.name=other", "--trainer.max_steps=3")


def test_an_encoder_alone_is_not_tested(folder: Path) -> None:
    with pytest.raises(InputError, match=r"brings an encoder, and test needs a trained task"):
        run(folder, "test", f"--pretrained.path={folder}/bert.ckpt")


def test_a_language_model_goes_on_from_another(folder: Path) -> None:
    data = tiny.masked_data(folder)
    assert data.spec.next_sentence
    text = (folder / "task.yaml").read_text()
    start = text.index("data:")
    (folder / "mlm.yaml").write_text(
        text[:start].replace("name: labels", "name: mlm")
        + f"""
data:
  class_path: lit_lm.data.MaskedTextData
  init_args:
    source: {{class_path: lit_lm.data.TextFiles, init_args: {{train: {folder}/text.txt, val: {folder}/text.txt}}}}
    max_length: 16
    batch_size: 8
model:
  class_path: lit_lm.tasks.MaskedLM
  init_args:
    net: {{class_path: lit_lm.models.BERTConfig, init_args: {{num_layers: 1, num_heads: 1, d_model: 8}}}}
    pll_rows: 0
    optim: {{lr: 0.0}}
"""
    )
    flags = [f"--pretrained.path={folder}/bert.ckpt", *QUICK]
    cli = run_cli(["fit", "--config", str(folder / "mlm.yaml"), *flags])
    kept = checkpoints.load(folder / "bert.ckpt")["state_dict"]
    for name, tensor in cli.model.net.state_dict().items():
        torch.testing.assert_close(tensor, kept[f"net.{name}"])


@pytest.fixture(scope="module")
def translator(folder: Path) -> Path:
    """A YAML of a causal network with sources as prefixes, that learns nothing."""
    path = folder / "translator.yaml"
    path.write_text(f"""
run: {{name: pairs, dir: {folder}/runs}}
trainer: {{max_steps: 1, enable_model_summary: false}}
data:
  class_path: lit_lm.data.PairData
  init_args:
    source:
      class_path: lit_lm.data.ParallelFiles
      init_args:
        train: [{folder}/src.txt, {folder}/tgt.txt]
        val: [{folder}/src.txt, {folder}/tgt.txt]
    tokenizer: {{kind: word}}
    max_length: 16
    batch_size: 8
model:
  class_path: lit_lm.tasks.Translation
  init_args:
    net:
      class_path: lit_lm.models.DecoderOnlyConfig
      init_args:
        net: {{class_path: lit_lm.models.GPTConfig, init_args: {{num_layers: 1, num_heads: 1, d_model: 8}}}}
    optim: {{lr: 0.0}}
""")
    return path


FURTHER = "--model.init_args.net.init_args.net.init_args.max_length=32"


def test_a_translator_starts_from_a_language_model(
    folder: Path, translator: Path, caplog: pytest.LogCaptureFixture
) -> None:
    flags = [f"--pretrained.path={folder}/causal.ckpt", FURTHER, *QUICK]
    with caplog.at_level("INFO"):
        cli = run_cli(["fit", "--config", str(translator), *flags])
    assert "New here: nothing, and 16 positions behind the 16 it has." in caplog.text
    kept = checkpoints.load(folder / "causal.ckpt")
    assert cli.model.tokenizer.state() == kept["tokenizer"]
    own = {n.removeprefix("net."): t for n, t in cli.model.net.state_dict().items()}
    assert own.pop("positions.table.weight").shape[0] == 32
    for name, tensor in own.items():
        torch.testing.assert_close(tensor, kept["state_dict"][f"net.{name}"])
    table = cli.model.net.net.positions.table.weight
    torch.testing.assert_close(table[:16], kept["state_dict"]["net.positions.table.weight"])
    # The pre-trained one says how texts are read, also when its place is taken by the run's own.
    tested = run_cli(["test", "--config", str(translator), *flags[:1], "--ckpt_path=last", *QUICK])
    assert "test/bleu" in tested.trainer.callback_metrics


def test_a_translator_does_not_start_from_what_cannot_write(folder: Path, translator: Path) -> None:
    with pytest.raises(
        InputError, match=r"bert\.ckpt holds a network of BERTConfig, which writes no"
    ):
        run_cli(
            ["fit", "--config", str(translator), f"--pretrained.path={folder}/bert.ckpt", *QUICK]
        )


def test_a_translator_needs_positions_for_both_sides(folder: Path, translator: Path) -> None:
    flags = ["--config", str(translator), f"--pretrained.path={folder}/causal.ckpt", *QUICK]
    with pytest.raises(
        InputError, match=r"learned 16 positions, and .*max_length=16 tokens take 32"
    ):
        run_cli(["fit", *flags])
    run_cli(["fit", *flags, "--data.init_args.max_length=8", "--data.init_args.overlong=skip"])
