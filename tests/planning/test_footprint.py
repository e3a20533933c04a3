"""What a step is said to keep, beside what a real step of the same batch keeps."""

from __future__ import annotations

import dataclasses
from collections.abc import Iterator
from typing import Any

import pytest
import torch

from benchmarks.planning import kept
from lit_lm import (
    BidirectionalLM,
    CausalLM,
    Classification,
    MaskedLM,
    OptimConfig,
    RNNConfig,
    Tagging,
    Translation,
    full_rows,
)
from lit_lm.data.batches import LabelledBatch, MaskedBatch, PairBatch, TextBatch
from lit_lm.footprint import Footprint, Work, measure
from lit_lm.full_rows import footprint
from lit_lm.nn.heads import HeadConfig
from lit_lm.planning.batches import Shape, batch
from lit_lm.specs import DataSpec
from tests import tiny

B, L, T = 3, 8, 7
SPEC = DataSpec(vocab_size=60, max_length=L, max_target_length=T)
TEXT = Shape(TextBatch, SPEC)
CHARS = Shape(TextBatch, dataclasses.replace(SPEC, max_characters=6))
MASKED = Shape(MaskedBatch, dataclasses.replace(SPEC, next_sentence=True), hidden=0.15)
PAIRS = Shape(PairBatch, SPEC)
CLASSES = Shape(
    LabelledBatch, dataclasses.replace(SPEC, form="bert", target="class", labels=("0", "1"))
)
TAGS = Shape(
    LabelledBatch,
    dataclasses.replace(SPEC, form="bert", target="tags", labels=("O", "B-X", "I-X")),
)
DROPPING: dict[str, Any] = {"dropout": 0.1}
RNN = RNNConfig(d_model=16, d_hidden=20, **DROPPING)
GPT, BERT, ELMO, TRANSFORMER = (
    dataclasses.replace(net, **DROPPING)
    for net in (tiny.GPT, tiny.BERT, tiny.ELMO, tiny.TRANSFORMER)
)
CASES: dict[str, tuple[Any, Any, Shape, dict[str, Any]]] = {
    "gpt": (CausalLM, GPT, TEXT, {}),
    "gpt, packed": (CausalLM, GPT, dataclasses.replace(TEXT, packed=True), {}),
    "bert": (MaskedLM, BERT, MASKED, {}),
    "elmo": (BidirectionalLM, ELMO, CHARS, {}),
    "transformer": (Translation, TRANSFORMER, PAIRS, {}),
    "rnn": (Translation, RNN, PAIRS, {}),
    "rnn, additive gru": (
        Translation,
        dataclasses.replace(RNN, cell="gru", attention="additive", num_layers=2),
        PAIRS,
        {},
    ),
    "classes": (Classification, BERT, CLASSES, {}),
    "classes, frozen": (Classification, BERT, CLASSES, {"mode": "frozen"}),
    "tags": (Tagging, BERT, TAGS, {"head": HeadConfig(crf=True)}),
}


def make(kind: Any, net: Any, shape: Shape, more: dict[str, Any], optim: Any = None) -> Any:
    return kind(net, shape.spec, optim or OptimConfig(), **more).train()


def found(task_of: Any, shape: Shape, precision: Any = "32-true", gpu: bool = False) -> Footprint:
    def work() -> Work:
        task, held = task_of(), []

        def loss() -> Any:
            held.append(batch(shape, B, shape.lengths)[0])
            return task.loss(held[0]).total

        return Work(task, task.net, loss, task.optim.build)

    return measure(work, precision, gpu=gpu)


@pytest.fixture(autouse=True)
def step_by_step() -> Iterator[None]:
    """oneDNN's recurrent kernel has a workspace of its own, which at these sizes is most of what is kept."""
    torch._C._set_mkldnn_enabled(False)
    yield
    torch._C._set_mkldnn_enabled(True)


SLOW = pytest.mark.slow
FAST = ("gpt", "bert", "elmo", "transformer", "rnn", "classes, frozen")


@pytest.mark.parametrize(
    "name", [name if name in FAST else pytest.param(name, marks=SLOW) for name in CASES]
)
def test_a_step_keeps_what_it_is_said_to(name: str) -> None:
    kind, net, shape, more = CASES[name]
    said = found(lambda: make(kind, net, shape, more), shape)
    real = kept(make(kind, net, shape, more), batch(shape, B, shape.lengths)[0])
    assert (said.weights, said.gradients) == (real.weights, real.gradients)
    assert said.optimizer == real.optimizer
    assert said.kept == pytest.approx(real.forward, rel=0.05), (said, real)
    assert not said.content


