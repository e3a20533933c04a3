"""Data: sources of raw text, tokenizers, prepared files, batches and the data modules over them."""

from lit_lm.data.account import InputReport
from lit_lm.data.batches import (
    IGNORE,
    BatchSize,
    Characters,
    LabelledBatch,
    MaskedBatch,
    PairBatch,
    TextBatch,
)
from lit_lm.data.generated import BuiltinPairs, BuiltinText
from lit_lm.data.hub import HubPairs, HubText
from lit_lm.data.labelled.asking import AnswerData
from lit_lm.data.labelled.base import LabelledData
from lit_lm.data.labelled.sources import (
    BuiltinLabels,
    BuiltinTags,
    ConllTags,
    Example,
    JsonLinesLabels,
    LabelledSource,
    TsvLabels,
)
from lit_lm.data.labelled.squad import SquadFiles
from lit_lm.data.labelled.tagging import TaggingData
from lit_lm.data.labelled.texts import ClassificationData, RegressionData
from lit_lm.data.masked_data import MaskedTextData
from lit_lm.data.masked_rows import Masking
from lit_lm.data.modules import Data, prepare_data
from lit_lm.data.multilingual import Multilingual
from lit_lm.data.pair_data import PairData
from lit_lm.data.prepare import Prepared, PrepareReport, cache_folder
from lit_lm.data.samplers import BatchSampler, Loader, plan_batches
from lit_lm.data.shards.source import Shards
from lit_lm.data.shards.writing import write_shards
from lit_lm.data.sources import Cloze, Holdout, PairSource, Source, TextSource
from lit_lm.data.store import TokenStore
from lit_lm.data.tables import JsonLinesPairs, JsonLinesText, TsvPairs, TsvText
from lit_lm.data.text_data import TextData
from lit_lm.data.text_files import ParallelFiles, TextFiles
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.data.tokenizers import Tokenizer

__all__ = [
    "IGNORE",
    "AnswerData",
    "BatchSampler",
    "BatchSize",
    "BuiltinLabels",
    "BuiltinPairs",
    "BuiltinTags",
    "BuiltinText",
    "Characters",
    "ClassificationData",
    "Cloze",
    "ConllTags",
    "Data",
    "Example",
    "Holdout",
    "HubPairs",
    "HubText",
    "InputReport",
    "JsonLinesLabels",
    "JsonLinesPairs",
    "JsonLinesText",
    "LabelledBatch",
    "LabelledData",
    "LabelledSource",
    "Loader",
    "MaskedBatch",
    "MaskedTextData",
    "Masking",
    "Multilingual",
    "PairBatch",
    "PairData",
    "PairSource",
    "ParallelFiles",
    "PrepareReport",
    "Prepared",
    "RegressionData",
    "Shards",
    "Source",
    "SquadFiles",
    "TaggingData",
    "TextBatch",
    "TextData",
    "TextFiles",
    "TextSource",
    "TokenStore",
    "Tokenizer",
    "TokenizerConfig",
    "TsvLabels",
    "TsvPairs",
    "TsvText",
    "cache_folder",
    "plan_batches",
    "prepare_data",
    "write_shards",
]
