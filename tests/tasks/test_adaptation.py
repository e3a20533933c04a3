"""Tasks with labels over every encoder: they learn, in the way that was asked for, from the weights that were asked for."""

from __future__ import annotations

import dataclasses
import json
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer
from torch.utils.flop_counter import FlopCounterMode

from lit_lm import (
    AnswerData,
    AveragedConfig,
    BERTConfig,
    BiLSTMConfig,
    CausalLM,
    Classification,
    ClassificationData,
    ELMoConfig,
    GPTConfig,
    HeadConfig,
    InputError,
    MaskedLM,
    OptimConfig,
    QuestionAnswering,
    Regression,
    RegressionData,
    RNNConfig,
    Tagging,
    TaggingData,
    TokenizerConfig,
    TransformerConfig,
    WarmStart,
)
from lit_lm.data import BuiltinLabels, BuiltinTags, SquadFiles, TsvLabels
from lit_lm.interop import save_checkpoint
from lit_lm.models import Architecture
from lit_lm.optim import inner_matrices
from tests import tiny

WORDS = TokenizerConfig(kind="word", vocab_size=600)
ENCODERS: dict[str, Architecture] = {
    "bert": BERTConfig(num_layers=2, num_heads=2, d_model=16),
    "gpt": GPTConfig(num_layers=2, num_heads=2, d_model=16),
    "elmo": ELMoConfig(filters=[(1, 8), (2, 8)], num_highway=1, d_model=16, d_cell=24),
    "transformer": TransformerConfig(num_layers=2, num_heads=2, d_model=16, d_ff=24),
    "rnn": RNNConfig(d_model=16, d_hidden=16),
    "bilstm": BiLSTMConfig(d_model=16, d_hidden=16),
    "averaged": AveragedConfig(d_model=16),
}
OPTIM = OptimConfig(lr=1e-2, schedule="linear")


def news(net: Architecture, **settings: Any) -> ClassificationData:
    characters = 8 if isinstance(net, ELMoConfig) else 0
    settings = {"form": net.form, "batch_size": 8, "characters": characters, **settings}
    return ClassificationData(
        BuiltinLabels(about="news", train=32, val=6, test=6), WORDS, **settings
    )


def entities(net: Architecture, **settings: Any) -> TaggingData:
    characters = 8 if isinstance(net, ELMoConfig) else 0
    settings = {"form": net.form, "batch_size": 8, "characters": characters, **settings}
    return TaggingData(BuiltinTags(train=4, val=1, test=1), WORDS, **settings)


def train(task: Any, data: Any, steps: int = 4, **settings: Any) -> Trainer:
    settings = {"enable_checkpointing": False, "logger": False, "max_steps": steps, **settings}
    trainer = Trainer(
        accelerator="cpu", enable_progress_bar=False, enable_model_summary=False, **settings
    )
    trainer.fit(task, data)
    return trainer


@pytest.mark.parametrize("name", ENCODERS)
def test_any_encoder_runs_under_any_task(name: str) -> None:
    net = ENCODERS[name]
    heads = {Classification: HeadConfig(d_hidden=16), Tagging: HeadConfig(d_lstm=8, crf=True)}
    for kind, make in ((Classification, news), (Tagging, entities)):
        data = make(net)
        torch.manual_seed(0)
        task = kind(net, data.spec, OPTIM, heads[kind])
        before = {n: p.detach().clone() for n, p in task.named_parameters()}
        trainer = train(task, data)
        still = [n for n, p in task.named_parameters() if torch.equal(p, before[n])]
        # Of one segment only the first row of a table is moved, and a row that no weight decay pulls stays.
        assert still == []
        found = trainer.test(task, data, verbose=False)[0]
        assert {"test/loss", "test/f1"} <= set(found)
        assert task.meter.totals["flops"] > 0
        assert len(task.samples(data, count=3)) == 3


def test_a_batch_is_scored_row_by_row() -> None:
    for name in ("bert", "gpt", "elmo", "rnn"):
        net = ENCODERS[name]
        data = news(net)
        task = Classification(net, data.spec).eval()
        rows = data.rows("val")
        some = [rows[i] for i in range(6)]
        together = task.scores(rows.collate(some))
        alone = torch.cat([task.scores(rows.collate([row])) for row in some])
        torch.testing.assert_close(together, alone)


