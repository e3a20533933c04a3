"""The Transformer block and stacks of it: one block for encoders, decoders and GPT.

Shape letters: B rows, Q positions of the stack's own sequence, K positions of the memory, D model width.
"""

from __future__ import annotations

from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.nn.attention import Memory, MultiHeadAttention
from lit_lm.nn.dropout import Dropout
from lit_lm.nn.layer import Layer

Activation = Literal["relu", "gelu", "gelu_tanh"]


class FeedForward(nn.Module):
    """Two linear maps with an activation between them (Vaswani et al. 2017, section 3.3).

    Args:
        d_model: width of inputs and outputs.
        d_ff: width in the middle.
        activation: "relu" (the paper), "gelu" (exact; BERT) or "gelu_tanh" (GPT-2's approximation).
        bias: whether the maps have biases.
    """

    def __init__(
        self, d_model: int, d_ff: int, *, activation: Activation, bias: bool = True
    ) -> None:
        super().__init__()
        self.activation = activation
        self.up, self.down = (
            nn.Linear(d_model, d_ff, bias=bias),
            nn.Linear(d_ff, d_model, bias=bias),
        )

    def forward(self, x_BQD: Tensor) -> Tensor:
        """float (B, Q, D) to float (B, Q, D), each position on its own."""
        out: Tensor = self.down(self.activate(self.up(x_BQD)))
        return out

    def activate(self, h: Tensor) -> Tensor:
        """What stands between the two maps."""
        if self.activation == "relu":
            return F.relu(h)
        return F.gelu(h, approximate="tanh" if self.activation == "gelu_tanh" else "none")


