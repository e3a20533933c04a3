"""What a configuration is and costs: counted, and measured against a real training step."""

from __future__ import annotations

import dataclasses
import json
import re
import subprocess
import sys
from pathlib import Path

import pytest
import torch

from lit_lm import configs
from lit_lm.cli import main
from lit_lm.describe import describe, outline
from lit_lm.errors import InputError
from lit_lm.full_rows import footprint
from lit_lm.losses import cross_entropy
from lit_lm.models import GPTConfig, RNNConfig
from lit_lm.specs import DataSpec
from tests.conftest import PROJECTS, ROOT

ROW = re.compile(r"^\| `(\w+)` \| \d+ \| \d+ \| \S+ \| ([\d,]+) \| ([\d,]+) \|", re.MULTILINE)


def test_networks_that_look_at_what_they_read() -> None:
    """Recurrent nets read lengths, and ELMo looks for the longest token: there is nothing to be read here."""
    assert describe("model/elmo_builtin", vocab_size=100, length=8).memory.activations > 0
    few, many = (describe("model/rnn_builtin", vocab_size=100, length=n) for n in (500, 1000))
    assert 2 * few.memory.activations < many.memory.activations  # of attention four times as much


def test_a_model_and_an_experiment() -> None:
    gpt = describe("model/gpt2_small")
    assert (gpt.vocab_size, gpt.lengths) == (50_257, (1024,))
    assert gpt.cost.parameters == sum(part.parameters for part in gpt.parts) == 124_439_808
    wiki = describe("experiment/wiki_gpt")
    assert wiki.vocab_size == 8000
    assert wiki.architecture == "GPT"
    pairs = describe("experiment/multi30k_en_de_rnn")
    assert len(pairs.lengths) == 2


def test_memory_adds_up_and_follows_the_settings() -> None:
    plain = describe("model/gpt_builtin", vocab_size=1000, length=32).memory
    assert plain.total == plain.weights + plain.gradients + plain.optimizer + plain.activations
    tensors = sum(1 for _ in outline("model/gpt_builtin").network.parameters())
    # Adam has two moments, and counts the steps of each tensor.
    assert plain.optimizer - 4 * tensors == 2 * plain.weights == 2 * plain.gradients
    half = describe("model/gpt_builtin", vocab_size=1000, length=32, precision="bf16-true").memory
    assert 2 * half.weights == plain.weights
    assert half.activations < plain.activations
    muon = describe("model/gpt_builtin", vocab_size=1000, length=32, optimizer="muon").memory
    assert plain.weights < muon.optimizer < plain.optimizer
    rows = describe("model/gpt_builtin", vocab_size=1000, length=32, batch_size=7).memory
    assert rows.weights == plain.weights
    four = describe("model/gpt_builtin", vocab_size=1000, length=32, batch_size=4).memory
    # All rows keep the same, and the loss besides the gradient of the output layer.
    assert rows.activations - four.activations == four.activations - plain.activations


