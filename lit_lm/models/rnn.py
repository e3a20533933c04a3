"""The RNN encoder-decoder with attention.

Bahdanau et al. 2015, "Neural Machine Translation by Jointly Learning to Align and Translate",
https://arxiv.org/abs/1409.0473: the bidirectional encoder, the initial state and the additive score.
Luong et al. 2015, "Effective Approaches to Attention-based Neural Machine Translation",
https://arxiv.org/abs/1508.04025: the decoder, the multiplicative score and input feeding.

Shape letters: B rows, S source positions, T target positions, Q query positions, D model width,
H hidden width, G width of all gates (4H in an LSTM, 3H in a GRU), V vocabulary.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch.nn import functional as F
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lit_lm.errors import InputError, check_counts, check_reals
from lit_lm.models.base import MOST_LAYERS, Seq2SeqArchitecture, Seq2SeqNetwork, linear_flops
from lit_lm.nn.cells import LayerWeights, gru_cell, lstm_cell
from lit_lm.nn.content import has_content
from lit_lm.nn.dropout import Dropout
from lit_lm.specs import DataSpec

Cell = Literal["lstm", "gru"]
Score = Literal["additive", "multiplicative"]


@dataclass(frozen=True)
class RNNConfig(Seq2SeqArchitecture):
    """Sizes of an RNN encoder-decoder; the defaults are Bahdanau et al.'s sizes and Luong et al.'s decoder.

    Args:
        cell: "lstm" (Hochreiter and Schmidhuber 1997; Luong 2015) or "gru" (Cho et al. 2014; Bahdanau 2015).
        num_layers: recurrent layers of the encoder.
        num_decoder_layers: recurrent layers of the decoder; None for as many as the encoder's.
        d_model: width of embeddings and of attentional vectors.
        d_hidden: width of the decoder's states.
        d_encoder: width of the encoder's states, both directions side by side; None for ``d_hidden``.
        bidirectional: an encoder that reads in both directions (Bahdanau 2015, section 3.2), with half of its
            width in each; False for one that reads from the left only (Luong 2015).
        attention: how a decoder state s and an encoder state h are compared: "additive", v^T tanh(W s + U h)
            (Bahdanau 2015, section 3.1 and appendix A.1.2), or "multiplicative", s^T W h
            (Luong 2015, section 3.1, "general").
        input_feeding: the attentional vector is part of the decoder's next input (Luong 2015, section 3.3).
            Training then goes through the target one position at a time.
        dropout: dropout on embeddings, between recurrent layers and on attentional vectors before the
            output layer, never along time (Zaremba et al. 2014, https://arxiv.org/abs/1409.2329, section 3.2).
        tie_embeddings: source embeddings, target embeddings and output layer share weights.
            Otherwise each has its own.
        init_range: all weights but embeddings start uniform between minus and plus this
            (Luong 2015, section 4.1). Embeddings, which the output layer may share, start and are scaled
            as a Transformer's (Vaswani et al. 2017, https://arxiv.org/abs/1706.03762, section 3.4).
    """

    paper_vocab_size: ClassVar[int] = 30_000
    paper_length: ClassVar[int] = 30
    cell: Cell = "lstm"
    num_layers: int = 1
    num_decoder_layers: int | None = None
    d_model: int = 620
    d_hidden: int = 1000
    d_encoder: int | None = None
    bidirectional: bool = True
    attention: Score = "multiplicative"
    input_feeding: bool = True
    dropout: float = 0.2
    tie_embeddings: bool = True
    init_range: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self, "num_layers", most=MOST_LAYERS)
        check_counts(self, "num_decoder_layers", most=MOST_LAYERS, optional=True)
        check_counts(self, "d_model", "d_hidden")
        check_counts(self, "d_encoder", optional=True)
        check_reals(self, "dropout", most=1, below=True)
        check_reals(self, "init_range", most=100)

    def build(self, spec: DataSpec) -> RNN:
        return RNN(self, spec)


class Memory(NamedTuple):
    """What the decoder reads of a source, computed once for all its steps.

    Args:
        keys_BSH: float, encoder states as the score compares them.
        values_BSD: float, encoder states already through the attentional layer: a weighted sum of these
            is the layer's product with the context vector.
        bias_B1S: float, 0 at real tokens and -inf at padding.
    """

    keys_BSH: Tensor
    values_BSD: Tensor
    bias_B1S: Tensor


class RNNState(NamedTuple):
    """What decoding remembers; with K beams a row B * K stand where B is written, but in the memory, which they share.

    Args:
        hidden: float (B, H), one a decoder layer.
        cells: float (B, H), one a decoder layer; none with GRUs.
        attentional_BD: float, the last attentional vector.
        memory: the source's.
    """

    hidden: tuple[Tensor, ...]
    cells: tuple[Tensor, ...]
    attentional_BD: Tensor
    memory: Memory

    def map(self, change: Callable[[Tensor], Tensor]) -> RNNState:
        """The state with all but the memory changed."""
        hidden, cells = (tuple(map(change, part)) for part in (self.hidden, self.cells))
        return RNNState(hidden, cells, change(self.attentional_BD), self.memory)

    def descend(self, parents_BK: Tensor) -> RNNState:
        """The state of beams that go on from these (int64 (B, K)) of each row's."""
        before = len(self.attentional_BD) // len(parents_BK)
        first_B1 = torch.arange(len(parents_BK), device=parents_BK.device).unsqueeze(1) * before
        index_N = (first_B1 + parents_BK).flatten()
        return self.map(lambda x: x.index_select(0, index_N))


class RNN(Seq2SeqNetwork):
    """The network of :class:`RNNConfig`."""

    beyond_encoding = (
        *("head", "decoder", "tgt_embedding", "initial", "key", "query", "score", "context"),
        "output",
    )

    def __init__(self, config: RNNConfig, spec: DataSpec) -> None:
        super().__init__()
        c = config
        directions = 2 if c.bidirectional else 1
        self.dim = c.d_encoder or c.d_hidden
        if self.dim % directions:
            setting = "d_encoder" if c.d_encoder else "d_hidden"
            raise InputError(
                f"{setting}={self.dim} is odd: the encoder has half of it in each direction, choose an even width"
            )
        self.lstm, self.additive = c.cell == "lstm", c.attention == "additive"
        self.input_feeding, self.bos_id, self.max_length = c.input_feeding, spec.bos_id, None
        self.num_decoder_layers = c.num_decoder_layers or c.num_layers
        self.src_embedding = nn.Embedding(spec.vocab_size, c.d_model)
        self.tgt_embedding = (
            self.src_embedding if c.tie_embeddings else nn.Embedding(spec.vocab_size, c.d_model)
        )
        self.dropout = Dropout(c.dropout)

        def recurrent(d_input: int, d_hidden: int, layers: int, both: bool) -> nn.LSTM | nn.GRU:
            kind = nn.LSTM if self.lstm else nn.GRU
            between = c.dropout if layers > 1 else 0.0
            return kind(
                d_input, d_hidden, layers, batch_first=True, dropout=between, bidirectional=both
            )

        self.encoder = recurrent(c.d_model, self.dim // directions, c.num_layers, c.bidirectional)
        d_input = 2 * c.d_model if c.input_feeding else c.d_model
        self.decoder = recurrent(d_input, c.d_hidden, self.num_decoder_layers, False)
        parts = self.num_decoder_layers * (2 if self.lstm else 1)
        self.initial = nn.Linear(self.dim, parts * c.d_hidden)
        self.key = nn.Linear(self.dim, c.d_hidden, bias=False)
        if self.additive:
            self.query = nn.Linear(c.d_hidden, c.d_hidden, bias=False)
            self.score = nn.Linear(c.d_hidden, 1, bias=False)
        # The two halves of the attentional layer's W_c (Luong 2015, equation 5).
        self.context = nn.Linear(self.dim, c.d_model, bias=False)
        self.output = nn.Linear(c.d_hidden, c.d_model, bias=False)
        self.head = nn.Linear(c.d_model, spec.vocab_size, bias=False)
        if c.tie_embeddings:
            self.head.weight = self.tgt_embedding.weight
        for parameter in self.parameters():
            nn.init.uniform_(parameter, -c.init_range, c.init_range)
        for table in (self.src_embedding, self.tgt_embedding):
            nn.init.normal_(table.weight, std=c.d_model**-0.5)

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: the encoder's states for source texts, both directions side by side."""
        x = self._embed(ids_BL, self.src_embedding)
        if not has_content(x):  # lengths cannot be read there: count all rows as full
            packed_alike = x.transpose(0, 1).contiguous().transpose(0, 1)
            full: Tensor = self.encoder(packed_alike)[0].contiguous()
            return full
        lengths = mask_BL.sum(1).cpu()
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=ids_BL.size(1)
        )[0]

    def forward(self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor) -> Tensor:
        """See :class:`Seq2SeqNetwork`."""
        out: Tensor = self.dropout(self._teach(src_ids_BS, src_mask_BS, tgt_ids_BT)[0])
        return out

    def attention_weights(
        self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor
    ) -> Tensor:
        """How much each target position reads of each source position, under teacher forcing.

        Args:
            src_ids_BS: int64 source ids.
            src_mask_BS: bool, True at real source tokens.
            tgt_ids_BT: int64 decoder inputs.

        Returns:
            float (B, T, S): rows that sum to 1 over real tokens, 0 at padding.
        """
        return self._teach(src_ids_BS, src_mask_BS, tgt_ids_BT)[1]

    def alignment(self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor) -> Tensor:
        """See :class:`Seq2SeqNetwork`: of one layer and one head."""
        return self.attention_weights(src_ids_BS, src_mask_BS, tgt_ids_BT)[:, None, None]

    def start(
        self, src_ids_BS: Tensor, src_mask_BS: Tensor, capacity: int
    ) -> tuple[Tensor, RNNState]:
        """See :class:`Seq2SeqNetwork`."""
        state = self._read(src_ids_BS, src_mask_BS)
        return self.step(torch.full_like(src_ids_BS[:, 0], self.bos_id), state)

    def step(
        self, ids: Tensor, state: RNNState, parents_BK: Tensor | None = None
    ) -> tuple[Tensor, RNNState]:
        """See :class:`DecodingNetwork`."""
        if parents_BK is not None:
            state = state.descend(parents_BK)
        layers, feed_GD = self._decoder_weights()
        first = layers[0]
        x_BD = self._embed(ids.flatten(), self.tgt_embedding)
        inputs_BG = F.linear(x_BD, first.input_GD, first.input_bias_G)
        state = self._advance(inputs_BG, state, layers, feed_GD)[0]
        logits = self.head(self.dropout(state.attentional_BD))
        return logits.view(*ids.shape, -1), state

    def keep(self, state: RNNState, rows: Sequence[int]) -> RNNState:
        """See :class:`DecodingNetwork`."""
        index_N = torch.tensor(rows, device=state.attentional_BD.device)
        memory = Memory(*(part.index_select(0, index_N) for part in state.memory))
        B = len(state.memory.keys_BSH)

        def kept(x: Tensor) -> Tensor:
            return x.view(B, -1, x.size(-1)).index_select(0, index_N).flatten(0, 1)

        return state.map(kept)._replace(memory=memory)

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        return lengths[0] * _recurrent_flops(self.encoder)

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; source and target length."""
        S, T = lengths
        source = linear_flops(self.key) + linear_flops(self.context)
        target = _recurrent_flops(self.decoder)
        target += linear_flops(self.output) + linear_flops(self.head)
        if self.additive:
            target += linear_flops(self.query)
        attention = 2 * (self.key.out_features + self.context.out_features)
        rest = linear_flops(self.initial) + S * source + T * target + T * S * attention
        return self.encode_flops(S) + rest

    def _read(self, src_ids_BS: Tensor, src_mask_BS: Tensor) -> RNNState:
        """The state before the first target token (Bahdanau 2015, appendix A.2.2).

        It is made of the last state of each direction: the forward one's at the last token, the
        backward one's at the first.
        """
        encoded_BSH = self.encode(src_ids_BS, src_mask_BS)
        zeros_BS = torch.zeros_like(src_mask_BS, dtype=encoded_BSH.dtype)
        bias_B1S = zeros_BS.masked_fill(~src_mask_BS, float("-inf")).unsqueeze(1)
        memory = Memory(self.key(encoded_BSH), self.context(encoded_BSH), bias_B1S)
        width = self.encoder.hidden_size
        last = (src_mask_BS.sum(1) - 1).view(-1, 1, 1).expand(-1, 1, width)
        forward_BE = encoded_BSH[:, :, :width].gather(1, last).squeeze(1)
        backward_BE = encoded_BSH[:, 0, width:]  # empty without a second direction
        initial = torch.tanh(self.initial(torch.cat((forward_BE, backward_BE), dim=1)))
        parts = torch.split(initial, self.decoder.hidden_size, dim=1)
        layers = self.num_decoder_layers
        attentional_BD = torch.zeros_like(memory.values_BSD[:, 0])
        return RNNState(parts[:layers], parts[layers:], attentional_BD, memory)

    def _teach(
        self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor
    ) -> tuple[Tensor, Tensor]:
        """Attentional vectors (B, T, D) and attention weights (B, T, S) at all target positions."""
        state = self._read(src_ids_BS, src_mask_BS)
        x_BTD = self._embed(tgt_ids_BT, self.tgt_embedding)
        if not self.input_feeding:
            hidden_LBH = torch.stack(state.hidden)
            start = (hidden_LBH, torch.stack(state.cells)) if self.lstm else hidden_LBH
            return self._attend(self._run_decoder(x_BTD, start), state.memory)
        layers, feed_GD = self._decoder_weights()
        # All that does not depend on the step before is done at once, outside the loop.
        inputs_BTG = F.linear(x_BTD, layers[0].input_GD, layers[0].input_bias_G)
        vectors, weights = [], []
        for inputs_BG in inputs_BTG.unbind(1):
            state, weights_B1S = self._advance(inputs_BG, state, layers, feed_GD)
            vectors.append(state.attentional_BD)
            weights.append(weights_B1S)
        return torch.stack(vectors, dim=1), torch.cat(weights, dim=1)

    def _run_decoder(self, x_BTD: Tensor, start: Any) -> Tensor:
        """The decoder's states at all positions.

        Under autocast a CPU computes them in single precision: without AVX-512 oneDNN has no bfloat16 LSTM.
        """
        if x_BTD.device.type != "cpu" or not torch.is_autocast_enabled("cpu"):
            return self.decoder(x_BTD, start)[0]  # type: ignore[no-any-return]
        with torch.autocast("cpu", enabled=False):
            start = tuple(s.float() for s in start) if self.lstm else start.float()
            return self.decoder(x_BTD.float(), start)[0]  # type: ignore[no-any-return]

    def _advance(
        self,
        inputs_BG: Tensor,
        state: RNNState,
        layers: list[LayerWeights],
        feed_GD: Tensor | None,
    ) -> tuple[RNNState, Tensor]:
        """One decoder step, from the embedding's part of the first layer's gates.

        Returns:
            the new state, and the attention weights, float (B, 1, S).
        """
        if feed_GD is not None:
            inputs_BG = torch.addmm(inputs_BG, state.attentional_BD, feed_GD.t())
        hidden: list[Tensor] = []
        cells: list[Tensor] = []
        for i, layer in enumerate(layers):
            if i:
                inputs_BG = F.linear(self.dropout(hidden[-1]), layer.input_GD, layer.input_bias_G)
            if self.lstm:
                h, c = lstm_cell(inputs_BG, state.hidden[i], state.cells[i], layer)
                cells.append(c)
            else:
                h = gru_cell(inputs_BG, state.hidden[i], layer)
            hidden.append(h)
        # Beams of a row are queries of one memory.
        h_BQH = hidden[-1].view(len(state.memory.keys_BSH), -1, hidden[-1].size(1))
        attentional_BQD, weights_B1S = self._attend(h_BQH, state.memory)
        attentional_BD = attentional_BQD.flatten(0, 1)
        return RNNState(tuple(hidden), tuple(cells), attentional_BD, state.memory), weights_B1S

    def _attend(self, h_BQH: Tensor, memory: Memory) -> tuple[Tensor, Tensor]:
        """Attentional vectors tanh(W_c [context; h]) (B, Q, D) and attention weights (B, Q, S)."""
        if self.additive:
            sums_BQSH = self.query(h_BQH).unsqueeze(2) + memory.keys_BSH.unsqueeze(1)
            scores_BQS = self.score(torch.tanh(sums_BQSH)).squeeze(3) + memory.bias_B1S
        else:
            scores_BQS = torch.bmm(h_BQH, memory.keys_BSH.transpose(1, 2)) + memory.bias_B1S
        weights_BQS = scores_BQS.softmax(-1)
        context_BQD = torch.bmm(weights_BQS, memory.values_BSD)
        return torch.tanh(context_BQD + self.output(h_BQH)), weights_BQS

    def _embed(self, ids: Tensor, table: nn.Embedding) -> Tensor:
        out: Tensor = self.dropout(table(ids) * math.sqrt(table.embedding_dim))
        return out

    def _decoder_weights(self) -> tuple[list[LayerWeights], Tensor | None]:
        """The decoder's layers, and the first one's weights for the attentional vector, if it is fed."""
        layers = [LayerWeights(*weights) for weights in self.decoder.all_weights]
        if not self.input_feeding:
            return layers, None
        width = self.tgt_embedding.embedding_dim
        input_GD, feed_GD = torch.split(layers[0].input_GD, width, dim=1)
        layers[0] = layers[0]._replace(input_GD=input_GD)
        return layers, feed_GD


def _recurrent_flops(module: nn.LSTM | nn.GRU) -> int:
    """Forward FLOPs of a recurrent net's matrices for one position."""
    return sum(2 * p.numel() for p in module.parameters() if p.dim() == 2)
