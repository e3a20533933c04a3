"""Where a token stands: sinusoidal, learned and rotary positions.

Shape letters: B rows, L positions, D model width, H heads, E width of a head.
"""

from __future__ import annotations

import math
from typing import Literal

import torch
from torch import Tensor, nn

from lit_lm.errors import InputError

PositionKind = Literal["sinusoidal", "learned", "rotary", "none"]


class Positions(nn.Module):
    """Position vectors that are added to token embeddings.

    Sinusoidal positions are those of Vaswani et al. 2017, section 3.5; learned ones those of GPT and
    BERT. Rotary positions act inside attention and "none" leaves position to the causal mask: both add
    nothing here.

    Args:
        kind: which positions.
        dim: width D.
        max_length: most positions that learned vectors exist for; other kinds have no bound.
    """

    def __init__(self, kind: PositionKind, dim: int, max_length: int) -> None:
        super().__init__()
        self.kind, self.dim = kind, dim
        self.max_length = max_length if kind == "learned" else None
        if kind == "learned":
            if max_length < 1:
                raise InputError(f"learned positions need max_length >= 1, got {max_length}")
            self.table = nn.Embedding(max_length, dim)

    def forward(self, x_BLD: Tensor, positions: Tensor | None = None) -> Tensor:
        """Adds positions to embeddings.

        Args:
            x_BLD: float token embeddings.
            positions: int64 (B, L); None for 0 .. L - 1.

        Returns:
            float (B, L, D).

        Raises:
            InputError: a row is longer than the learned positions.
        """
        if self.kind in ("rotary", "none"):
            return x_BLD
        L = x_BLD.size(1)
        if self.max_length is not None and self.max_length < L:
            raise InputError(
                f"a row of {L} tokens is longer than the {self.max_length} positions this network has "
                "learned: shorten the input, or train with a larger max_length"
            )
        if positions is None:
            positions = torch.arange(L, device=x_BLD.device)
        if self.kind == "learned":
            vectors: Tensor = self.table(positions)
        else:
            vectors = sinusoids(positions, self.dim)
        return x_BLD + vectors.to(x_BLD.dtype)

    def vectors(self, count: int, device: torch.device) -> Tensor | None:
        """float (count, D): what is added at the first positions, fewer where fewer were learned; None for nothing."""
        if self.kind == "learned":
            return self.table.weight.detach()[:count]
        if self.kind == "sinusoidal":
            return sinusoids(torch.arange(count, device=device), self.dim)
        return None


def document_positions(docs_BL: Tensor) -> Tensor:
    """Positions that start anew in each document of a row.

    Args:
        docs_BL: int64, equal at the positions of one document, which follow each other.

    Returns:
        int64 (B, L).
    """
    at_L = torch.arange(docs_BL.size(1), device=docs_BL.device)
    starts_BL = torch.where(document_starts(docs_BL), at_L, 0).cummax(1).values
    return at_L - starts_BL


def document_starts(docs_BL: Tensor) -> Tensor:
    """bool (B, L), True where another document starts than the one before; False at the row's start."""
    changes = docs_BL[:, 1:] != docs_BL[:, :-1]
    return torch.cat((torch.zeros_like(changes[:, :1]), changes), dim=1)


def sinusoids(positions: Tensor, dim: int) -> Tensor:
    """Sines and cosines of geometrically growing wavelengths, 2 pi to 10,000 x 2 pi.

    PE(pos, 2i) = sin(pos / 10000^(2i/dim)), PE(pos, 2i+1) = cos(the same): Vaswani et al. 2017, section 3.5.

    Args:
        positions: integers of any shape.
        dim: width of the vectors, even or odd.

    Returns:
        float32 (*positions.shape, dim).
    """
    steps = torch.arange(0, dim, 2, device=positions.device, dtype=torch.float32)
    rate = torch.exp(steps * (-math.log(10_000.0) / dim))
    angle = positions.unsqueeze(-1).float() * rate
    return torch.stack((angle.sin(), angle.cos()), dim=-1).flatten(-2)[..., :dim]


def rotate(x_BHLE: Tensor, positions: Tensor | None = None) -> Tensor:
    """Turns pairs of features by angles that grow with position (Su et al. 2021, https://arxiv.org/abs/2104.09864).

    The product of a rotated query and a rotated key depends on their distance only.

    Args:
        x_BHLE: float queries or keys; E must be even.
        positions: int64 (B, L) or (L,); None for 0 .. L - 1.

    Returns:
        float (B, H, L, E).
    """
    L, E = x_BHLE.shape[-2:]
    if E % 2:
        raise InputError(
            f"rotary positions need an even width of a head, got {E}: change num_heads or d_model"
        )
    if positions is None:
        positions = torch.arange(L, device=x_BHLE.device)
    steps = torch.arange(0, E, 2, device=x_BHLE.device, dtype=torch.float32)
    rate = torch.exp(steps * (-math.log(10_000.0) / E))
    angle = positions.unsqueeze(-1).float() * rate
    if angle.dim() == 3:
        angle = angle.unsqueeze(1)
    cos, sin = angle.cos().to(x_BHLE.dtype), angle.sin().to(x_BHLE.dtype)
    even, odd = x_BHLE[..., 0::2], x_BHLE[..., 1::2]
    return torch.stack((even * cos - odd * sin, even * sin + odd * cos), dim=-1).flatten(-2)
