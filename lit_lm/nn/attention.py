"""Multi-head scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2).

One module for self-attention, causal self-attention and cross-attention; decoding is in ``decoding.py``.

Shape letters: B rows, Q query positions, K key positions, D model width, H heads, E width of a head.
Masks are boolean and True means "may be attended to".
"""

from __future__ import annotations

import math
from typing import NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.errors import InputError
from lit_lm.nn.dropout import dropout
from lit_lm.nn.positions import rotate


class Memory(NamedTuple):
    """Keys and values of what cross-attention reads, float (B, H, K, E)."""

    keys_BHKE: Tensor
    values_BHKE: Tensor


class MultiHeadAttention(nn.Module):
    """Attention of ``num_heads`` heads: softmax(q k^T / sqrt(E)) v, projected back to ``d_model``.

    Args:
        d_model: width of inputs and outputs.
        num_heads: heads; must divide ``d_model``.
        dropout: probability of dropping an attention weight in training.
        bias: whether the projections have biases.
        rotary: turn queries and keys by their positions (Su et al. 2021); self-attention only.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        *,
        dropout: float = 0.0,
        bias: bool = True,
        rotary: bool = False,
    ) -> None:
        super().__init__()
        if d_model % num_heads:
            raise InputError(
                f"num_heads={num_heads} does not divide d_model={d_model}: choose a divisor of the width"
            )
        self.num_heads, self.dropout, self.rotary = num_heads, dropout, rotary
        # Three matrices, not one: each has a role of its own, and Muon orthogonalises it on its own.
        self.q = nn.Linear(d_model, d_model, bias=bias)
        self.k = nn.Linear(d_model, d_model, bias=bias)
        self.v = nn.Linear(d_model, d_model, bias=bias)
        self.out = nn.Linear(d_model, d_model, bias=bias)

    def forward(
        self,
        x_BQD: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        positions: Tensor | None = None,
    ) -> Tensor:
        """Self-attention within ``x_BQD``.

        Args:
            x_BQD: float inputs.
            mask: bool, broadcastable to (B, H, Q, Q); None when every position may be attended to.
            causal: position q sees positions 0 .. q only. Give no mask with it.
            positions: int64 (B, Q), for rotary positions; None for 0 .. Q - 1.

        Returns:
            float (B, Q, D).
        """
        return self._merge(self._attend(*self._project(x_BQD, positions), mask, causal))

    def memory(self, memory_BKD: Tensor) -> Memory:
        """Keys and values of a memory, computed once for all the queries that will read it."""
        return Memory(self._split(self.k(memory_BKD)), self._split(self.v(memory_BKD)))

    def attend_memory(self, x_BQD: Tensor, memory: Memory, mask_B11K: Tensor) -> Tensor:
        """Cross-attention of ``x_BQD`` over a memory from :meth:`memory` (``mask_B11K``: bool)."""
        q = self._split(self.q(x_BQD))
        return self._merge(self._attend(q, *memory, mask_B11K, False))

    def memory_weights(self, x_BQD: Tensor, memory: Memory, mask_B11K: Tensor) -> Tensor:
        """The weights of :meth:`attend_memory` without dropout, float (B, H, Q, K): what the fused kernel does not give."""
        q = self._split(self.q(x_BQD))
        scores = q @ memory.keys_BHKE.transpose(2, 3) / math.sqrt(q.size(-1))
        return scores.masked_fill(~mask_B11K, float("-inf")).softmax(-1)

    def _project(self, x_BQD: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (self._split(linear(x_BQD)) for linear in (self.q, self.k, self.v))
        if self.rotary:
            q, k = rotate(q, positions), rotate(k, positions)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        rate = self.dropout if self.training else 0.0
        if rate and q.device.type == "cpu":
            return _attend_and_drop(q, k, v, mask, causal, rate)
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=rate, is_causal=causal
        )

    def _split(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        return x_BLD.view(B, L, self.num_heads, D // self.num_heads).transpose(1, 2)

    def _merge(self, x_BHQE: Tensor) -> Tensor:
        out: Tensor = self.out(x_BHQE.transpose(1, 2).flatten(-2))
        return out


def _attend_and_drop(
    q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool, rate: float
) -> Tensor:
    """Attention that drops weights: torch has no fused one for CPUs, and what it has in its place draws slowly."""
    scores = (q * q.size(-1) ** -0.5) @ k.mT
    if causal:
        mask = torch.ones(scores.shape[-2:], dtype=torch.bool, device=q.device).tril()
    if mask is not None:
        scores = scores + torch.zeros(mask.shape, dtype=q.dtype).masked_fill(~mask, float("-inf"))
    return dropout(scores.softmax(-1), rate) @ v


def document_mask(docs_BL: Tensor) -> Tensor:
    """bool (B, 1, L, L), True where a position stands in the same document and not behind: causal attention
    within each document of a row. ``docs_BL``: int64, equal at the positions of one document.
    """
    return (docs_BL.unsqueeze(2) == docs_BL.unsqueeze(1)).tril().unsqueeze(1)