def test_a_frozen_encoder_stays_and_has_no_dropout() -> None:
    net = ENCODERS["bert"]
    data = news(net)
    task = Classification(net, data.spec, OPTIM, mode="frozen")
    before = {n: p.detach().clone() for n, p in task.net.named_parameters()}
    head = task.head.output.weight.detach().clone()
    trainer = train(task, data)
    assert all(torch.equal(p, before[n]) for n, p in task.net.named_parameters())
    assert not torch.equal(task.head.output.weight, head)
    task.train()
    assert not any(m.training for m in task.net.modules())
    assert task.head.training
    assert trainer.optimizers[0].param_groups[0]["params"][0] is task.head.output.weight
    full = Classification(net, data.spec)
    size = next(iter(data.train_dataloader())).size
    assert task.flops(size) == pytest.approx(full.flops(size) / 3, rel=0.02)


def rates(task: Any, progress: float) -> dict[int, float]:
    found = {task.depth_of(name): 0.0 for name, _ in task.named_parameters()}
    return {depth: task.share(depth, progress) for depth in found}


def test_lower_layers_learn_less() -> None:
    net = ENCODERS["bert"]
    task = Classification(net, news(net).spec, OPTIM, layer_decay=0.5)
    assert rates(task, 0.3) == {3: 1.0, 2: 0.5, 1: 0.25, 0: 0.125}
    trainer = train(task, news(net), steps=2)
    groups = trainer.optimizers[0].param_groups
    assert {g["depth"] for g in groups} == {0, 1, 2, 3}
    base = {g["depth"]: g["lr"] for g in groups}
    assert base[2] == pytest.approx(base[3] / 2)
    assert base[0] == pytest.approx(base[3] / 8)
    assert sum(len(g["params"]) for g in groups) == len(list(task.parameters()))


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_layers_are_unfrozen_from_the_top(optimizer: Any) -> None:
    net = ENCODERS["bert"]
    data = news(net, batch_size=4)  # 8 steps an epoch
    task = Classification(net, data.spec, OptimConfig(optimizer, lr=1e-2), mode="gradual")
    before = {n: p.detach().clone() for n, p in task.named_parameters()}
    moved: list[set[int]] = []

    def note(*_: Any) -> None:
        changed = {n for n, p in task.named_parameters() if not torch.equal(p, before[n])}
        moved.append({task.depth_of(n) or 0 for n in changed})

    task.on_train_batch_end = note  # type: ignore[method-assign]
    train(task, data, steps=12)
    assert moved[0] == {3}
    assert moved[-1] == {0, 1, 2, 3}
    assert sorted(moved, key=len) == moved
    assert {2, 3} in moved


def test_the_loss_is_the_mean_over_targets_however_they_are_batched() -> None:
    net = ENCODERS["bert"]
    data = entities(net)
    rows = data.rows("train")
    task = Tagging(net, data.spec, head=HeadConfig(crf=True)).eval()
    some = [rows[i] for i in range(6)]
    whole = task.loss(rows.collate(some))
    parts = [task.loss(rows.collate([row])) for row in some]
    torch.testing.assert_close(whole.total, sum(p.total for p in parts))
    assert whole.targets == sum(p.targets for p in parts) == sum(len(r.label) for r in some)


# ---- warm start ----------------------------------------------------------------------------------


def pretrained(folder: Path, kind: str = "bert") -> tuple[Any, Path]:
    tiny.write(folder)
    torch.manual_seed(1)
    if kind == "bert":
        data: Any = tiny.masked_data(folder)
        task: Any = MaskedLM(tiny.BERT, data.spec)
    else:
        data = tiny.text_data(folder)
        task = CausalLM(tiny.GPT, data.spec)
    task.tokenizer = data.tokenizer
    path = folder / f"{kind}.ckpt"
    save_checkpoint(task, path)
    return task, path


def labelled(folder: Path, path: Path, form: Any = "bert") -> ClassificationData:
    lines = [f"a b {w}\t{'xy'[i % 2]}" for i, w in enumerate("abcdefgh")]
    (folder / "labels.tsv").write_text("\n".join(lines) + "\n")
    file = str(folder / "labels.tsv")
    source = TsvLabels(train=file, val=file)
    tokenizer = TokenizerConfig(path=str(path))
    return ClassificationData(source, tokenizer, form=form, max_length=16, batch_size=4)


