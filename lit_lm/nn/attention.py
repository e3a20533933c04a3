"""Multi-head scaled dot-product attention (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.2).

One module for self-attention, causal self-attention and cross-attention, with and without a cache.

Shape letters: B rows, Q query positions, K key positions, D model width, H heads, E width of a head.
Masks are boolean and True means "may be attended to".
"""

from __future__ import annotations

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.errors import InputError
from lit_lm.nn.positions import rotate


class KVCache:
    """Keys and values of the positions decoded so far, in room reserved at the start.

    Rows may have lengths of their own: each new position is written at its row's end, so a row's
    cached positions are always 0 .. length - 1 and padding never stands between two real tokens.

    Args:
        keys_BHKE: room for keys; values_BHKE: room for values.
    """

    def __init__(self, keys_BHKE: Tensor, values_BHKE: Tensor) -> None:
        self.keys_BHKE, self.values_BHKE = keys_BHKE, values_BHKE

    @classmethod
    def from_prefix(cls, keys_BHQE: Tensor, values_BHQE: Tensor, capacity: int) -> KVCache:
        """Room for ``capacity`` positions, the first of them filled with a prefix's keys and values."""
        room = max(capacity - keys_BHQE.size(2), 0)
        return cls(F.pad(keys_BHQE, (0, 0, 0, room)), F.pad(values_BHQE, (0, 0, 0, room)))

    def write(self, keys_BH1E: Tensor, values_BH1E: Tensor, lengths_B: Tensor) -> None:
        """Writes one position at each row's end (``lengths_B``: int64, positions held before)."""
        B, H, _, E = keys_BH1E.shape
        index = lengths_B.view(B, 1, 1, 1).expand(B, H, 1, E)
        self.keys_BHKE.scatter_(2, index, keys_BH1E.to(self.keys_BHKE.dtype))
        self.values_BHKE.scatter_(2, index, values_BH1E.to(self.values_BHKE.dtype))

    def select(self, index_N: Tensor) -> KVCache:
        """The cache of rows ``index_N`` (int64): a row may be taken several times, or left out."""
        return KVCache(
            self.keys_BHKE.index_select(0, index_N), self.values_BHKE.index_select(0, index_N)
        )


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

    def prefill(self, x_BQD: Tensor, capacity: int) -> tuple[Tensor, KVCache]:
        """Causal self-attention over a prefix, and a cache with room for ``capacity`` positions."""
        q, k, v = self._project(x_BQD, None)
        return self._merge(self._attend(q, k, v, None, True)), KVCache.from_prefix(k, v, capacity)

    def step(self, x_B1D: Tensor, cache: KVCache, lengths_B: Tensor, mask_B11K: Tensor) -> Tensor:
        """Self-attention of one new position a row over its cached past and itself.

        Args:
            x_B1D: float input at the new position.
            cache: keys and values so far; the new ones are written into it.
            lengths_B: int64, cached positions of each row before this one.
            mask_B11K: bool, True at positions up to and including the new one; its width says how
                much of the cache is read.

        Returns:
            float (B, 1, D).
        """
        q, k, v = self._project(x_B1D, lengths_B.view(-1, 1))
        cache.write(k, v, lengths_B)
        width = mask_B11K.size(-1)
        keys, values = cache.keys_BHKE[:, :, :width], cache.values_BHKE[:, :, :width]
        return self._merge(self._attend(q, keys.to(q.dtype), values.to(q.dtype), mask_B11K, False))

    def memory(self, memory_BKD: Tensor) -> KVCache:
        """Keys and values of a memory, computed once for all the queries that will read it."""
        return KVCache(self._split(self.k(memory_BKD)), self._split(self.v(memory_BKD)))

    def attend_memory(self, x_BQD: Tensor, memory: KVCache, mask_B11K: Tensor) -> Tensor:
        """Cross-attention of ``x_BQD`` over a memory from :meth:`memory` (``mask_B11K``: bool)."""
        q = self._split(self.q(x_BQD))
        keys, values = memory.keys_BHKE.to(q.dtype), memory.values_BHKE.to(q.dtype)
        return self._merge(self._attend(q, keys, values, mask_B11K, False))

    def _project(self, x_BQD: Tensor, positions: Tensor | None) -> tuple[Tensor, Tensor, Tensor]:
        q, k, v = (self._split(linear(x_BQD)) for linear in (self.q, self.k, self.v))
        if self.rotary:
            q, k = rotate(q, positions), rotate(k, positions)
        return q, k, v

    def _attend(self, q: Tensor, k: Tensor, v: Tensor, mask: Tensor | None, causal: bool) -> Tensor:
        dropout = self.dropout if self.training else 0.0
        return F.scaled_dot_product_attention(
            q, k, v, attn_mask=mask, dropout_p=dropout, is_causal=causal
        )

    def _split(self, x_BLD: Tensor) -> Tensor:
        B, L, D = x_BLD.shape
        return x_BLD.view(B, L, self.num_heads, D // self.num_heads).transpose(1, 2)

    def _merge(self, x_BHQE: Tensor) -> Tensor:
        out: Tensor = self.out(x_BHQE.transpose(1, 2).flatten(-2))
        return out


def length_mask(lengths_B: Tensor, width: int) -> Tensor:
    """bool (B, 1, 1, width), True at positions below each row's length (int64 ``lengths_B``)."""
    return (torch.arange(width, device=lengths_B.device) < lengths_B.unsqueeze(1))[:, None, None, :]


def document_mask(docs_BL: Tensor) -> Tensor:
    """bool (B, 1, L, L), True where a position stands in the same document and not behind: causal attention
    within each document of a row. ``docs_BL``: int64, equal at the positions of one document.
    """
    return (docs_BL.unsqueeze(2) == docs_BL.unsqueeze(1)).tril().unsqueeze(1)
