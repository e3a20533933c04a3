"""Decoding with a stack of blocks: what it remembers, and one step of all its layers.

A row may have several continuations (beams). They share the row's memory and one cache: each step adds a slot for each
beam, and a mask says which slots a beam descends from. So no key or value is ever copied from beam to beam.

Shape letters: N rows, Q new positions of a row (a prefix's, or one for each beam), P slots of the cache so far,
S positions of the memory, D model width, H heads, E width of a head.
"""

from __future__ import annotations

import functools
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING, Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.nn.positions import Positions, rotate
from lit_lm.nn.precision import cpu_multiplies_in

if TYPE_CHECKING:
    from lit_lm.nn.blocks import Block, Stack


def _without_autocast(method: Callable[..., Any]) -> Callable[..., Any]:
    """Precision is chosen when a decoding is made."""

    @functools.wraps(method)
    def run(self: Decoding, *args: Any, **settings: Any) -> Any:
        if not torch.is_autocast_enabled(self.device):
            return method(self, *args, **settings)
        with torch.autocast(self.device, enabled=False):
            return method(self, *args, **settings)

    return run


class Decoding:
    """What a stack remembers between two steps, which change it in place.

    Weights are gathered when it is made: changes to the network's are not seen. On a CPU they are copied in the layout that
    products of few rows are fastest in, and in single precision where the CPU has no instructions for a lower one.
    Nothing is ever dropped, and autocast is obeyed as it was set then.

    Args:
        stack: the blocks.
        positions: what the network adds to its embeddings.
        head: the output layer.
        capacity: positions to reserve room for; the room grows when there are more, or several beams.
        memory_NSD: what cross-attention reads, for stacks that have it.
        memory_mask_NS: bool, True where it may be read.
    """

    def __init__(
        self,
        stack: Stack,
        positions: Positions,
        head: nn.Module,
        capacity: int,
        memory_NSD: Tensor | None = None,
        memory_mask_NS: Tensor | None = None,
    ) -> None:
        assert isinstance(head, nn.Linear)
        weight = head.weight
        self.device = weight.device.type
        autocast = torch.is_autocast_enabled(self.device)
        dtype = torch.get_autocast_dtype(self.device) if autocast else weight.dtype
        if self.device == "cpu" and not cpu_multiplies_in(dtype):
            dtype = torch.float32
        # What the branches are added to: under autocast in full precision, as ever.
        self.dtype = torch.promote_types(dtype, weight.dtype) if autocast else dtype
        self.norm = None if isinstance(stack.norm, nn.Identity) else _norm(stack.norm, self.dtype)
        self.layers = [_Layer(block, dtype, self.dtype) for block in stack.blocks]  # type: ignore[arg-type]
        self.head = _map(dtype, head)
        vectors_CD = positions.vectors(capacity, weight.device)
        self.vectors_CD = None if vectors_CD is None else vectors_CD.to(self.dtype)
        self.capacity = capacity
        self.slots = 0  # used of every row's cache
        self.at: int | Tensor = 0  # the next position: of all rows, or int64 (N, 1)
        self.bias_NQP: Tensor | None = None  # 0 or -inf; None when every slot is seen
        self.memory_bias: Tensor | None = None
        if memory_NSD is not None and memory_mask_NS is not None:
            self._read(memory_NSD.to(dtype))
            bias_NS = torch.zeros_like(memory_mask_NS, dtype=dtype)
            self.memory_bias = bias_NS.masked_fill(~memory_mask_NS, float("-inf"))[:, None, None, :]

    def prefill(self, x_NQD: Tensor, lengths_N: Tensor) -> Tensor:
        """Reads embedded prefixes, padded on the right; logits of the next tokens, float (N, V).

        Args:
            x_NQD: float, positions added.
            lengths_N: int64, real positions of each row.
        """
        h_NQD = self._advance(x_NQD, causal=True)
        Q = self.at = self.slots
        if not bool((lengths_N == Q).all()):
            self.at = lengths_N.unsqueeze(1).clone()
            padding = torch.arange(Q, device=x_NQD.device) >= self.at
            bias = torch.zeros_like(padding, dtype=self.layers[0].dtype)
            self.bias_NQP = bias.masked_fill(padding, float("-inf")).unsqueeze(1)
        last = h_NQD[torch.arange(len(h_NQD), device=h_NQD.device), lengths_N - 1]
        logits: Tensor = self._logits(last)
        return logits

    def step(self, x: Tensor, parents_NQ: Tensor | None = None) -> Tensor:
        """One new position of each beam; logits of the next tokens, float (N, V) or (N, Q, V).

        Args:
            x: float embeddings (N, D), or (N, Q, D) for rows with Q beams each.
            parents_NQ: int64, which of a row's beams of the last step each of them goes on from.
        """
        shape = x.shape
        x_NQD = x.view(shape[0], -1, shape[-1])
        if self.vectors_CD is not None:
            x_NQD = x_NQD + self.vectors_CD[self.at]
        if parents_NQ is not None and (x_NQD.size(1) > 1 or self.bias_NQP is not None):
            self.bias_NQP = self._descend(parents_NQ)
        elif self.bias_NQP is not None:
            self.bias_NQP = F.pad(self.bias_NQP, (0, 1))
        h_NQD = self._advance(x_NQD)
        self.at = self.at + 1
        logits: Tensor = self._logits(h_NQD.view(-1, shape[-1]))
        return logits.view(*shape[:-1], -1)

    def keep(self, rows: Sequence[int]) -> None:
        """Keeps these rows, in this order. Only those that change their place are copied."""
        count = len(rows)
        moved = [(i, row) for i, row in enumerate(rows) if i != row]
        pairs = torch.tensor(moved, dtype=torch.long).view(-1, 2).to(self.head[0].device)
        to, source = pairs[:, 0], pairs[:, 1]

        def kept(x: Tensor) -> Tensor:
            if moved:
                x[to] = x[source]
            return x[:count]

        for layer in self.layers:
            kept(layer.cache[:, :, :, : self.slots])
            layer.cache = layer.cache[:count]
            if self.memory_bias is not None:
                layer.memory = kept(layer.memory)
        if self.memory_bias is not None:
            self.memory_bias = kept(self.memory_bias)
        if self.bias_NQP is not None:
            self.bias_NQP = kept(self.bias_NQP)
        if isinstance(self.at, Tensor):
            self.at = kept(self.at)

    def _descend(self, parents_NQ: Tensor) -> Tensor:
        """What new beams see: what their parents saw, and each itself."""
        N, Q = parents_NQ.shape
        past, dtype = self.bias_NQP, self.layers[0].dtype
        if past is None:
            past = torch.zeros(N, 1, self.slots, dtype=dtype, device=parents_NQ.device)
        past = past.gather(1, parents_NQ.unsqueeze(2).expand(N, Q, self.slots))
        alone = torch.full((Q, Q), float("-inf"), dtype=dtype, device=past.device)
        return torch.cat((past, alone.fill_diagonal_(0.0).expand(N, Q, Q)), dim=2)

    @_without_autocast
    def _read(self, memory_NSD: Tensor) -> None:
        for layer in self.layers:
            layer.read(memory_NSD)

    @_without_autocast
    def _advance(self, x_NQD: Tensor, *, causal: bool = False) -> Tensor:
        N, Q, D = x_NQD.shape
        begin, end = self.slots, self.slots + Q
        room = max(self.capacity, 2 * begin, end)
        bias = None if self.bias_NQP is None else self.bias_NQP.unsqueeze(1)
        at = self.at
        if not isinstance(at, Tensor) and self.layers[0].rotary:
            at = torch.arange(at, at + (Q if causal else 1), device=x_NQD.device)
        x = x_NQD.reshape(N * Q, D).to(self.dtype)
        for layer in self.layers:
            x = layer.step(x, N, begin, end, room, at, bias, self.memory_bias, causal)
        self.slots = end
        if self.norm is not None:
            x = F.layer_norm(x, (D,), *self.norm)
        return x.view(N, Q, D)

    @_without_autocast
    def _logits(self, h: Tensor) -> Tensor:
        return _apply(h, self.head)