def test_a_warm_start_has_the_weights_and_a_resumed_run_its_own(tmp_path: Path) -> None:
    before, path = pretrained(tmp_path)
    data = labelled(tmp_path, path)
    assert data.tokenizer.state() == before.tokenizer.state()
    task = Classification(tiny.BERT, data.spec, OPTIM, HeadConfig(d_hidden=32))
    start = WarmStart(str(path))
    first = train(task, data, steps=1, callbacks=[start], default_root_dir=tmp_path)
    first.save_checkpoint(tmp_path / "own.ckpt")
    fresh = Classification(tiny.BERT, data.spec, OPTIM, HeadConfig(d_hidden=32))
    start.setup(Trainer(logger=False), fresh, "fit")
    theirs = before.net.state_dict()
    for name, tensor in fresh.net.state_dict().items():
        assert torch.equal(tensor, theirs[name]), name
    assert torch.equal(fresh.head.dense.weight, theirs["pooler.weight"])
    again = Classification(tiny.BERT, data.spec, OPTIM, HeadConfig(d_hidden=32))
    settings = {"accelerator": "cpu", "logger": False, "enable_progress_bar": False}
    trainer = Trainer(
        max_steps=1,
        callbacks=[start],
        enable_checkpointing=False,
        **settings,  # type: ignore[arg-type]
    )
    trainer.fit(again, data, ckpt_path=tmp_path / "own.ckpt", weights_only=True)
    for name, tensor in again.state_dict().items():
        assert torch.equal(tensor, task.state_dict()[name]), name


def test_what_does_not_fit_is_refused(tmp_path: Path) -> None:
    _, path = pretrained(tmp_path)
    data = labelled(tmp_path, path)
    wide = BERTConfig(num_layers=2, num_heads=2, d_model=64, norm_first=True)
    task = Classification(wide, data.spec)
    with pytest.raises(
        InputError, match=r"embedding.weight is \(\d+, 32\) there and \(\d+, 64\) here"
    ):
        train(task, data, callbacks=[WarmStart(str(path))])
    other = Classification(ENCODERS["bilstm"], labelled(tmp_path, path, "source").spec)
    with pytest.raises(InputError, match=r"embedding.weight is"):
        train(other, labelled(tmp_path, path, "source"), callbacks=[WarmStart(str(path))])
    with pytest.raises(InputError, match=r"rows are in the form of 'gpt', and BERTConfig reads"):
        Classification(tiny.BERT, labelled(tmp_path, path, "gpt").spec)


def test_data_of_another_task_is_refused(tmp_path: Path) -> None:
    _, path = pretrained(tmp_path)
    data = labelled(tmp_path, path)
    task = Classification(tiny.BERT, data.spec)
    train(task, data, steps=1)
    other = news(tiny.BERT)
    with pytest.raises(
        InputError, match=r"the data's labels are bad, good, and this task was made for x, y"
    ):
        Trainer(accelerator="cpu", logger=False).test(task, other)


def test_a_task_names_the_data_that_it_takes() -> None:
    net = ENCODERS["bert"]
    for kind, wanted in (
        (Regression, "RegressionData"),
        (QuestionAnswering, "AnswerData"),
        (Tagging, "TaggingData"),
    ):
        with pytest.raises(
            InputError, match=rf"this data has classes: choose data.class_path=lit_lm.data.{wanted}"
        ):
            kind(net, news(net).spec)
    with pytest.raises(
        InputError, match=r"Classification learns classes, and this data has tags of words"
    ):
        Classification(net, entities(net).spec)
    with pytest.raises(InputError, match=r"head.crf=true scores sequences of tags"):
        Classification(net, news(net).spec, head=HeadConfig(crf=True))
    with pytest.raises(InputError, match=r"head.pooling=mean makes one vector"):
        Tagging(net, entities(net).spec, head=HeadConfig(pooling="mean"))
    with pytest.raises(InputError, match=r"mode='freeze': choose one of full, frozen, gradual"):
        Classification(net, news(net).spec, mode="freeze")  # type: ignore[arg-type]


def test_training_goes_on_in_the_way_it_began(tmp_path: Path) -> None:
    net = ENCODERS["bert"]
    data = news(net)
    trainer = train(Classification(net, data.spec, OPTIM), data, steps=1)
    trainer.save_checkpoint(tmp_path / "own.ckpt")
    for settings in ({"layer_decay": 0.8}, {"mode": "frozen"}):
        other = Classification(net, data.spec, OPTIM, **settings)  # type: ignore[arg-type]
        with pytest.raises(InputError, match=rf"trained with {next(iter(settings))}="):
            Trainer(accelerator="cpu", logger=False, max_steps=2).fit(
                other, data, ckpt_path=tmp_path / "own.ckpt", weights_only=True
            )


