"""SST-2 by a plain loop of ``transformers`` over the same weights as ours: what can be had of them.

    python -m benchmarks.sst2_peer FOLDER --seed 0

``BertForSequenceClassification`` (first token, its pre-trained pooler, dropout, a linear layer) with the settings of
configs/experiment/sst2: AdamW at 3e-5, batches of 32 of like lengths, 300 steps of warm-up, linear decay, 3 epochs, gradients
clipped at 1. Needs the corpora (LIT_LM_DATA) and a folder of Hugging Face weights with a vocabulary.
"""

from __future__ import annotations

import argparse
import os
import random
import time
from pathlib import Path

import torch
from torch import Tensor
from transformers import (
    AutoTokenizer,
    BertForSequenceClassification,
    get_linear_schedule_with_warmup,
)

_BATCH, _POOL = 32, 50
"""Batches are cut from pools of so many, which are sorted by length."""


def main() -> None:
    """Trains and tests."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.sst2_peer", description=__doc__)
    parser.add_argument("folder")
    parser.add_argument("--seed", type=int, default=0)
    parser.add_argument("--epochs", type=int, default=3)
    parser.add_argument("--lr", type=float, default=3e-5)
    options = parser.parse_args()
    random.seed(options.seed)
    torch.manual_seed(options.seed)
    tokenizer = AutoTokenizer.from_pretrained(options.folder)
    model = BertForSequenceClassification.from_pretrained(options.folder, num_labels=2)
    corpus = Path(os.environ["LIT_LM_DATA"], "sst2")
    train, dev = _read(corpus / "train.tsv", tokenizer), _read(corpus / "dev.tsv", tokenizer)
    decayed = [p for p in model.parameters() if p.dim() >= 2]
    rest = [p for p in model.parameters() if p.dim() < 2]
    groups = [{"params": decayed, "weight_decay": 0.01}, {"params": rest, "weight_decay": 0.0}]
    optimizer = torch.optim.AdamW(groups, lr=options.lr, betas=(0.9, 0.999), eps=1e-8)
    steps = options.epochs * len(_batches(train))
    schedule = get_linear_schedule_with_warmup(optimizer, 300, steps)
    start, step = time.perf_counter(), 0
    for epoch in range(options.epochs):
        model.train()
        for batch in _batches(train):
            ids, mask, labels = _stack(batch)
            loss = model(input_ids=ids, attention_mask=mask, labels=labels).loss
            loss.backward()
            torch.nn.utils.clip_grad_norm_(model.parameters(), 1.0)
            optimizer.step()
            schedule.step()
            optimizer.zero_grad()
            step += 1
            if step % 200 == 0:
                print(f"step {step:,} of {steps:,}, loss {loss.item():.3f}", flush=True)
        model.eval()
        right = 0
        with torch.inference_mode():
            for first in range(0, len(dev), _BATCH):
                ids, mask, labels = _stack(dev[first : first + _BATCH])
                found = model(input_ids=ids, attention_mask=mask).logits.argmax(-1)
                right += int((found == labels).sum())
        seconds = time.perf_counter() - start
        print(
            f"epoch {epoch + 1}: dev accuracy {right / len(dev):.4f}, {seconds / 60:.0f} min",
            flush=True,
        )


def _read(path: Path, tokenizer: object) -> list[tuple[list[int], int]]:
    rows = [line.rstrip("\n").split("\t") for line in path.open(encoding="utf-8")][1:]
    ids = tokenizer([text for text, _ in rows], truncation=True, max_length=128)["input_ids"]  # type: ignore[operator]
    return [(row, int(label)) for row, (_, label) in zip(ids, rows, strict=True)]


def _batches(rows: list[tuple[list[int], int]]) -> list[list[tuple[list[int], int]]]:
    order, out = random.sample(rows, len(rows)), []
    for first in range(0, len(order), _BATCH * _POOL):
        pool = sorted(order[first : first + _BATCH * _POOL], key=lambda row: len(row[0]))
        out += [pool[i : i + _BATCH] for i in range(0, len(pool), _BATCH)]
    return random.sample(out, len(out))


def _stack(batch: list[tuple[list[int], int]]) -> tuple[Tensor, Tensor, Tensor]:
    longest = max(len(ids) for ids, _ in batch)
    ids = torch.tensor([row + [0] * (longest - len(row)) for row, _ in batch])
    return ids, (ids != 0).long(), torch.tensor([label for _, label in batch])


if __name__ == "__main__":
    main()
