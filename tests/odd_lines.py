"""Lines as they come in the wild, and untrained translators that are quick enough to read many of them."""

from __future__ import annotations

import random
from pathlib import Path

import torch

from lit_lm import RNNConfig, TokenizerConfig, TransformerConfig, Translation
from lit_lm.data import Tokenizer
from lit_lm.generation import Beam
from lit_lm.interop import save_checkpoint

NETS = {
    "transformer": TransformerConfig(num_layers=1, num_heads=2, d_model=16, d_ff=16),
    "rnn": RNNConfig(d_model=16, d_hidden=16, num_layers=1),
}
SEPARATORS = "\r\x0b\x0c\x1c\x1d\x1e\x85\u2028\u2029"
WORDS = [
    "the",
    "a",
    "of",
    "cat",
    "dog.",
    "house,",
    "runs!",
    "Who?",
    "straße",
    "Ünïcödé",
    "Привет",
    "мир.",
    "你好世界。",
    "今天天气很好！",
    "こんにちは",
    "שלום",
    "عالم؟",
    "नमस्ते।",
    "👩\u200d👩\u200d👧\u200d👦",
    "🇩🇪",
    "é",
    "\u200b",
    "\ufeff",
    "\u202e",
    "<mask>",
    "<eos>",
    "<2de>",
    "{}",
    "\\",
    '"',
    "'",
    "1,234.5",
    "http://x.y/z",
]


def odd_line(rng: random.Random) -> str:
    """A line of any kind, without a line feed in it."""
    kind = rng.randrange(12)
    words = [rng.choice(WORDS) for _ in range(rng.randint(1, 12))]
    if kind == 0:
        return ""
    if kind == 1:
        return rng.choice((" ", "\t", "\u3000", "\u00a0", "\x0b", "\x85")) * rng.randint(1, 5)
    if kind == 2:
        return "".join(chr(rng.randrange(32)) for _ in range(8)).replace("\n", "\0")
    if kind == 3:
        return rng.choice(SEPARATORS).join(words)
    if kind == 4:
        return "".join(rng.choice("字漢語あ🙂x") for _ in range(rng.randint(1, 60)))
    if kind == 5 and rng.random() < 0.2:
        return " ".join(rng.choice(WORDS) for _ in range(rng.randint(50, 200)))
    if kind == 6:
        return rng.choice("\r\0 \u2028") + " ".join(words) + rng.choice("\r\0 \u2028")
    return " ".join(words)


def odd_lines(count: int, seed: int = 0) -> list[str]:
    """Lines of all kinds."""
    rng = random.Random(seed)
    return [odd_line(rng) for _ in range(count)]


def write(lines: list[str], path: Path) -> Path:
    """A file of these lines, each ended by a line feed."""
    path.write_bytes("".join(f"{line}\n" for line in lines).encode())
    return path


def tokenizer(kind: str = "bpe") -> Tokenizer:
    """One that was trained on the odd words."""
    return Tokenizer.train(
        TokenizerConfig(kind=kind, vocab_size=400),  # type: ignore[arg-type]
        [" ".join(WORDS)] * 3,
    )


def checkpoint(
    path: Path, net: str = "transformer", *, kind: str = "bpe", max_length: int = 64, size: int = 2
) -> Path:
    """An untrained translator with short outputs."""
    torch.manual_seed(0)
    its = tokenizer(kind)
    task = Translation(
        NETS[net], its.spec(max_length, max_length), beam=Beam(size), length_factor=0.1
    )
    # Outputs of different lengths: without it an untrained network hardly ever ends one.
    with torch.no_grad():
        task.net.head.weight[its.eos_id] *= 3
    task.tokenizer = its
    save_checkpoint(task, path)
    return path
