"""lit_lm: which language-model architecture, on my data, for my budget?

The public names, loaded when they are first used: importing the package is quick.
"""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING, Any

__version__ = "0.1.0"

_HOME = {
    "lit_lm.callbacks": [
        *("AttentionPictures", "Budget", "ConfusionPictures", "Meter", "Samples", "Watchdog")
    ],
    "lit_lm.data": [
        *("AnswerData", "ClassificationData", "MaskedTextData", "PairData", "RegressionData"),
        *("TaggingData", "TextData", "Tokenizer", "TokenizerConfig"),
    ],
    "lit_lm.errors": ["InputError"],
    "lit_lm.flops": ["Cost", "cost"],
    "lit_lm.generation": ["Beam", "Sampling"],
    "lit_lm.models": [
        *("AveragedConfig", "BERTConfig", "BiLSTMConfig", "DecoderOnlyConfig", "ELMoConfig"),
        *("GPTConfig", "LSTMConfig", "RNNConfig", "TransformerConfig"),
    ],
    "lit_lm.nn.heads": ["HeadConfig"],
    "lit_lm.optim": ["OptimConfig"],
    "lit_lm.runs": ["RunConfig"],
    "lit_lm.specs": ["DataSpec"],
    "lit_lm.pretrained": ["WarmStart"],
    "lit_lm.tasks": [
        *("BidirectionalLM", "CausalLM", "Classification", "MaskedLM", "QuestionAnswering"),
        *("Regression", "Tagging", "Task", "Translation"),
    ],
    "lit_lm.training": ["load_task"],
}
_WHERE = {name: module for module, names in _HOME.items() for name in names}

__all__ = ["__version__", *sorted(_WHERE)]

if TYPE_CHECKING:
    from lit_lm.callbacks import (
        AttentionPictures,
        Budget,
        ConfusionPictures,
        Meter,
        Samples,
        Watchdog,
    )
    from lit_lm.data import (
        AnswerData,
        ClassificationData,
        MaskedTextData,
        PairData,
        RegressionData,
        TaggingData,
        TextData,
        Tokenizer,
        TokenizerConfig,
    )
    from lit_lm.errors import InputError
    from lit_lm.flops import Cost, cost
    from lit_lm.generation import Beam, Sampling
    from lit_lm.models import (
        AveragedConfig,
        BERTConfig,
        BiLSTMConfig,
        DecoderOnlyConfig,
        ELMoConfig,
        GPTConfig,
        LSTMConfig,
        RNNConfig,
        TransformerConfig,
    )
    from lit_lm.nn.heads import HeadConfig
    from lit_lm.optim import OptimConfig
    from lit_lm.pretrained import WarmStart
    from lit_lm.runs import RunConfig
    from lit_lm.specs import DataSpec
    from lit_lm.tasks import (
        BidirectionalLM,
        CausalLM,
        Classification,
        MaskedLM,
        QuestionAnswering,
        Regression,
        Tagging,
        Task,
        Translation,
    )
    from lit_lm.training import load_task


def __getattr__(name: str) -> Any:
    if name not in _WHERE:
        raise AttributeError(f"module 'lit_lm' has no attribute {name!r}")
    return getattr(importlib.import_module(_WHERE[name]), name)


def __dir__() -> list[str]:
    return __all__
