"""The Transformer encoder-decoder (Vaswani et al. 2017, "Attention Is All You Need", https://arxiv.org/abs/1706.03762).

Shape letters: B rows, S source positions, T target positions, D model width, V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

import torch
from torch import Tensor, nn

from lit_lm.errors import check_counts, check_reals
from lit_lm.models.base import (
    MOST_LAYERS,
    Seq2SeqArchitecture,
    Seq2SeqNetwork,
    check_transformer,
    linear_flops,
)
from lit_lm.nn.blocks import Activation, Block, Stack
from lit_lm.nn.decoding import Decoding
from lit_lm.nn.dropout import Dropout
from lit_lm.nn.positions import PositionKind, Positions
from lit_lm.specs import DataSpec

_ENCODED_ROWS = 16
"""Rows that decoding encodes at a time."""


@dataclass(frozen=True)
class TransformerConfig(Seq2SeqArchitecture):
    """Sizes of a Transformer; the defaults are the paper's base model (table 3).

    Args:
        num_layers: blocks of the encoder (section 3.1).
        num_decoder_layers: blocks of the decoder; None for as many as the encoder's.
        num_heads: attention heads of a block (section 3.2.2); must divide ``d_model``.
        d_model: width.
        d_ff: width inside the feed-forward nets (section 3.3).
        dropout: dropout on sums of embeddings and positions and on branches (section 5.4).
        attention_dropout: dropout on attention weights, of which the paper has none; None for ``dropout``.
        positions: "sinusoidal" (section 3.5), or "learned", "rotary", "none".
        activation: "relu" (the paper), "gelu" or "gelu_tanh".
        norm_first: pre-norm instead of the paper's post-norm.
        bias: biases in linear maps.
        tie_embeddings: source embeddings, target embeddings and output layer share weights (section 3.4).
            Otherwise each has its own.
        max_length: positions to learn when they are learned; None for as many as the data's longest row.
        final_norm: a norm behind the last block of each stack; None for pre-norm stacks only.
        norm_eps: what norms add to a variance.
    """

    paper_vocab_size: ClassVar[int] = 37_000
    paper_length: ClassVar[int] = 25
    num_layers: int = 6
    num_decoder_layers: int | None = None
    num_heads: int = 8
    d_model: int = 512
    d_ff: int = 2048
    dropout: float = 0.1
    attention_dropout: float | None = None
    positions: PositionKind = "sinusoidal"
    activation: Activation = "relu"
    norm_first: bool = False
    bias: bool = True
    tie_embeddings: bool = True
    max_length: int | None = None
    final_norm: bool | None = None
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_transformer(self)
        check_counts(self, "num_decoder_layers", most=MOST_LAYERS, optional=True)
        check_counts(self, "d_ff")
        check_reals(self, "attention_dropout", most=1, below=True, optional=True)

    def build(self, spec: DataSpec) -> Transformer:
        return Transformer(self, spec)


class Transformer(Seq2SeqNetwork):
    """The network of :class:`TransformerConfig`."""

    beyond_encoding = ("head", "decoder", "tgt_embedding", "tgt_positions")

    def __init__(self, config: TransformerConfig, spec: DataSpec) -> None:
        super().__init__()
        c = config
        self.dim, self.bos_id = c.d_model, spec.bos_id
        longest = c.max_length or max(spec.max_length, spec.max_target_length)
        self.src_embedding = nn.Embedding(spec.vocab_size, c.d_model)
        self.tgt_embedding = (
            self.src_embedding if c.tie_embeddings else nn.Embedding(spec.vocab_size, c.d_model)
        )
        self.src_positions = Positions(c.positions, c.d_model, longest)
        self.tgt_positions = Positions(c.positions, c.d_model, longest)
        self.max_length = self.src_positions.max_length
        self.dropout = Dropout(c.dropout)

        def stack(num_layers: int, cross: bool) -> Stack:
            return Stack(
                num_layers,
                c.d_model,
                c.num_heads,
                c.d_ff,
                dropout=c.dropout,
                attention_dropout=c.attention_dropout,
                activation=c.activation,
                norm_first=c.norm_first,
                final_norm=c.final_norm,
                norm_eps=c.norm_eps,
                bias=c.bias,
                cross=cross,
                rotary=c.positions == "rotary",
            )

        self.encoder = stack(c.num_layers, cross=False)
        self.decoder = stack(c.num_decoder_layers or c.num_layers, cross=True)
        self.head = nn.Linear(c.d_model, spec.vocab_size, bias=False)
        self.apply(_initialise)
        if c.tie_embeddings:
            self.head.weight = self.tgt_embedding.weight

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: the encoder's output for source texts."""
        x = self._embed(ids_BL, self.src_embedding, self.src_positions)
        out: Tensor = self.encoder(x, mask_BL[:, None, None, :])
        return out

    def forward(self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor) -> Tensor:
        """See :class:`Seq2SeqNetwork`."""
        memory = self.encode(src_ids_BS, src_mask_BS)
        x = self._embed(tgt_ids_BT, self.tgt_embedding, self.tgt_positions)
        mask = src_mask_BS[:, None, None, :]
        out: Tensor = self.decoder(x, causal=True, memory_BKD=memory, memory_mask=mask)
        return out

    def alignment(self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor) -> Tensor:
        """See :class:`Seq2SeqNetwork`."""
        memory = self.encode(src_ids_BS, src_mask_BS)
        x = self._embed(tgt_ids_BT, self.tgt_embedding, self.tgt_positions)
        return self.decoder.alignment(x, memory, src_mask_BS[:, None, None, :])

    def start(
        self, src_ids_BS: Tensor, src_mask_BS: Tensor, capacity: int
    ) -> tuple[Tensor, Decoding]:
        """See :class:`Seq2SeqNetwork`."""
        encoded = self._encode_by_length(src_ids_BS, src_mask_BS)
        state = Decoding(
            self.decoder, self.tgt_positions, self.head, capacity, encoded, src_mask_BS
        )
        return self.step(torch.full_like(src_ids_BS[:, 0], self.bos_id), state)

    def step(
        self, ids: Tensor, state: Decoding, parents_BK: Tensor | None = None
    ) -> tuple[Tensor, Decoding]:
        """See :class:`DecodingNetwork`."""
        x = self.tgt_embedding(ids) * math.sqrt(self.dim)
        return state.step(x, parents_BK), state

    def keep(self, state: Decoding, rows: Sequence[int]) -> Decoding:
        """See :class:`DecodingNetwork`."""
        state.keep(rows)
        return state

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        L = lengths[0]
        return L * linear_flops(self.encoder) + 4 * L * L * self.dim * len(self.encoder.blocks)

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; source and target length."""
        S, T = lengths
        blocks = [block for block in self.decoder.blocks if isinstance(block, Block)]
        memory = sum(
            linear_flops(linear)
            for block in blocks
            if block.cross_attention
            for linear in (block.cross_attention.k, block.cross_attention.v)
        )
        products = S * memory
        products += T * (linear_flops(self.decoder) - memory + linear_flops(self.head))
        attention = 4 * self.dim * len(blocks) * (T * T + T * S)
        return self.encode_flops(S) + products + attention

    def _encode_by_length(self, ids_BL: Tensor, mask_BL: Tensor) -> Tensor:
        """As :meth:`encode`, a few rows of like lengths at a time, so that little padding is computed; 0 there."""
        lengths = mask_BL.sum(1).tolist()
        order = sorted(range(len(lengths)), key=lengths.__getitem__)
        out = None
        for begin in range(0, len(order), _ENCODED_ROWS):
            rows = torch.tensor(order[begin : begin + _ENCODED_ROWS], device=ids_BL.device)
            longest = lengths[order[min(begin + _ENCODED_ROWS, len(order)) - 1]]
            part = self.encode(ids_BL[rows, :longest], mask_BL[rows, :longest])
            if out is None:
                out = part.new_zeros(*ids_BL.shape, self.dim)
            out[rows, :longest] = part
        assert out is not None
        return out

    def _embed(self, ids_BL: Tensor, table: nn.Embedding, positions: Positions) -> Tensor:
        out: Tensor = self.dropout(positions(table(ids_BL) * math.sqrt(self.dim)))
        return out


def _initialise(module: nn.Module) -> None:
    if isinstance(module, nn.Linear):
        nn.init.xavier_uniform_(module.weight)
        if module.bias is not None:
            nn.init.zeros_(module.bias)
    elif isinstance(module, nn.Embedding):
        nn.init.normal_(module.weight, std=module.embedding_dim**-0.5)