class _Layer:
    """A block's weights as decoding uses them, with its cache and its view of the memory."""

    def __init__(self, block: Block, dtype: torch.dtype, norms: torch.dtype) -> None:
        attention, cross = block.attention, block.cross_attention
        self.dtype, self.heads, self.rotary = dtype, attention.num_heads, attention.rotary
        self.norm_first, feed_forward = block.norm_first, block.feed_forward
        self.activate = torch.relu_ if feed_forward.activation == "relu" else feed_forward.activate
        self.qkv = _map(dtype, attention.q, attention.k, attention.v)
        self.out = _map(dtype, attention.out)
        self.up, self.down = (
            _map(dtype, block.feed_forward.up),
            _map(dtype, block.feed_forward.down),
        )
        self.norm = _norm(block.norm_attention, norms)
        self.norm_feed_forward = _norm(block.norm_feed_forward, norms)
        self.cross = cross is not None
        if cross is not None:
            self.cross_q, self.cross_kv = _map(dtype, cross.q), _map(dtype, cross.k, cross.v)
            self.cross_out = _map(dtype, cross.out)
            self.norm_cross = _norm(block.norm_cross, norms)
        # Keys beside values: (N, 2, H, slots, E), and of the memory (N, 2, H, S, E).
        self.cache = self.memory = self.qkv[0].new_empty(0)

    def read(self, memory_NSD: Tensor) -> None:
        """Computes keys and values of the memory, once for all steps."""
        N, S, D = memory_NSD.shape
        both = _apply(memory_NSD.reshape(N * S, D), self.cross_kv).view(N, S, 2, self.heads, -1)
        self.memory = both.permute(0, 2, 3, 1, 4).contiguous()

    def step(
        self,
        x: Tensor,
        rows: int,
        begin: int,
        end: int,
        room: int,
        at: int | Tensor,
        bias: Tensor | None,
        memory_bias: Tensor | None,
        causal: bool,
    ) -> Tensor:
        """Positions ``begin`` to ``end`` of all rows, float (N * Q, D); changes ``x``."""
        count, D = x.shape
        Q, first = end - begin, self.norm_first
        h = F.layer_norm(x, (D,), *self.norm) if first else x
        qkv = _apply(h, self.qkv).view(rows, Q, 3, self.heads, -1).permute(0, 2, 3, 1, 4)
        q = qkv[:, 0]
        if self.rotary:
            assert isinstance(at, Tensor)
            q = rotate(q, at)
            qkv[:, 1] = rotate(qkv[:, 1], at)
        if begin == 0 or self.cache.size(3) < end:
            past = self.cache
            self.cache = qkv.new_empty(rows, 2, self.heads, room, qkv.size(4))
            if begin:
                self.cache[:, :, :, :begin] = past[:, :, :, :begin]
        self.cache[:, :, :, begin:end] = qkv[:, 1:]
        keys, values = self.cache[:, :, :, :end].unbind(1)
        a = F.scaled_dot_product_attention(q, keys, values, attn_mask=bias, is_causal=causal)
        x = _add(x, a.transpose(1, 2).reshape(count, D), self.out)
        if not first:
            x = F.layer_norm(x, (D,), *self.norm)
        if self.cross:
            h = F.layer_norm(x, (D,), *self.norm_cross) if first else x
            q = _apply(h, self.cross_q).view(rows, Q, self.heads, -1).transpose(1, 2)
            keys, values = self.memory.unbind(1)
            a = F.scaled_dot_product_attention(q, keys, values, attn_mask=memory_bias)
            x = _add(x, a.transpose(1, 2).reshape(count, D), self.cross_out)
            if not first:
                x = F.layer_norm(x, (D,), *self.norm_cross)
        h = F.layer_norm(x, (D,), *self.norm_feed_forward) if first else x
        x = _add(x, self.activate(_apply(h, self.up)), self.down)
        return x if first else F.layer_norm(x, (D,), *self.norm_feed_forward)


