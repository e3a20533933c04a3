"""What tests of labelled data share."""

from __future__ import annotations

from pathlib import Path

from lit_lm import TokenizerConfig

WORDS = TokenizerConfig(kind="word", vocab_size=500)
FORMS = ["bert", "gpt", "elmo", "elmo_bos", "source"]


def write(folder: Path, text: str, name: str = "train.tsv") -> str:
    (folder / name).write_text(text)
    return str(folder / name)