def test_muon_leaves_the_output_layer_to_adam() -> None:
    net = ENCODERS["bert"]
    task = Classification(net, news(net).spec, head=HeadConfig(d_hidden=16))
    inner = {id(p) for p in inner_matrices(task)}
    names = {n for n, p in task.named_parameters() if id(p) in inner}
    assert "head.output.weight" not in names
    assert {"head.dense.weight", "net.stack.blocks.0.attention.q.weight"} <= names


def test_flops_of_a_head_are_those_of_what_it_reads() -> None:
    net = ENCODERS["averaged"]
    for head in (HeadConfig(d_hidden=12), HeadConfig()):
        data = news(net)
        task = Classification(net, data.spec, head=head).eval()
        batch = next(iter(data.val_dataloader()))
        with FlopCounterMode(display=False) as counter:
            task.scores(batch)
        assert task.flops(batch.size) == pytest.approx(3 * counter.get_total_flops())
    lstm = Classification(net, data.spec, head=HeadConfig(d_lstm=8)).head
    assert lstm.flops(20) - lstm.flops(10) == 10 * 2 * 2 * (4 * 4 * 16 + 4 * 4 * 4)


# ---- numbers and answers -------------------------------------------------------------------------


def test_a_number_is_learned(tmp_path: Path) -> None:
    file = tmp_path / "n.tsv"
    file.write_text("".join(f"{'a ' * n}b\t{n}\n" for n in range(1, 9)))
    net = ENCODERS["averaged"]
    data = RegressionData(
        TsvLabels(train=str(file), val=str(file)), WORDS, form=net.form, batch_size=4
    )
    torch.manual_seed(0)
    task = Regression(net, data.spec, OptimConfig(lr=3e-2), HeadConfig(dropout=0.0))
    trainer = train(task, data, steps=150)
    found = trainer.test(task, data, verbose=False)[0]
    assert found["test/spearman"] > 0.9
    assert found["test/loss"] == pytest.approx(found["test/mse"])


def test_answers_are_found(tmp_path: Path) -> None:
    def question(i: int, context: str, answer: str) -> dict[str, Any]:
        answers = [{"text": answer, "answer_start": context.index(answer)}] if answer else []
        asked = {"id": f"q{i}", "question": "who?", "answers": answers}
        return {"context": context, "qas": [asked]}

    names = ["Ann", "Bob", "Eve", "Joe"]
    asked = [question(i, f"{'x ' * (3 * i)}then {n} sang a song", n) for i, n in enumerate(names)]
    asked.append(question(9, "x x x x nobody sang", ""))
    (tmp_path / "s.json").write_text(json.dumps({"data": [{"paragraphs": asked}]}))
    source = SquadFiles(train=str(tmp_path / "s.json"), val=str(tmp_path / "s.json"))
    data = AnswerData(source, WORDS, form="bert", max_length=14, stride=4, batch_size=4)
    assert len(data.rows("train")) > 5
    torch.manual_seed(0)
    small = BERTConfig(num_layers=2, num_heads=2, d_model=32, dropout=0.0, norm_first=True)
    task = QuestionAnswering(
        small, data.spec, OptimConfig(lr=1e-2), HeadConfig(dropout=0.0), must_answer=False
    )
    trainer = train(task, data, steps=60)
    found = trainer.test(task, data, verbose=False)[0]
    assert found["test/exact_match"] == 1.0
    assert found["test/f1"] == 1.0


def test_the_best_answer_is_the_best_of_all_allowed() -> None:
    net = ENCODERS["averaged"]
    spec = dataclasses.replace(news(net).spec, target="answer", labels=())
    task = QuestionAnswering(net, spec, max_words=3)
    torch.manual_seed(0)
    scores = torch.randn(5, 9, 2)
    first = torch.arange(9).expand(5, 9).clone()
    first[1, 6:] = -1
    for row, found in enumerate(task.found(scores, first)):
        real = int((first[row] >= 0).sum())
        every = {
            (i, j): float(scores[row, i, 0] + scores[row, j, 1])
            for i in range(1, real)
            for j in range(i, min(i + 3, real))
        }
        best = max(every, key=every.__getitem__)
        assert (found.first, found.last) == best
        nothing = float(scores[row, 0].sum())
        assert found.score == pytest.approx(every[best] - nothing, abs=1e-5)