_Map = tuple[Tensor, Tensor | None]
"""A linear map: weights (inputs, outputs) and a bias."""


def _map(dtype: torch.dtype, *linears: nn.Linear) -> _Map:
    """Several maps of one input as one."""
    weights = [linear.weight.detach().to(dtype) for linear in linears]
    biases = [linear.bias.detach().to(dtype) for linear in linears if linear.bias is not None]
    weight = weights[0] if len(weights) == 1 else torch.cat(weights)
    if weight.device.type == "cpu" and weight.size(0) >= weight.size(1):
        weight = weight.t().contiguous().t()  # twice as fast for one row; wide inputs are not
    return weight.t(), torch.cat(biases) if biases else None


def _apply(x: Tensor, map: _Map) -> Tensor:
    weight, bias = map
    x = x.to(weight.dtype)
    return torch.mm(x, weight) if bias is None else torch.addmm(bias, x, weight)


def _add(x: Tensor, branch: Tensor, map: _Map) -> Tensor:
    """``x`` plus the map of a branch; in place where the precision is one."""
    weight, bias = map
    if x.dtype != weight.dtype:
        return x + _apply(branch, map)
    return (x if bias is None else x.add_(bias)).addmm_(branch, weight)


def _norm(norm: nn.Module, dtype: torch.dtype) -> tuple[Tensor, Tensor, float]:
    assert isinstance(norm, nn.LayerNorm)
    return norm.weight.detach().to(dtype), norm.bias.detach().to(dtype), norm.eps
