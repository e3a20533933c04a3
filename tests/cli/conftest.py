"""Tiny experiments of every architecture, and their checkpoints."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_lm.cli import main
from tests import tiny
from tests.cli import EXPERIMENTS, QUICK


@pytest.fixture(scope="package")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("cli")
    tiny.write(folder)
    path = folder / "text.txt"
    (folder / "gpt.yaml").write_text(f"""
run: {{name: gpt, dir: {folder}/runs}}
trainer: {{max_steps: 4, val_check_interval: 2, enable_model_summary: false}}
data:
  class_path: lit_lm.data.TextData
  init_args:
    source: {{class_path: lit_lm.data.TextFiles, init_args: {{train: {path}, val: {path}}}}}
    tokenizer: {{kind: word}}
    rows: documents
    length: 16
    batch_size: 8
model:
  class_path: lit_lm.tasks.CausalLM
  init_args:
    net: {{class_path: lit_lm.models.GPTConfig, init_args: {{num_layers: 2, num_heads: 2, d_model: 32}}}}
""")
    (folder / "mt.yaml").write_text(f"""
run: {{name: mt, dir: {folder}/runs}}
trainer: {{max_steps: 4, val_check_interval: 2, enable_model_summary: false}}
data:
  class_path: lit_lm.data.PairData
  init_args:
    source:
      class_path: lit_lm.data.ParallelFiles
      init_args: {{train: [{folder}/src.txt, {folder}/tgt.txt], val: [{folder}/src.txt, {folder}/tgt.txt]}}
    tokenizer: {{kind: word}}
    batch_size: 8
model:
  class_path: lit_lm.tasks.Translation
  init_args:
    net:
      class_path: lit_lm.models.TransformerConfig
      init_args: {{num_layers: 2, num_heads: 2, d_model: 32, d_ff: 64}}
""")
    mt = (folder / "mt.yaml").read_text()
    (folder / "rnn.yaml").write_text(
        mt.replace("name: mt", "name: rnn")
        .replace("TransformerConfig", "RNNConfig")
        .replace(
            "{num_layers: 2, num_heads: 2, d_model: 32, d_ff: 64}", "{d_model: 32, d_hidden: 32}"
        )
    )
    gpt = (folder / "gpt.yaml").read_text()
    (folder / "bert.yaml").write_text(
        gpt.replace("name: gpt", "name: bert")
        .replace("TextData", "MaskedTextData")
        .replace("    rows: documents\n    length: 16\n", "    max_length: 20\n")
        .replace("CausalLM", "MaskedLM")
        .replace("GPTConfig", "BERTConfig")
    )
    (folder / "elmo.yaml").write_text(
        gpt.replace("name: gpt", "name: elmo")
        .replace("    length: 16\n", "    length: 16\n    characters: 8\n")
        .replace("CausalLM", "BidirectionalLM")
        .replace("GPTConfig", "ELMoConfig")
        .replace(
            "{num_layers: 2, num_heads: 2, d_model: 32}",
            "{filters: [[1, 8], [2, 8]], d_model: 16, d_cell: 24}",
        )
    )
    return folder


@pytest.fixture(scope="package")
def trained(folder: Path) -> dict[str, Path]:
    """Checkpoints of all experiments."""
    for name in EXPERIMENTS:
        assert main(["fit", "--config", str(folder / f"{name}.yaml"), *QUICK]) == 0
    return {name: folder / "runs" / name / "checkpoints" / "best.ckpt" for name in EXPERIMENTS}
