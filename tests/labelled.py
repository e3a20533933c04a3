"""Untrained tasks with labels, and data for them."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import torch

from lit_lm import TokenizerConfig
from lit_lm.nn.heads import HeadConfig
from lit_lm.tasks import Classification, Regression
from tests.tiny import BERT, ELMO, GPT

NETS = {
    "bert": replace(BERT, num_layers=1, d_model=16),
    "gpt": replace(GPT, num_layers=1, d_model=16),
    "elmo": replace(ELMO, num_layers=1, d_model=16, d_cell=16),
}
WORDS = TokenizerConfig(kind="word", vocab_size=400)
CONTEXTS = [
    "Anna met Ben in Oslo. She gave him a book, and he read it on the train to Bergen that night.",
    "The train left at nine; nobody (but Ben) was on it.",
    "Oslo",
]


def task_of(kind: Any, data: Any, net: str = "bert", **settings: Any) -> Any:
    """An untrained task whose scores differ from text to text: those of training rows are brought to mean 0, deviation 2."""
    torch.manual_seed(1)
    if kind in (Classification, Regression):  # the first vector of an untrained BERT says little
        settings["head"] = HeadConfig(pooling="mean")
    task = kind(NETS[net], data.spec, **settings)
    task.tokenizer = data.tokenizer
    rows, output = data.rows("train"), task.eval().head.output
    with torch.no_grad():
        batch = rows.collate([rows[i] for i in range(min(8, len(rows)))])
        scores = task.scores(batch).flatten(0, -2)
        mean, scale = scores.mean(0), 2 / scores.std(0)
        output.bias.copy_((output.bias - mean) * scale)
        output.weight.mul_(scale.unsqueeze(1))
    return task


def data_of(kind: Any, source: Any, net: str = "bert", **settings: Any) -> Any:
    characters = 12 if net == "elmo" else 0
    return kind(source, WORDS, form=net, characters=characters, batch_size=8, **settings)


def write(path: Path, *lines: Any) -> Path:
    """A file of lines, plain types as JSON."""
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path