class Block(Layer):
    """Self-attention, cross-attention where asked, and a feed-forward net, each with a residual and a norm.

    Post-norm, norm(x + f(x)), is Vaswani et al. 2017, section 3.1; pre-norm, x + f(norm(x)), is GPT-2's.

    Args:
        d_model: width.
        num_heads: attention heads.
        d_ff: width of the feed-forward net's middle.
        dropout: probability of dropping, on each branch before it is added.
        attention_dropout: that of attention weights; None for ``dropout``.
        activation: the feed-forward net's.
        norm_first: pre-norm instead of post-norm.
        bias: whether linear maps have biases.
        cross: whether the block reads a memory.
        rotary: rotary positions in self-attention.
        norm_eps: what the norms add to a variance.
    """

    def __init__(
        self,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        dropout: float = 0.0,
        attention_dropout: float | None = None,
        activation: Activation = "relu",
        norm_first: bool = False,
        bias: bool = True,
        cross: bool = False,
        rotary: bool = False,
        norm_eps: float = 1e-5,
    ) -> None:
        super().__init__()
        self.norm_first = norm_first
        of_weights = dropout if attention_dropout is None else attention_dropout
        self.attention = MultiHeadAttention(
            d_model, num_heads, dropout=of_weights, bias=bias, rotary=rotary
        )
        self.norm_attention = nn.LayerNorm(d_model, eps=norm_eps)
        self.cross_attention: MultiHeadAttention | None = None
        if cross:
            self.cross_attention = MultiHeadAttention(
                d_model, num_heads, dropout=of_weights, bias=bias
            )
            self.norm_cross = nn.LayerNorm(d_model, eps=norm_eps)
        self.feed_forward = FeedForward(d_model, d_ff, activation=activation, bias=bias)
        self.norm_feed_forward = nn.LayerNorm(d_model, eps=norm_eps)
        self.dropout = Dropout(dropout)

    def forward(
        self,
        x_BQD: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        positions: Tensor | None = None,
        memory_BKD: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """One layer over whole rows; arguments as in :meth:`MultiHeadAttention.forward`, and for a layer with
        cross-attention what it reads.
        """
        branch = self.attention(
            self._pre(x_BQD, self.norm_attention), mask, causal=causal, positions=positions
        )
        memory = None
        if self.cross_attention is not None:
            assert memory_BKD is not None
            memory = self.cross_attention.memory(memory_BKD)
        return self._rest(self._add(x_BQD, branch, self.norm_attention), memory, memory_mask)

    def alignment(
        self, x_BQD: Tensor, memory_BKD: Tensor, memory_mask: Tensor
    ) -> tuple[Tensor, Tensor]:
        """One causal layer with cross-attention: its output, and the weights of its cross-attention (B, H, Q, K)."""
        assert self.cross_attention is not None
        memory = self.cross_attention.memory(memory_BKD)
        branch = self.attention(self._pre(x_BQD, self.norm_attention), causal=True)
        x = self._add(x_BQD, branch, self.norm_attention)
        weights = self.cross_attention.memory_weights(
            self._pre(x, self.norm_cross), memory, memory_mask
        )
        return self._rest(x, memory, memory_mask), weights

    def _rest(self, x: Tensor, memory: Memory | None, memory_mask: Tensor | None) -> Tensor:
        if self.cross_attention is not None:
            assert memory is not None
            assert memory_mask is not None
            branch = self.cross_attention.attend_memory(
                self._pre(x, self.norm_cross), memory, memory_mask
            )
            x = self._add(x, branch, self.norm_cross)
        return self._add(
            x, self.feed_forward(self._pre(x, self.norm_feed_forward)), self.norm_feed_forward
        )

    def _pre(self, x: Tensor, norm: nn.Module) -> Tensor:
        out: Tensor = norm(x) if self.norm_first else x
        return out

    def _add(self, x: Tensor, branch: Tensor, norm: nn.Module) -> Tensor:
        x = x + self.dropout(branch)
        out: Tensor = x if self.norm_first else norm(x)
        return out


class Stack(nn.Module):
    """Blocks one after the other, and where asked a norm behind the last.

    Args:
        num_layers: how many.
        d_model: their width.
        num_heads: attention heads of each.
        d_ff: width of their feed-forward nets' middle.
        norm_first: whether they are pre-norm.
        final_norm: whether the stack ends in a norm of its own; None for pre-norm stacks only.
        norm_eps: what the norms add to a variance.
        settings: further arguments of :class:`Block`.
    """

    def __init__(
        self,
        num_layers: int,
        d_model: int,
        num_heads: int,
        d_ff: int,
        *,
        norm_first: bool,
        final_norm: bool | None = None,
        norm_eps: float = 1e-5,
        **settings: Any,
    ) -> None:
        super().__init__()
        self.blocks = nn.ModuleList(
            Block(d_model, num_heads, d_ff, norm_first=norm_first, norm_eps=norm_eps, **settings)
            for _ in range(num_layers)
        )
        ends_in_norm = norm_first if final_norm is None else final_norm
        self.norm = nn.LayerNorm(d_model, eps=norm_eps) if ends_in_norm else nn.Identity()

    def forward(
        self,
        x_BQD: Tensor,
        mask: Tensor | None = None,
        *,
        causal: bool = False,
        positions: Tensor | None = None,
        memory_BKD: Tensor | None = None,
        memory_mask: Tensor | None = None,
    ) -> Tensor:
        """All layers over whole rows: float (B, Q, D) to float (B, Q, D)."""
        blocks: Any = self.blocks
        for block in blocks:
            x_BQD = block.run(
                x_BQD,
                mask,
                causal=causal,
                positions=positions,
                memory_BKD=memory_BKD,
                memory_mask=memory_mask,
            )
        out: Tensor = self.norm(x_BQD)
        return out

    def alignment(self, x_BQD: Tensor, memory_BKD: Tensor, memory_mask: Tensor) -> Tensor:
        """Weights of each layer's cross-attention in a causal pass over whole rows, float (B, layers, H, Q, K)."""
        found = []
        for block in self.blocks:
            x_BQD, weights = block.alignment(x_BQD, memory_BKD, memory_mask)  # type: ignore[operator]
            found.append(weights)
        return torch.stack(found, dim=1)
