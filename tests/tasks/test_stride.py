"""Overlapping windows of an evaluation: every token once, with the context that the stride promises."""

from __future__ import annotations

import math
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything

from lit_lm import BidirectionalLM, CausalLM, InputError
from lit_lm.data import IGNORE, BuiltinText, TextData, TextFiles, TokenizerConfig
from tests import tiny

LENGTH = 16


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("stride")
    tiny.write(folder, count=20)
    return folder


def make(folder: Path, stride: int | None, length: int = LENGTH, **settings: Any) -> TextData:
    return tiny.text_data(folder, rows="windows", length=length, eval_stride=stride, **settings)


def window(t: int, length: int, stride: int) -> int:
    """First token of the first window, on the grid of windows, that holds token ``t``."""
    return next(start for start in range(0, t + 1, stride) if t < start + length)


def one_by_one(task: CausalLM, data: TextData, stride: int) -> tuple[float, float]:
    """Loss and accuracy, each token guessed alone from the tokens of its window before it."""
    stream = [data.tokenizer.eos_id, *data.store("test", "text").tokens.tolist()]
    losses, right = [], []
    for t, token in enumerate(stream[1:]):
        context = torch.tensor([stream[window(t, LENGTH, stride) : t + 1]])
        logits = task.net.head(task.net(context, torch.ones_like(context, dtype=torch.bool)))[0, -1]
        losses.append(-logits.log_softmax(-1)[token].item())
        right.append(logits.argmax().item() == token)
    return sum(losses) / len(losses), sum(right) / len(right)


@pytest.mark.parametrize("stride", [1, 5, LENGTH])
def test_loss_is_that_of_single_tokens(stride: int, folder: Path) -> None:
    seed_everything(0)
    data = make(folder, stride, batch_size=3)
    task = CausalLM(tiny.GPT, data.spec)
    with torch.no_grad():
        task.net.head.weight.mul_(20)  # a network that is sure of something
        (found,) = tiny.trainer(folder).test(task, data, verbose=False)
        loss, accuracy = one_by_one(task.eval(), data, stride)
        (plain,) = tiny.trainer(folder).test(task, make(folder, None), verbose=False)
    assert found["test/loss"] == pytest.approx(loss, rel=1e-6)
    assert found["test/ppl"] == pytest.approx(math.exp(loss), rel=1e-5)
    assert found["test/accuracy"] == pytest.approx(accuracy)
    nats = loss * data.store("test", "text").num_tokens
    assert found["test/bpb"] == pytest.approx(nats / data.num_bytes("test") / math.log(2), rel=1e-6)
    if stride == LENGTH:
        assert found == pytest.approx(plain, rel=1e-6)
    else:
        assert found["test/loss"] != pytest.approx(plain["test/loss"], rel=1e-3)


@pytest.mark.parametrize("length", [1, 4, 7, 1000])
def test_every_token_is_predicted_once_behind_its_context(length: int, folder: Path) -> None:
    for stride in range(1, min(length, 8) + 1):
        data = make(folder, stride, length, batch_size=4)
        store = data.store("val", "text")
        predicted, num_bytes = 0, 0
        for batch in data.val_dataloader():
            size = batch.size
            assert size.tokens == size.labels == (batch.labels_BL != IGNORE).sum()
            assert size.tokens + size.input_tokens == batch.mask_BL.sum()
            num_bytes += size.bytes
            for ids, labels, mask in zip(batch.ids_BL, batch.labels_BL, batch.mask_BL, strict=True):
                (at,) = (labels != IGNORE).nonzero(as_tuple=True)
                first, last = at[0].item(), at[-1].item()
                assert first == (0 if predicted == 0 else length - stride)
                assert last + 1 == mask.sum() == first + len(at)
                start = predicted - first
                assert (
                    ids[mask].tolist() == [data.tokenizer.eos_id, *store.tokens][start:][: last + 1]
                )
                assert labels[at].tolist() == store.tokens[predicted : predicted + len(at)].tolist()
                predicted += len(at)
        assert predicted == store.num_tokens
        assert num_bytes == data.num_bytes("val")


def test_training_rows_and_the_optimum_stay(folder: Path) -> None:
    source = BuiltinText(train=5, val=3, test=3)
    options = {"length": 32, "batch_size": 8}
    found = []
    for stride in (None, 20):
        data = TextData(source, TokenizerConfig("word"), eval_stride=stride, **options)
        assert len(data.rows("train")) == -(-data.store("train", "text").num_tokens // 32)
        task = CausalLM(tiny.GPT, data.spec)
        found.append(tiny.trainer(folder).test(task, data, verbose=False)[0])
    plain, strided = found
    assert strided["test/optimal_ppl"] == plain["test/optimal_ppl"]
    assert strided["test/rows"] > plain["test/rows"]


def test_the_stride_is_reported(folder: Path, caplog: pytest.LogCaptureFixture) -> None:
    with caplog.at_level("INFO"):
        make(folder, 5).rows("val")
    assert "windows of 16 tokens, 5 apart" in caplog.text


@pytest.mark.parametrize(
    ("options", "message"),
    [
        ({"eval_stride": 0}, "eval_stride=0 must be a whole number"),
        ({"eval_stride": 17}, "eval_stride=17 must be a whole number"),
        ({"eval_stride": 4, "rows": "documents"}, "`eval_stride` needs `rows: windows`"),
        ({"eval_stride": 4, "consecutive": True}, "not `consecutive: true`"),
    ],
)
def test_impossible_strides(options: dict[str, Any], message: str) -> None:
    with pytest.raises(InputError, match=message):
        TextData(TextFiles("a.txt", val="a.txt"), length=16, batch_size=2, **options)


def test_both_directions_are_refused(folder: Path) -> None:
    data = make(folder, 4, characters=6)
    task = BidirectionalLM(tiny.ELMO, data.spec)
    with pytest.raises(InputError, match="eval_stride=4 gives context from the left only"):
        tiny.trainer(folder).test(task, data, verbose=False)
