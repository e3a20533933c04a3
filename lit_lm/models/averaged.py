"""Embeddings of words without any context (Iyyer et al. 2015, https://aclanthology.org/P15-1162, whose networks read the
mean of them): what every encoder has to beat.

Shape letters: B rows, L positions, D width.
"""

from __future__ import annotations

from dataclasses import dataclass

from torch import Tensor, nn

from lit_lm.errors import check_counts, check_reals
from lit_lm.models.base import EncoderArchitecture, EncoderNetwork
from lit_lm.nn.dropout import Dropout
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class AveragedConfig(EncoderArchitecture):
    """Sizes of a table of embeddings. The mean over a text is the head's: ``pooling: mean``.

    Args:
        d_model: width.
        dropout: dropout on embeddings.
        init_std: standard deviation of fresh embeddings.
    """

    d_model: int = 128
    dropout: float = 0.1
    init_std: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self, "d_model")
        check_reals(self, "dropout", most=1, below=True)
        check_reals(self, "init_std", most=100)

    def build(self, spec: DataSpec) -> Averaged:
        return Averaged(self, spec)


class Averaged(EncoderNetwork):
    """The network of :class:`AveragedConfig`."""

    def __init__(self, config: AveragedConfig, spec: DataSpec) -> None:
        super().__init__()
        self.dim, self.max_length = config.d_model, None
        self.embedding = nn.Embedding(spec.vocab_size, config.d_model)
        nn.init.normal_(self.embedding.weight, std=config.init_std)
        self.dropout = Dropout(config.dropout)

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: a token's vector knows the token only."""
        out: Tensor = self.dropout(self.embedding(ids_BL))
        return out

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`: nothing is multiplied."""
        return 0.0
