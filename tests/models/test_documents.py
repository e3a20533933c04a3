"""Packed documents: none changes what another gives, and each gives what it gives alone."""

from __future__ import annotations

import dataclasses
from pathlib import Path
from typing import Any

import pytest
import torch

from lit_lm import BidirectionalLM, CausalLM, TextData, TokenizerConfig
from lit_lm.data import BatchSize, TextBatch, TextFiles
from lit_lm.data.packed_rows import NO_DOCUMENT
from lit_lm.errors import InputError
from lit_lm.flops import TRAINING_FACTOR
from lit_lm.models import CausalNetwork, GPTConfig, LSTMConfig
from lit_lm.nn.attention import document_mask
from lit_lm.nn.positions import document_positions
from lit_lm.specs import DataSpec
from lit_lm.tasks import Task
from tests import tiny

POSITIONS = ["learned", "sinusoidal", "rotary", "none"]
GPTS = [
    dataclasses.replace(tiny.GPT, positions=positions, norm_first=norm_first, init_std=0.3)
    for positions in POSITIONS
    for norm_first in (True, False)
]
NETS = {f"{c.positions}-{'pre' if c.norm_first else 'post'}": c for c in GPTS}
NETS |= {"elmo": tiny.ELMO, "lstm": LSTMConfig(d_model=16, d_hidden=24, dropout=0.0)}

SPEC = DataSpec(vocab_size=90, max_length=24)

# Rows of 12 bytes: the third document is cut, so that one does not start with the end of the one before it.
TEXT = "abcd\n\nef\n\nghijklmnopqrs\n\ntu\n\nvwx\n\ny\n"


def data(folder: Path, rows: str, characters: int = 6) -> TextData:
    path = folder / "text.txt"
    path.write_text(TEXT)
    source = TextFiles(str(path), val=str(path))
    settings = {"length": 12, "batch_size": 9, "characters": characters}
    return TextData(source, TokenizerConfig("byte"), rows=rows, **settings)


def task(net: Any, spec: Any) -> Task:
    torch.manual_seed(0)
    made = (CausalLM if net is not tiny.ELMO else BidirectionalLM)(net, spec)
    for p in made.parameters():  # fresh biases are zeros and norms ones: they would hide mistakes
        p.data.add_(torch.randn_like(p), alpha=0.05)
    return made.eval()


def outputs(task: Task, batch: TextBatch) -> list[torch.Tensor]:
    """Logits of each direction, (B, L, V)."""
    if isinstance(task, CausalLM):
        return [task.net.head(task.net(batch.ids_BL, batch.mask_BL, docs_BL=batch.docs_BL))]
    return list(task._logits(batch)[0])


def changed(batch: TextBatch, row: int, at: torch.Tensor) -> TextBatch:
    """Other tokens at the positions ``at`` (bool) of a row: as inputs, as labels, as characters."""
    ids, labels, words = batch.ids_BL.clone(), batch.labels_BL.clone(), batch.chars.words_BL.clone()
    ids[row, at] = (ids[row, at] + 1) % 261
    labels[row, at] = (labels[row, at] + 1) % 261
    both = torch.cat((at, at))
    words[row, both] = (words[row, both] + 1) % len(batch.chars.chars_UW)
    chars = batch.chars._replace(words_BL=words)
    return batch._replace(ids_BL=ids, labels_BL=labels, chars=chars)


@pytest.mark.parametrize("name", NETS)
def test_no_document_changes_another(name: str, tmp_path: Path) -> None:
    """Not by a bit: each token of each document is changed in turn."""
    packed = data(tmp_path, "packed")
    model = task(NETS[name], packed.spec)
    batch = next(iter(packed.val_dataloader()))
    assert (batch.docs_BL.amax(1) > 0).any()
    with torch.no_grad():
        before = outputs(model, batch)
        for row, place in batch.mask_BL.nonzero().tolist():
            at = torch.arange(12) == place
            own = (batch.docs_BL[row] == batch.docs_BL[row, place]).nonzero().flatten()
            for direction, (old, new) in enumerate(
                zip(before, outputs(model, changed(batch, row, at)), strict=True)
            ):
                differs = (old != new).any(-1)
                sees = own[own >= place] if direction == 0 else own[own <= place]
                expected = torch.zeros_like(differs)
                expected[row, sees] = True
                assert torch.equal(differs, expected)


@pytest.mark.parametrize("name", ["learned-pre", "rotary-post", "elmo"])
def test_without_the_documents_others_are_seen(name: str, tmp_path: Path) -> None:
    """What the test above would find if the documents' numbers were not looked at."""
    packed = data(tmp_path, "packed")
    model = task(NETS[name], packed.spec)
    batch = next(iter(packed.val_dataloader()))
    batch = batch._replace(docs_BL=torch.zeros_like(batch.docs_BL))
    with torch.no_grad():
        for old, new in zip(
            outputs(model, batch),
            outputs(model, changed(batch, 2, torch.arange(12) == 5)),
            strict=True,
        ):
            assert (old != new)[2].any(-1).sum() >= 6