@pytest.mark.parametrize(
    ("name", "precision"),
    [
        ("gpt", "bf16-mixed"),
        pytest.param("gpt", "bf16-true", marks=SLOW),
        pytest.param("elmo", "bf16-mixed", marks=SLOW),
        pytest.param("elmo", "bf16-true", marks=SLOW),
        pytest.param("transformer", "bf16-mixed", marks=SLOW),
        pytest.param("bert", "bf16-mixed", marks=SLOW),
        pytest.param("rnn", "bf16-mixed", marks=SLOW),
    ],
)
def test_a_step_in_half_precision(name: str, precision: str) -> None:
    kind, net, shape, more = CASES[name]
    said = found(lambda: make(kind, net, shape, more), shape, precision)
    if precision == "bf16-true":
        torch.set_default_dtype(torch.bfloat16)
    try:
        real = kept(make(kind, net, shape, more), batch(shape, B, shape.lengths)[0], precision)
    finally:
        torch.set_default_dtype(torch.float32)
    assert said.kept == pytest.approx(real.forward, rel=0.05), (said, real)
    assert (said.weights, said.optimizer) == (real.weights, real.optimizer)
    plain = found(lambda: make(kind, net, shape, more), shape)
    assert (said.weights == plain.weights) == (precision == "bf16-mixed")
    assert (said.copies > 0) == (precision == "bf16-mixed")


def test_muon_keeps_one_state_of_inner_matrices() -> None:
    optim = OptimConfig(optimizer="muon")
    said = found(lambda: make(CausalLM, GPT, TEXT, {}, optim), TEXT)
    real = kept(make(CausalLM, GPT, TEXT, {}, optim), batch(TEXT, B, (L,))[0])
    assert said.optimizer == real.optimizer < 2 * said.weights


def test_what_asks_for_content_gets_it() -> None:
    more = {"sampled_softmax": 20}
    said = found(lambda: make(BidirectionalLM, ELMO, CHARS, more), CHARS)
    torch.manual_seed(0)
    real = kept(make(BidirectionalLM, ELMO, CHARS, more), batch(CHARS, B, (L,))[0])
    assert said.content
    assert said.kept == pytest.approx(real.forward, rel=0.1)


def test_deep_ones_are_drawn_out_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    deep = dataclasses.replace(BERT, num_layers=5)
    spec = MASKED.spec
    whole = footprint(deep, spec, (L,), B, "bf16-mixed")
    monkeypatch.setattr(full_rows, "_DEEP", 4)
    assert footprint(deep, spec, (L,), B, "bf16-mixed") == whole
    assert whole.weights == sum(p.nbytes for p in deep.build(spec).parameters())


def test_long_rows_of_recurrent_nets_are_drawn_out_exactly(monkeypatch: pytest.MonkeyPatch) -> None:
    whole = footprint(RNN, SPEC, (9, 7), B)
    monkeypatch.setattr(full_rows, "_FEW", 2)
    monkeypatch.setattr(full_rows, "_MORE", 3)
    assert footprint(RNN, SPEC, (9, 7), B) == whole


@pytest.mark.parametrize(
    "name", ["bert", *(pytest.param(n, marks=SLOW) for n in ("gpt", "transformer", "rnn"))]
)
def test_a_bare_network_s_step_is_its_task_s(name: str) -> None:
    kind, net, shape, more = CASES[name]
    spec = dataclasses.replace(shape.spec, next_sentence=True)
    shape = dataclasses.replace(shape, spec=spec)
    task = found(lambda: make(kind, net, shape, more), shape)
    bare = footprint(net, spec, shape.lengths, B, gpu=False)
    assert bare.kept == pytest.approx(task.kept, rel=0.02)  # the batches are not of one size
    for part in ("weights", "gradients", "optimizer", "copies"):
        assert getattr(bare, part) == getattr(task, part)


def test_checkpointing_keeps_inputs_and_one_layer() -> None:
    """Against torch's own, around each block."""
    from torch.utils.checkpoint import checkpoint

    net = dataclasses.replace(tiny.GPT, num_layers=6)
    said = found(lambda: make(CausalLM, net, TEXT, {}), TEXT)
    task = make(CausalLM, net, TEXT, {})
    whole = kept(task, batch(TEXT, B, (L,))[0]).forward
    for block in task.net.stack.blocks:
        inner = block.forward
        block.forward = lambda *a, inner=inner, **k: checkpoint(inner, *a, use_reentrant=False, **k)
    again = kept(task, batch(TEXT, B, (L,))[0]).forward
    assert len(task.net.stacked()) == 6
    spared = said.activations - (said.checkpointed - said.largest)
    assert spared == pytest.approx(whole - again, rel=0.05)
    assert said.largest < said.inside / 4


def test_on_a_gpu_attention_keeps_no_weights_and_more_logits_are_made_at_a_time() -> None:
    long = dataclasses.replace(TEXT, spec=dataclasses.replace(SPEC, max_length=200))
    cpu, gpu = (
        found(lambda: make(CausalLM, GPT, long, {}), long, gpu=gpu) for gpu in (False, True)
    )
    weights = 4 * GPT.num_layers * GPT.num_heads * B * 200 * 200
    assert cpu.activations - gpu.activations > weights
    assert gpu.stretch >= cpu.stretch
