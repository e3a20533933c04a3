"""One file per architecture: the paper, the sizes (a dataclass) and the network. Pure torch; no Lightning, no data."""

from lit_lm.models.base import (
    Architecture,
    CausalArchitecture,
    CausalNetwork,
    Network,
    Seq2SeqArchitecture,
    Seq2SeqNetwork,
)
from lit_lm.models.gpt import GPT, GPTConfig
from lit_lm.models.transformer import Transformer, TransformerConfig

__all__ = [
    "GPT",
    "Architecture",
    "CausalArchitecture",
    "CausalNetwork",
    "GPTConfig",
    "Network",
    "Seq2SeqArchitecture",
    "Seq2SeqNetwork",
    "Transformer",
    "TransformerConfig",
]
