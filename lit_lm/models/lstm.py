"""An LSTM language model (Zaremba et al. 2014, "Recurrent Neural Network Regularization", https://arxiv.org/abs/1409.2329),
with the output layer tied to the embeddings (Press and Wolf 2017, https://arxiv.org/abs/1608.05859): what GPT replaced.

Shape letters: B rows, L positions, D width of embeddings, H width of states, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import ClassVar, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence

from lit_lm.errors import check_counts, check_reals
from lit_lm.models.base import MOST_LAYERS, CausalArchitecture, CausalNetwork, linear_flops
from lit_lm.nn.dropout import Dropout
from lit_lm.nn.positions import document_positions
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class LSTMConfig(CausalArchitecture):
    """Sizes of an LSTM language model; the defaults are Zaremba et al.'s medium one.

    Args:
        num_layers: recurrent layers.
        d_model: width of embeddings, and of what the output layer reads.
        d_hidden: width of states. Where it is not ``d_model``, a linear map leads back to that.
        dropout: dropout on embeddings, between layers and on outputs, never along time.
        tie_embeddings: the output layer shares the embeddings' weights.
        init_range: all weights start uniform between minus and plus this.
    """

    paper_vocab_size: ClassVar[int] = 10_000
    paper_length: ClassVar[int] = 35
    num_layers: int = 2
    d_model: int = 650
    d_hidden: int = 650
    dropout: float = 0.5
    tie_embeddings: bool = True
    init_range: float = 0.05

    def __post_init__(self) -> None:
        check_counts(self, "num_layers", most=MOST_LAYERS)
        check_counts(self, "d_model", "d_hidden")
        check_reals(self, "dropout", most=1, below=True)
        check_reals(self, "init_range", most=100)

    def build(self, spec: DataSpec) -> LSTM:
        return LSTM(self, spec)


class LSTMState(NamedTuple):
    """What decoding remembers; with K beams a row B * K stand where B is written.

    Args:
        hidden: float (layers, B, H).
        cells: float (layers, B, H).
        rows: how many rows there are, whose beams stand side by side.
    """

    hidden: Tensor
    cells: Tensor
    rows: int

    def choose(self, index_N: Tensor, rows: int) -> LSTMState:
        """The state of these alone."""
        return LSTMState(
            self.hidden.index_select(1, index_N), self.cells.index_select(1, index_N), rows
        )


class LSTM(CausalNetwork):
    """The network of :class:`LSTMConfig`. There is no bound to its rows: it remembers, and looks nothing up."""

    beyond_encoding = ("head", "output")

    def __init__(self, config: LSTMConfig, spec: DataSpec) -> None:
        super().__init__()
        c = config
        self.dim, self.max_length = c.d_hidden, None
        self.embedding = nn.Embedding(spec.vocab_size, c.d_model)
        self.dropout = Dropout(c.dropout)
        self.encoder = nn.LSTM(
            c.d_model,
            c.d_hidden,
            c.num_layers,
            batch_first=True,
            dropout=c.dropout if c.num_layers > 1 else 0.0,
        )
        self.output: nn.Module = (
            nn.Identity()
            if c.d_hidden == c.d_model
            else nn.Linear(c.d_hidden, c.d_model, bias=False)
        )
        self.head = nn.Linear(c.d_model, spec.vocab_size, bias=False)
        if c.tie_embeddings:
            self.head.weight = self.embedding.weight
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -c.init_range, c.init_range)

    def forward(
        self, ids_BL: Tensor, mask_BL: Tensor | None = None, docs_BL: Tensor | None = None
    ) -> Tensor:
        """See :class:`CausalNetwork`. Padding on the right is never seen by real tokens: no mask is needed."""
        if docs_BL is None:
            states_BLH = self._states(ids_BL)
        else:  # each document in a row of its own, and back
            at_BL = document_positions(docs_BL)
            row_BL = ((at_BL == 0).flatten().cumsum(0) - 1).view_as(at_BL)
            rows = ids_BL.new_zeros(int(row_BL.max()) + 1, int(at_BL.max()) + 1)
            states_BLH = self._states(rows.index_put((row_BL, at_BL), ids_BL))[row_BL, at_BL]
        out: Tensor = self.dropout(self.output(states_BLH))
        return out

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: the last layer's states."""
        out: Tensor = self.dropout(self._states(ids_BL))
        return out

    def start(self, ids_BL: Tensor, lengths_B: Tensor, capacity: int) -> tuple[Tensor, LSTMState]:
        """See :class:`CausalNetwork`."""
        x_BLD = self.dropout(self.embedding(ids_BL))
        packed = pack_padded_sequence(
            x_BLD, lengths_B.cpu(), batch_first=True, enforce_sorted=False
        )
        _, (hidden, cells) = self.encoder(packed)
        return self._logits(hidden), LSTMState(hidden, cells, len(ids_BL))

    def step(
        self, ids: Tensor, state: LSTMState, parents_BK: Tensor | None = None
    ) -> tuple[Tensor, LSTMState]:
        """See :class:`DecodingNetwork`."""
        if parents_BK is not None:
            before = state.hidden.size(1) // state.rows
            first_B1 = torch.arange(state.rows, device=ids.device).unsqueeze(1) * before
            state = state.choose((first_B1 + parents_BK).flatten(), state.rows)
        x_N1D = self.dropout(self.embedding(ids.flatten())).unsqueeze(1)
        _, (hidden, cells) = self.encoder(x_N1D, (state.hidden, state.cells))
        return self._logits(hidden).view(*ids.shape, -1), LSTMState(hidden, cells, state.rows)

    def keep(self, state: LSTMState, rows: Sequence[int]) -> LSTMState:
        """See :class:`DecodingNetwork`."""
        beams = state.hidden.size(1) // state.rows
        index_NK = torch.arange(state.hidden.size(1), device=state.hidden.device).view(-1, beams)
        return state.choose(index_NK[list(rows)].flatten(), len(rows))

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        return lengths[0] * sum(2 * p.numel() for p in self.encoder.parameters() if p.dim() == 2)

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; one length."""
        maps = linear_flops(self.output) + linear_flops(self.head)
        return self.encode_flops(lengths[0]) + lengths[0] * maps

    def _states(self, ids_BL: Tensor) -> Tensor:
        out: Tensor = self.encoder(self.dropout(self.embedding(ids_BL)))[0]
        return out

    def _logits(self, hidden_LBH: Tensor) -> Tensor:
        out: Tensor = self.head(self.dropout(self.output(hidden_LBH[-1])))
        return out
