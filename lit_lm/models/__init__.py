"""One file per architecture: the paper, the sizes (a dataclass) and the network. Pure torch; no Lightning, no data."""

from lit_lm.models.averaged import Averaged, AveragedConfig
from lit_lm.models.base import (
    Architecture,
    BidirectionalArchitecture,
    BidirectionalNetwork,
    CausalArchitecture,
    CausalNetwork,
    EncoderArchitecture,
    EncoderNetwork,
    MaskedArchitecture,
    MaskedNetwork,
    Network,
    Seq2SeqArchitecture,
    Seq2SeqNetwork,
)
from lit_lm.models.bert import BERT, BERTConfig
from lit_lm.models.bilstm import BiLSTM, BiLSTMConfig
from lit_lm.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from lit_lm.models.elmo import ELMo, ELMoConfig
from lit_lm.models.gpt import GPT, GPTConfig
from lit_lm.models.lstm import LSTM, LSTMConfig
from lit_lm.models.rnn import RNN, RNNConfig
from lit_lm.models.transformer import Transformer, TransformerConfig

__all__ = [
    "BERT",
    "GPT",
    "LSTM",
    "RNN",
    "Architecture",
    "Averaged",
    "AveragedConfig",
    "BERTConfig",
    "BiLSTM",
    "BiLSTMConfig",
    "BidirectionalArchitecture",
    "BidirectionalNetwork",
    "CausalArchitecture",
    "CausalNetwork",
    "DecoderOnly",
    "DecoderOnlyConfig",
    "ELMo",
    "ELMoConfig",
    "EncoderArchitecture",
    "EncoderNetwork",
    "GPTConfig",
    "LSTMConfig",
    "MaskedArchitecture",
    "MaskedNetwork",
    "Network",
    "RNNConfig",
    "Seq2SeqArchitecture",
    "Seq2SeqNetwork",
    "Transformer",
    "TransformerConfig",
]
