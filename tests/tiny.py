"""Tiny data and tasks for tests that train: a corpus of sequences and their reversals."""

from __future__ import annotations

import random
from pathlib import Path
from typing import Any

from lightning.pytorch import Trainer

from lit_lm import (
    BERTConfig,
    BidirectionalLM,
    CausalLM,
    ELMoConfig,
    GPTConfig,
    MaskedLM,
    MaskedTextData,
    OptimConfig,
    PairData,
    TextData,
    TokenizerConfig,
    TransformerConfig,
    Translation,
)
from lit_lm.data import ParallelFiles, TextFiles
from lit_lm.generation import Beam

GPT = GPTConfig(num_layers=2, num_heads=2, d_model=32, dropout=0.0)
TRANSFORMER = TransformerConfig(
    num_layers=2, num_heads=2, d_model=32, d_ff=64, dropout=0.0, norm_first=True
)
BERT = BERTConfig(num_layers=2, num_heads=2, d_model=32, dropout=0.0, norm_first=True, init_std=0.1)
ELMO = ELMoConfig(filters=[(1, 8), (2, 8)], num_highway=1, d_model=32, d_cell=48, dropout=0.0)
KINDS = ["causal", "pairs", "masked", "bidirectional"]
OPTIM = OptimConfig(lr=3e-3, warmup_steps=5, schedule="linear")


def write(folder: Path, count: int = 64, seed: int = 0, words: str = "abcdefgh") -> None:
    """Text documents of two lines, and reversed pairs, ragged in length."""
    folder.mkdir(parents=True, exist_ok=True)
    rng = random.Random(seed)
    rows = [[rng.choice(words) for _ in range(rng.randint(2, 9))] for _ in range(count)]
    documents = [" ".join(r[:1]) + "\n" + " ".join(r[1:]) for r in rows]
    (folder / "text.txt").write_text("\n\n".join(documents) + "\n")
    (folder / "src.txt").write_text("\n".join(" ".join(r) for r in rows) + "\n")
    (folder / "tgt.txt").write_text("\n".join(" ".join(reversed(r)) for r in rows) + "\n")


def text_data(folder: Path, val: Path | None = None, **settings: Any) -> TextData:
    """Documents as rows."""
    source = TextFiles(train=str(folder / "text.txt"), val=str((val or folder) / "text.txt"))
    settings = {"batch_size": 8, "rows": "documents", "length": 16, **settings}
    return TextData(source, TokenizerConfig(kind="word"), **settings)


def masked_data(folder: Path, val: Path | None = None, **settings: Any) -> MaskedTextData:
    """The documents' two lines as segments, with gaps."""
    source = TextFiles(train=str(folder / "text.txt"), val=str((val or folder) / "text.txt"))
    settings = {"batch_size": 8, "max_length": 16, **settings}
    return MaskedTextData(source, TokenizerConfig(kind="word"), **settings)


def pair_data(folder: Path, val: Path | None = None, **settings: Any) -> PairData:
    """Sequences and their reversals."""
    train, other = (
        [str(place / side) for side in ("src.txt", "tgt.txt")] for place in (folder, val or folder)
    )
    settings = {"batch_size": 8, "max_length": 16, **settings}
    return PairData(ParallelFiles(train=train, val=other), TokenizerConfig(kind="word"), **settings)


def make(kind: str, folder: Path, optim: OptimConfig = OPTIM, **settings: Any) -> tuple[Any, Any]:
    """A task and its data, by one of `KINDS`."""
    if kind == "causal":
        data: Any = text_data(folder, **settings)
        return CausalLM(GPT, data.spec, optim), data
    if kind == "masked":
        data = masked_data(folder, **settings)
        return MaskedLM(BERT, data.spec, optim), data
    if kind == "bidirectional":
        data = text_data(folder, characters=6, **settings)
        return BidirectionalLM(ELMO, data.spec, optim), data
    data = pair_data(folder, **settings)
    return Translation(TRANSFORMER, data.spec, optim, label_smoothing=0.0, beam=Beam(1, 0.0)), data


def trainer(folder: Path, **settings: Any) -> Trainer:
    """A quiet trainer on the CPU."""
    settings = {
        "accelerator": "cpu",
        "devices": 1,
        "logger": False,
        "enable_progress_bar": False,
        "enable_model_summary": False,
        "enable_checkpointing": False,
        "default_root_dir": folder,
        "use_distributed_sampler": False,
        **settings,
    }
    return Trainer(**settings)
