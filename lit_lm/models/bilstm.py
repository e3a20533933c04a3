"""A bidirectional LSTM over word embeddings (Graves and Schmidhuber 2005, https://doi.org/10.1016/j.neunet.2005.06.042):
the encoder of the years before pre-training, to be trained from nothing.

Shape letters: B rows, L positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn
from torch.nn.utils.rnn import pack_padded_sequence, pad_packed_sequence

from lit_lm.errors import InputError, check_counts, check_reals
from lit_lm.models.base import MOST_LAYERS, EncoderArchitecture, EncoderNetwork
from lit_lm.nn.content import has_content
from lit_lm.nn.dropout import Dropout
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class BiLSTMConfig(EncoderArchitecture):
    """Sizes of a bidirectional LSTM.

    Args:
        num_layers: recurrent layers.
        d_model: width of embeddings.
        d_hidden: width of its states, both directions side by side.
        dropout: dropout on embeddings and between layers.
        init_std: standard deviation of fresh embeddings.
    """

    num_layers: int = 1
    d_model: int = 128
    d_hidden: int = 256
    dropout: float = 0.1
    init_std: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self, "num_layers", most=MOST_LAYERS)
        check_counts(self, "d_model", "d_hidden")
        check_reals(self, "dropout", most=1, below=True)
        check_reals(self, "init_std", most=100)
        if self.d_hidden % 2:
            raise InputError(
                f"BiLSTMConfig: d_hidden={self.d_hidden} is odd: half of it is for each direction"
            )

    def build(self, spec: DataSpec) -> BiLSTM:
        return BiLSTM(self, spec)


class BiLSTM(EncoderNetwork):
    """The network of :class:`BiLSTMConfig`."""

    def __init__(self, config: BiLSTMConfig, spec: DataSpec) -> None:
        super().__init__()
        c = config
        self.dim, self.max_length = c.d_hidden, None
        self.embedding = nn.Embedding(spec.vocab_size, c.d_model)
        nn.init.normal_(self.embedding.weight, std=c.init_std)
        self.dropout = Dropout(c.dropout)
        self.encoder = nn.LSTM(
            c.d_model,
            c.d_hidden // 2,
            c.num_layers,
            batch_first=True,
            bidirectional=True,
            dropout=c.dropout if c.num_layers > 1 else 0.0,
        )

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`."""
        x_BLD = self.dropout(self.embedding(ids_BL))
        if not has_content(x_BLD):  # lengths cannot be read there: count all rows as full
            packed_alike = x_BLD.transpose(0, 1).contiguous().transpose(0, 1)
            full: Tensor = self.encoder(packed_alike)[0].contiguous()
            return full
        lengths = mask_BL.sum(1).cpu()
        packed = pack_padded_sequence(x_BLD, lengths, batch_first=True, enforce_sorted=False)
        return pad_packed_sequence(
            self.encoder(packed)[0], batch_first=True, total_length=ids_BL.size(1)
        )[0]

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        return lengths[0] * sum(2 * p.numel() for p in self.encoder.parameters() if p.dim() == 2)
