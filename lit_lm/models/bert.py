"""BERT: a bidirectional Transformer encoder (Devlin et al. 2019, https://arxiv.org/abs/1810.04805).

Shape letters: B rows, L positions, D model width, V vocabulary, N predicted positions.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import ClassVar

from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.errors import check_reals
from lit_lm.models.base import (
    MaskedArchitecture,
    MaskedNetwork,
    check_transformer,
    linear_flops,
)
from lit_lm.nn.blocks import Activation, Stack
from lit_lm.nn.dropout import Dropout
from lit_lm.nn.positions import PositionKind, Positions
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class BERTConfig(MaskedArchitecture):
    """Sizes of a BERT; the defaults are BERT base (section 3).

    Args:
        num_layers: blocks.
        num_heads: attention heads of a block; must divide ``d_model``.
        d_model: width.
        d_ff: width inside the feed-forward net; None for 4 x ``d_model``.
        dropout: dropout after embeddings, on branches and on attention weights.
        positions: "learned" (BERT), or "sinusoidal", "rotary", "none".
        activation: "gelu" (exact; BERT), "gelu_tanh" or "relu".
        norm_first: pre-norm instead of BERT's post-norm.
        max_length: positions to learn; None for as many as the data's longest row.
        init_std: standard deviation of fresh weights.
        norm_eps: what norms add to a variance (BERT's own code: 1e-12).
    """

    paper_vocab_size: ClassVar[int] = 30_522
    paper_length: ClassVar[int] = 512
    num_layers: int = 12
    num_heads: int = 12
    d_model: int = 768
    d_ff: int | None = None
    dropout: float = 0.1
    positions: PositionKind = "learned"
    activation: Activation = "gelu"
    norm_first: bool = False
    max_length: int | None = None
    init_std: float = 0.02
    norm_eps: float = 1e-12

    def __post_init__(self) -> None:
        check_transformer(self)
        check_reals(self, "init_std", most=100)

    def build(self, spec: DataSpec) -> BERT:
        return BERT(self, spec)


class MaskedHead(nn.Module):
    """From hidden vectors to logits: a dense layer, GELU, a norm, and the token embeddings as output layer.

    Args:
        embedding: the table whose weights are shared.
        norm_eps: what the norm adds to a variance.
    """

    def __init__(self, embedding: nn.Embedding, norm_eps: float) -> None:
        super().__init__()
        V, D = embedding.weight.shape
        self.dense, self.norm = nn.Linear(D, D), nn.LayerNorm(D, eps=norm_eps)
        self.output = nn.Linear(D, V)
        self.output.weight = embedding.weight

    def hidden(self, h_ND: Tensor) -> Tensor:
        """What the output layer reads, float (N, D)."""
        out: Tensor = self.norm(F.gelu(self.dense(h_ND)))
        return out

    def forward(self, h_ND: Tensor) -> Tensor:
        """float (N, D) to logits, float (N, V)."""
        out: Tensor = self.output(self.hidden(h_ND))
        return out


class BERT(MaskedNetwork):
    """The network of :class:`BERTConfig`.

    The pooler and the next-sentence layer exist only for data of two segments: no parameter is without
    a gradient.
    """

    beyond_encoding = ("head", "pooler", "next_head")
    head: MaskedHead

    def __init__(self, config: BERTConfig, spec: DataSpec) -> None:
        super().__init__()
        c = config
        self.dim = c.d_model
        self.embedding = nn.Embedding(spec.vocab_size, c.d_model)
        self.segments = nn.Embedding(2, c.d_model)
        self.positions = Positions(c.positions, c.d_model, c.max_length or spec.max_length)
        self.max_length = self.positions.max_length
        self.norm = nn.LayerNorm(c.d_model, eps=c.norm_eps)
        self.dropout = Dropout(c.dropout)
        self.stack = Stack(
            c.num_layers,
            c.d_model,
            c.num_heads,
            c.d_ff or 4 * c.d_model,
            dropout=c.dropout,
            activation=c.activation,
            norm_first=c.norm_first,
            rotary=c.positions == "rotary",
            norm_eps=c.norm_eps,
        )
        self.head = MaskedHead(self.embedding, c.norm_eps)
        if spec.next_sentence:
            self.pooler = nn.Linear(c.d_model, c.d_model)
            self.next_head = nn.Linear(c.d_model, 2)
        for module in self.modules():
            if isinstance(module, nn.Linear | nn.Embedding):
                nn.init.normal_(module.weight, std=c.init_std)
            if isinstance(module, nn.Linear):
                nn.init.zeros_(module.bias)

    def forward(self, ids_BL: Tensor, mask_BL: Tensor, segments_BL: Tensor) -> Tensor:
        """See :class:`MaskedNetwork`."""
        x = self.positions(self.embedding(ids_BL) + self.segments(segments_BL))
        out: Tensor = self.stack(self.dropout(self.norm(x)), mask_BL[:, None, None, :])
        return out

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`."""
        if segments_BL is None:
            segments_BL = ids_BL.new_zeros(ids_BL.shape)
        out: Tensor = self(ids_BL, mask_BL, segments_BL)
        return out

    def next_sentence(self, h_BLD: Tensor) -> Tensor:
        """See :class:`MaskedNetwork`: from the pooled vector, tanh of a dense layer at the first position."""
        out: Tensor = self.next_head(self.pooler(h_BLD[:, 0]).tanh())
        return out

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        L = lengths[0]
        return L * linear_flops(self.stack) + 4 * L * L * self.dim * len(self.stack.blocks)

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; the row's positions, and how many of them are predicted (0 if not given)."""
        L, predicted = (*lengths, 0.0)[:2]
        heads = predicted * linear_flops(self.head)
        if hasattr(self, "pooler"):
            heads += linear_flops(self.pooler) + linear_flops(self.next_head)
        return self.encode_flops(L) + heads