@pytest.mark.parametrize("name", NETS)
def test_the_loss_is_that_of_documents_alone(name: str, tmp_path: Path) -> None:
    packed, alone = data(tmp_path, "packed"), data(tmp_path, "documents")
    model = task(NETS[name], packed.spec).double()
    rows = alone.rows("val")
    assert len(packed.rows("val")) < len(rows)
    together = [model.loss(batch) for batch in packed.val_dataloader()]
    single = [model.loss(rows.collate([rows[i]])) for i in range(len(rows))]
    for part in [None, "forward", "backward"] if name == "elmo" else [None]:
        found, expected = (
            [loss if part is None else loss.parts[part] for loss in losses]
            for losses in (together, single)
        )
        total = sum(loss.total for loss in expected)
        assert sum(loss.total for loss in found).item() == pytest.approx(total.item(), abs=1e-6)
        for count in ("targets", "correct"):
            assert sum(getattr(x, count) for x in found) == sum(getattr(x, count) for x in expected)
    gradients = []
    for losses in (together, single):
        model.zero_grad()
        sum(loss.total for loss in losses).backward()
        gradients.append([p.grad for p in model.parameters()])
    for one, other in zip(*gradients, strict=True):
        torch.testing.assert_close(one, other, rtol=0, atol=1e-6)


@pytest.mark.parametrize("positions", POSITIONS)
@torch.no_grad()
def test_long_rows_do_not_leak_either(positions: str) -> None:
    """Longer than the blocks that attention's kernels work in: whole blocks are masked."""
    L = 1200
    config = dataclasses.replace(GPTS[0], positions=positions, num_layers=1, max_length=L)
    net = config.build(SPEC).eval()
    ids = torch.randint(5, 90, (1, L), generator=torch.Generator().manual_seed(0))
    docs = torch.repeat_interleave(torch.arange(4), torch.tensor([700, 3, 490, 7])).unsqueeze(0)
    other = ids.clone()
    other[:, :700] = ids[:, :700].flip(1)
    before, after = (net(x, docs_BL=docs) for x in (ids, other))
    assert torch.equal(before[:, 700:], after[:, 700:])
    assert not torch.equal(before[:, :700], after[:, :700])
    alone = net(ids[:, 703:1193])
    torch.testing.assert_close(before[:, 703:1193], alone, rtol=0, atol=1e-5)


def test_masks_and_positions() -> None:
    docs = torch.tensor([[4, 4, 7, 7, 7, NO_DOCUMENT], [0, 1, 2, 2, 2, 2]])
    assert document_positions(docs).tolist() == [[0, 1, 0, 1, 2, 0], [0, 0, 0, 1, 2, 3]]
    mask = document_mask(docs)
    assert mask.shape == (2, 1, 6, 6)
    for row in range(2):
        for q in range(6):
            for k in range(6):
                assert mask[row, 0, q, k] == (k <= q and docs[row, q] == docs[row, k])


class Bigram(CausalNetwork):
    """A network from before there were packed rows."""

    max_length = None

    def __init__(self, size: int) -> None:
        super().__init__()
        self.table, self.head = torch.nn.Embedding(size, 4), torch.nn.Linear(4, size)

    def forward(self, ids: torch.Tensor, mask: torch.Tensor | None = None) -> torch.Tensor:
        return self.table(ids)

    start = step = keep = row_flops = None


@dataclasses.dataclass(frozen=True)
class BigramConfig(GPTConfig):
    """Its sizes."""

    def build(self, spec: Any) -> Bigram:
        return Bigram(spec.vocab_size)


def test_a_network_that_knows_no_documents_takes_other_rows_only(tmp_path: Path) -> None:
    made = {rows: data(tmp_path, rows, characters=0) for rows in ("windows", "documents", "packed")}
    model = CausalLM(BigramConfig(), made["packed"].spec)
    for rows in ("windows", "documents"):
        assert model.loss(next(iter(made[rows].val_dataloader()))).total > 0
    with pytest.raises(InputError, match=r"Bigram\.forward takes no docs_BL"):
        model.loss(next(iter(made["packed"].val_dataloader())))


def test_flops_are_those_of_the_documents() -> None:
    net, counts = tiny.GPT.build(SPEC), [9, 4, 3, 1]
    model = CausalLM(tiny.GPT, SPEC)
    size = BatchSize(2, 17, 17, 0, 20, 17, squares=sum(n * n for n in counts))
    alone = sum(net.row_flops(n) for n in counts)
    assert model.flops(size) == pytest.approx(TRAINING_FACTOR * alone)
    assert model.flops(size) < model.flops(size._replace(squares=0))