@pytest.mark.parametrize("name", ["gpt_builtin", "rnn_builtin"])
def test_activations_are_those_of_a_real_step(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    """Three rows with content. oneDNN's recurrent kernel, for rows of one length, has a workspace of its own."""
    monkeypatch.setattr(torch.backends.mkldnn, "enabled", False)
    net = configs.architecture(f"model/{name}")
    net = dataclasses.replace(net, num_layers=4 if isinstance(net, GPTConfig) else 2, dropout=0.0)
    spec = DataSpec(vocab_size=300, max_length=24, max_target_length=24)
    network = net.build(spec)
    ids = torch.randint(5, 300, (3, 24))
    kept: dict[int, torch.UntypedStorage] = {}

    def pack(tensor: torch.Tensor) -> torch.Tensor:
        kept[tensor.untyped_storage().data_ptr()] = tensor.untyped_storage()
        return tensor

    with torch.autograd.graph.saved_tensors_hooks(pack, lambda t: t):
        h = network(ids, ids > 0, ids) if isinstance(net, RNNConfig) else network(ids)
        loss = cross_entropy(h, network.head, ids).total
    for parameter in network.parameters():
        kept.pop(parameter.untyped_storage().data_ptr(), None)
    real = sum(storage.nbytes() for storage in kept.values())
    real += sum(g.nbytes for g in loss.grad_fn.gradients if g is not None)
    lengths = (24, 24) if isinstance(net, RNNConfig) else (24,)
    found = footprint(net, spec, lengths, 3)
    assert found.kept == pytest.approx(real, rel=0.03)
    assert not found.content


STEP = """
import resource, sys, torch
from lit_lm.losses import cross_entropy
from lit_lm.models import GPTConfig
from lit_lm.specs import DataSpec
net = GPTConfig(num_layers=8, num_heads=8, d_model=512, dropout=0.0).build(DataSpec(vocab_size=8000, max_length=256))
optimizer = torch.optim.AdamW(net.parameters(), foreach=False)
def step(rows, length):
    ids = torch.randint(5, 8000, (rows, length))
    loss = cross_entropy(net(ids), net.head, ids).total
    loss.backward()
    optimizer.step()
before = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - sum(p.nbytes for p in net.parameters()) // 1024
step(1, 2)
step(12, 256)
print((resource.getrusage(resource.RUSAGE_SELF).ru_maxrss - before) * 1024)
"""


@pytest.mark.slow
def test_memory_is_that_of_a_training_process(tmp_path: Path) -> None:
    out = subprocess.run([sys.executable, "-c", STEP], capture_output=True, text=True, check=True)
    path = tmp_path / "gpt.yaml"
    path.write_text(
        "class_path: lit_lm.models.GPTConfig\n"
        "init_args: {num_layers: 8, num_heads: 8, d_model: 512, dropout: 0.0}\n"
    )
    found = describe(str(path), vocab_size=8000, length=256, batch_size=12).memory.total
    assert found == pytest.approx(int(out.stdout), rel=0.2)


def test_the_documented_sizes_are_the_code_s() -> None:
    text = (ROOT / "docs" / "sizes.md").read_text()
    rows = {
        name: (int(v.replace(",", "")), int(p.replace(",", ""))) for name, v, p in ROW.findall(text)
    }
    presets = {p.stem for p in (ROOT / "configs" / "model").glob("*.yaml")}
    assert rows.keys() == {n for n in presets if not n.endswith(PROJECTS)}
    for name, (vocab_size, parameters) in rows.items():
        spec = DataSpec(
            vocab_size=vocab_size, max_length=512, next_sentence=True, max_characters=50
        )
        with torch.device("meta"):
            net = configs.architecture(f"model/{name}").build(spec)
        count = sum(
            p.numel()
            for n, p in net.named_parameters()
            if not (name.startswith("elmo") and "head" in n)
        )
        assert count == parameters, name


def test_the_command_line(capsys: pytest.CaptureFixture[str], tmp_path: Path) -> None:
    assert main(["describe", "model/bert_tiny", "--json"]) == 0
    found = json.loads(capsys.readouterr().out)
    assert found["cost"]["parameters"] == 4_433_468
    assert main(["describe", "model/bert_tiny", "--batch_size=4"]) == 0
    assert "4,433,468" in capsys.readouterr().out
    for flags, word in (
        (["--length=600"], "512 positions"),
        (["--batch_size=0"], "batch_size=0"),
        (["--precision=8"], "precision='8'"),
    ):
        assert main(["describe", "model/bert_tiny", *flags]) == 2
        assert word in capsys.readouterr().err
    wrong = tmp_path / "x.yaml"
    wrong.write_text("model: {init_args: {}}\n")
    with pytest.raises(InputError, match="neither a model nor an experiment"):
        describe(str(wrong))
    for content, said in (
        (b"", "holds nothing"),
        (b"a: [", "no valid YAML"),
        (b"\xff\xfe", "UTF-8"),
    ):
        wrong.write_bytes(content)
        with pytest.raises(InputError, match=said):
            describe(str(wrong))
    with pytest.raises(InputError, match="batch_size=1000000000000 must be"):
        describe("model/bert_tiny", batch_size=10**12)


def test_an_architecture_in_the_working_folder(
    capsys: pytest.CaptureFixture[str], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    (tmp_path / "own_describe.py").write_text(
        "from lit_lm.models import GPTConfig\n\n\nclass Mine(GPTConfig):\n    pass\n"
    )
    (tmp_path / "mine.yaml").write_text(
        "class_path: own_describe.Mine\ninit_args: {num_layers: 1, num_heads: 2, d_model: 8}\n"
    )
    monkeypatch.chdir(tmp_path)
    monkeypatch.setattr(sys, "path", [p for p in sys.path if p])
    status = main(["describe", "mine.yaml", "--vocab_size=10", "--length=8"])
    captured = capsys.readouterr()
    assert status == 0, captured.err
    assert "1,032" in captured.out
