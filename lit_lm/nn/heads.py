"""What stands behind an encoder under a task with labels: layers are mixed, read again, pooled, and mapped to scores.

Shape letters: B rows, L positions, W words, D width, C outputs.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal

import torch
from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lit_lm.errors import InputError, check_counts, check_reals

Pooling = Literal["first", "last", "mean", "max"]


@dataclass(frozen=True)
class HeadConfig:
    """How a task reads an encoder's vectors.

    Args:
        pooling: of tasks on whole texts, the vector of the "first" token (BERT), of the "last" (GPT-1), or the "mean" or
            the "max" over tokens. None for what the encoder's pre-training suggests: the first for BERT, the last for
            GPT, else the mean; with an LSTM the maximum (Conneau et al. 2017, https://aclanthology.org/D17-1070).
        d_hidden: width of a layer with tanh before the output layer; 0 for none. A pre-trained pooler of that width is
            taken over (Devlin et al. 2019, section 4.1).
        d_lstm: width of a bidirectional LSTM over the encoder's vectors (of tags: over words), both directions together,
            as ELMo's tasks have it (Peters et al. 2018, section 4); 0 for none.
        lstm_layers: layers of it.
        crf: score whole sequences of tags (Lample et al. 2016, https://aclanthology.org/N16-1030).
        dropout: dropout before the LSTM and before the output layer.
        init_std: standard deviation of the output layer's fresh weights.
    """

    pooling: Pooling | None = None
    d_hidden: int = 0
    d_lstm: int = 0
    lstm_layers: int = 1
    crf: bool = False
    dropout: float = 0.1
    init_std: float = 0.02

    def __post_init__(self) -> None:
        check_counts(self, "d_hidden", "d_lstm", least=0)
        check_counts(self, "lstm_layers", most=100)
        check_reals(self, "dropout", most=1, below=True)
        check_reals(self, "init_std", most=100)
        if self.d_lstm % 2:
            raise InputError(
                f"HeadConfig: d_lstm={self.d_lstm} is odd: half of it is for each direction"
            )


class ScalarMix(nn.Module):
    """A weighted mean of layers, scaled (Peters et al. 2018, section 3.2, equation 1).

    Args:
        num_layers: layers to mix, the tokens' included.
    """

    def __init__(self, num_layers: int) -> None:
        super().__init__()
        self.weights = nn.Parameter(torch.zeros(num_layers))
        self.scale = nn.Parameter(torch.ones(()))

    def forward(self, layers: Sequence[Tensor]) -> Tensor:
        """float (..., D) of each layer to float (..., D)."""
        shares = self.weights.softmax(0)
        mixed = torch.stack([s * layer for s, layer in zip(shares, layers, strict=True)]).sum(0)
        return self.scale * mixed


class Head(nn.Module):
    """The network of :class:`HeadConfig`.

    Args:
        config: the sizes.
        dim: width of the encoder's vectors.
        num_layers: how many of them a token has; more than one are mixed.
        num_outputs: scores of a text or of a word.
        pooling: how the tokens of a text become one vector; None for a score of every token or word.
    """

    def __init__(
        self,
        config: HeadConfig,
        dim: int,
        num_layers: int,
        num_outputs: int,
        pooling: Pooling | None,
    ) -> None:
        super().__init__()
        c = config
        self.pooling = pooling
        self.mix = ScalarMix(num_layers) if num_layers > 1 else None
        self.dropout = nn.Dropout(c.dropout)
        self.lstm: nn.LSTM | None = None
        if c.d_lstm:
            self.lstm = nn.LSTM(
                dim, c.d_lstm // 2, c.lstm_layers, batch_first=True, bidirectional=True
            )
        width = c.d_lstm or dim
        self.dense = nn.Linear(width, c.d_hidden) if c.d_hidden else None
        self.output = nn.Linear(c.d_hidden or width, num_outputs)
        for linear in (self.dense, self.output):
            if linear is not None:
                nn.init.normal_(linear.weight, std=c.init_std)
                nn.init.zeros_(linear.bias)

    def forward(
        self, layers: Sequence[Tensor], mask_BL: Tensor, first_BW: Tensor | None = None
    ) -> Tensor:
        """Scores.

        Args:
            layers: float (B, L, D) vectors of tokens, one tensor for each depth.
            mask_BL: bool, True at real tokens.
            first_BW: int64, the position of each word's first token, -1 behind the last word: scores are of words, and
                so is what the LSTM reads. None for tokens.

        Returns:
            float (B, C) of pooled texts, else (B, L, C) or (B, W, C), meaningless at padding.
        """
        h = layers[0] if self.mix is None else self.mix(layers)
        mask = mask_BL
        if first_BW is not None:
            h, mask = words(h, first_BW), first_BW >= 0
        if self.lstm is not None:
            h = _run(self.lstm, self.dropout(h), mask)
        if self.pooling is not None:
            h = pooled(h, mask, self.pooling)
        if self.dense is not None:
            h = torch.tanh(self.dense(self.dropout(h)))
        out: Tensor = self.output(self.dropout(h))
        return out

    def flops(self, positions: float) -> float:
        """Forward FLOPs of one row of so many tokens or words."""
        lstm = self.lstm.parameters() if self.lstm is not None else ()
        outputs = [m for m in (self.dense, self.output) if m is not None]
        mapped = sum(2 * m.weight.numel() for m in outputs)
        return sum(2 * p.numel() for p in lstm if p.dim() == 2) * positions + mapped * (
            positions if self.pooling is None else 1
        )


def words(h_BLD: Tensor, first_BW: Tensor) -> Tensor:
    """Vectors of words: those of their first tokens, float (B, W, D)."""
    index = first_BW.clamp(min=0).unsqueeze(-1).expand(-1, -1, h_BLD.size(-1))
    return h_BLD.gather(1, index)


def pooled(h_BLD: Tensor, mask_BL: Tensor, how: Pooling) -> Tensor:
    """One vector for each row, of its real tokens, float (B, D); zeros of a row without any."""
    if how == "first":
        return h_BLD[:, 0]
    if how == "last":
        last_B = (mask_BL.sum(1) - 1).clamp(min=0)
        return h_BLD[torch.arange(len(h_BLD), device=h_BLD.device), last_B]
    outside = ~mask_BL.unsqueeze(-1)
    if how == "mean":
        return h_BLD.masked_fill(outside, 0).sum(1) / mask_BL.sum(1, keepdim=True).clamp(min=1)
    most = h_BLD.masked_fill(outside, float("-inf")).amax(1)
    return most.masked_fill(~mask_BL.any(1, keepdim=True), 0)


def _run(lstm: nn.LSTM, x_BLD: Tensor, mask_BL: Tensor) -> Tensor:
    """An LSTM over ragged rows, each at least one position long; 0 at padding."""
    lengths = mask_BL.sum(1).clamp(min=1).cpu()
    with torch.autocast(x_BLD.device.type, enabled=False):  # not every CPU has it in half precision
        weight: Any = lstm.weight_hh_l0
        x = x_BLD.to(weight.dtype)
        packed = pack_padded_sequence(x, lengths, batch_first=True, enforce_sorted=False)
        out = lstm(packed)[0]
        return pad_packed_sequence(out, batch_first=True, total_length=x_BLD.size(1))[0]
