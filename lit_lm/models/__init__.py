"""One file per architecture: the paper, the sizes (a dataclass) and the network. Pure torch; no Lightning, no data."""

from lit_lm.models.base import (
    Architecture,
    BidirectionalArchitecture,
    BidirectionalNetwork,
    CausalArchitecture,
    CausalNetwork,
    MaskedArchitecture,
    MaskedNetwork,
    Network,
    Seq2SeqArchitecture,
    Seq2SeqNetwork,
)
from lit_lm.models.bert import BERT, BERTConfig
from lit_lm.models.elmo import ELMo, ELMoConfig, ScalarMix
from lit_lm.models.gpt import GPT, GPTConfig
from lit_lm.models.rnn import RNN, RNNConfig
from lit_lm.models.transformer import Transformer, TransformerConfig

__all__ = [
    "BERT",
    "GPT",
    "RNN",
    "Architecture",
    "BERTConfig",
    "BidirectionalArchitecture",
    "BidirectionalNetwork",
    "CausalArchitecture",
    "CausalNetwork",
    "ELMo",
    "ELMoConfig",
    "GPTConfig",
    "MaskedArchitecture",
    "MaskedNetwork",
    "Network",
    "RNNConfig",
    "ScalarMix",
    "Seq2SeqArchitecture",
    "Seq2SeqNetwork",
    "Transformer",
    "TransformerConfig",
]
