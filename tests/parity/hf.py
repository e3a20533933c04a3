"""Tiny models of Hugging Face's with random weights in every place, and how far two tensors are apart."""

from __future__ import annotations

import functools
import json
import random
from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.interop.weights import Weight

VOCAB = 61


@functools.cache
def tokenizer(kind: Any = "wordpiece") -> Tokenizer:
    """A tokenizer of at most `VOCAB` ids (bpe: 300)."""
    rng = random.Random(0)
    texts = [" ".join("".join(rng.choices("abcdef", k=3)) for _ in range(20)) for _ in range(20)]
    return Tokenizer.train(TokenizerConfig(kind, 300 if kind == "bpe" else VOCAB), texts)


@torch.no_grad()
def randomise(model: nn.Module, seed: int, std: float = 0.25) -> None:
    """Random weights, biases and norms: nothing is left at zero or one."""
    generator = torch.Generator().manual_seed(seed)
    for name, parameter in model.named_parameters():
        parameter.normal_(0, std, generator=generator)
        if ("LayerNorm" in name or "ln_" in name) and name.endswith("weight"):
            parameter.add_(1)


def save(model: Any, folder: Path) -> Path:
    """Hugging Face's own folder, without a tokenizer."""
    model.save_pretrained(folder)
    return folder


def change(folder: Path, **settings: Any) -> None:
    """Other settings in config.json; None takes one out."""
    file = folder / "config.json"
    config = {**json.loads(file.read_text()), **settings}
    file.write_text(json.dumps({k: v for k, v in config.items() if v is not None}))


def apart(ours: Tensor, theirs: Tensor) -> float:
    """Largest difference, relative to the largest value."""
    assert ours.shape == theirs.shape
    return ((ours - theirs).abs().max() / theirs.abs().max()).item()


def rows(seed: int, B: int = 3, L: int = 11) -> tuple[Tensor, Tensor]:
    """Ids (all but the special ones) and a mask of ragged rows padded with 0; the first row is full."""
    generator = torch.Generator().manual_seed(seed)
    ids = torch.randint(5, VOCAB, (B, L), generator=generator)
    lengths = torch.randint(4, L, (B, 1), generator=generator)
    lengths[0] = L
    mask = torch.arange(L) < lengths
    return ids.masked_fill(~mask, 0), mask


def check_gradients(
    net: nn.Module, layout: Iterable[Weight], model: nn.Module, tolerance: float = 1e-4
) -> float:
    """Holds the gradient of every parameter of ours against the reference's; gives the largest difference.

    A key's bias shifts all scores of a query alike, which softmax does not see: its gradient is zero but
    for rounding, and is held to that.
    """
    theirs: Mapping[str, Any] = dict(model.named_parameters())
    state = dict(net.state_dict())
    wanted: dict[str, Tensor] = {}
    for weight in layout:
        wanted |= weight.split(theirs[weight.theirs].grad, state)
    ours = {name: p.grad for name, p in net.named_parameters()}
    assert ours.keys() == wanted.keys()
    worst = 0.0
    for name, gradient in ours.items():
        if name.endswith("attention.k.bias"):
            scale = wanted[name.replace(".k.", ".q.")].abs().max()
            assert max(gradient.abs().max(), wanted[name].abs().max()) < 1e-4 * scale, name
            continue
        distance = apart(gradient, wanted[name])
        assert distance <= tolerance, (name, distance)
        worst = max(worst, distance)
    return worst
