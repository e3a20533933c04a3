"""GPT: a left-to-right Transformer language model.

Radford et al. 2018 (GPT), section 3.1, with post-norm; Radford et al. 2019 (GPT-2), section 2.3, with
pre-norm, a norm after the last block and residual projections initialised smaller by 1/sqrt(2 layers);
Brown et al. 2020 (GPT-3), section 2.1, is GPT-2's block at other sizes.

Shape letters: B rows, L positions, D model width, V vocabulary.
"""

from __future__ import annotations

import functools
import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn

from lit_lm.errors import check_reals
from lit_lm.models.base import (
    CausalArchitecture,
    CausalNetwork,
    check_transformer,
    linear_flops,
)
from lit_lm.nn.attention import document_mask
from lit_lm.nn.blocks import Activation, Stack
from lit_lm.nn.decoding import Decoding
from lit_lm.nn.dropout import Dropout
from lit_lm.nn.positions import PositionKind, Positions, document_positions
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class GPTConfig(CausalArchitecture):
    """Sizes of a GPT.

    Args:
        num_layers: blocks.
        num_heads: attention heads of a block; must divide ``d_model``.
        d_model: width.
        d_ff: width inside the feed-forward net; None for 4 x ``d_model``.
        dropout: dropout after embeddings, on branches and on attention weights.
        positions: "learned" (GPT), or "sinusoidal", "rotary", "none".
        activation: "gelu_tanh" (GPT-2), "gelu" (exact) or "relu".
        norm_first: pre-norm (GPT-2); False for post-norm (GPT).
        bias: biases in linear maps.
        tie_embeddings: the output layer shares the token embeddings' weights.
        max_length: positions to learn; None for as many as the data's longest row.
        init_std: standard deviation of fresh weights (GPT and GPT-2: 0.02).
        norm_eps: what norms add to a variance.
    """

    paper_vocab_size: ClassVar[int] = 50_257
    paper_length: ClassVar[int] = 1024
    num_layers: int = 12
    num_heads: int = 12
    d_model: int = 768
    d_ff: int | None = None
    dropout: float = 0.1
    positions: PositionKind = "learned"
    activation: Activation = "gelu_tanh"
    norm_first: bool = True
    bias: bool = True
    tie_embeddings: bool = True
    max_length: int | None = None
    init_std: float = 0.02
    norm_eps: float = 1e-5

    def __post_init__(self) -> None:
        check_transformer(self)
        check_reals(self, "init_std", most=100)

    def build(self, spec: DataSpec) -> GPT:
        return GPT(self, spec)


class GPT(CausalNetwork):
    """The network of :class:`GPTConfig`."""

    def __init__(self, config: GPTConfig, spec: DataSpec) -> None:
        super().__init__()
        c = config
        self.dim = c.d_model
        self.embedding = nn.Embedding(spec.vocab_size, c.d_model)
        self.positions = Positions(c.positions, c.d_model, c.max_length or spec.max_length)
        self.max_length = self.positions.max_length
        self.dropout = Dropout(c.dropout)
        self.stack = Stack(
            c.num_layers,
            c.d_model,
            c.num_heads,
            c.d_ff or 4 * c.d_model,
            dropout=c.dropout,
            activation=c.activation,
            norm_first=c.norm_first,
            bias=c.bias,
            rotary=c.positions == "rotary",
            norm_eps=c.norm_eps,
        )
        self.head = nn.Linear(c.d_model, spec.vocab_size, bias=False)
        self.apply(functools.partial(_initialise, std=c.init_std))
        for name, parameter in self.named_parameters():
            if name.endswith(("attention.out.weight", "feed_forward.down.weight")):
                nn.init.normal_(parameter, std=c.init_std / math.sqrt(2 * c.num_layers))
        if c.tie_embeddings:
            self.head.weight = self.embedding.weight

    def forward(
        self, ids_BL: Tensor, mask_BL: Tensor | None = None, docs_BL: Tensor | None = None
    ) -> Tensor:
        """See :class:`CausalNetwork`. Padding on the right is never seen by real tokens: no mask is needed."""
        if docs_BL is None:
            out: Tensor = self.stack(self._embed(ids_BL), causal=True)
        else:
            at_BL = document_positions(docs_BL)
            out = self.stack(self._embed(ids_BL, at_BL), document_mask(docs_BL), positions=at_BL)
        return out

    def start(self, ids_BL: Tensor, lengths_B: Tensor, capacity: int) -> tuple[Tensor, Decoding]:
        """See :class:`CausalNetwork`."""
        state = Decoding(self.stack, self.positions, self.head, capacity)
        return state.prefill(self.positions(self.embedding(ids_BL)), lengths_B), state

    def step(
        self, ids: Tensor, state: Decoding, parents_BK: Tensor | None = None
    ) -> tuple[Tensor, Decoding]:
        """See :class:`DecodingNetwork`."""
        return state.step(self.embedding(ids), parents_BK), state

    def keep(self, state: Decoding, rows: Sequence[int]) -> Decoding:
        """See :class:`DecodingNetwork`."""
        state.keep(rows)
        return state

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        L = lengths[0]
        return L * linear_flops(self.stack) + 4 * L * L * self.dim * len(self.stack.blocks)

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; one length."""
        return self.encode_flops(lengths[0]) + lengths[0] * linear_flops(self.head)

    def _embed(self, ids_BL: Tensor, at_BL: Tensor | None = None) -> Tensor:
        out: Tensor = self.dropout(self.positions(self.embedding(ids_BL), at_BL))
        return out


def _initialise(module: nn.Module, std: float) -> None:
    if isinstance(module, nn.Linear | nn.Embedding):
        nn.init.normal_(module.weight, std=std)
    if isinstance(module, nn.Linear) and module.bias is not None:
        nn.init.zeros_(module.bias)
