"""Callbacks that all tasks share. None of them knows an architecture."""

from lit_lm.callbacks.average import EMA, AverageCheckpoints
from lit_lm.callbacks.bar import Bar
from lit_lm.callbacks.confusion import ConfusionPictures
from lit_lm.callbacks.keep_last import KeepLast
from lit_lm.callbacks.meter import Budget, Meter
from lit_lm.callbacks.pictures import AttentionPictures
from lit_lm.callbacks.resume import Resume
from lit_lm.callbacks.samples import Samples
from lit_lm.callbacks.watchdog import Watchdog

__all__ = [
    "EMA",
    "AttentionPictures",
    "AverageCheckpoints",
    "Bar",
    "Budget",
    "ConfusionPictures",
    "KeepLast",
    "Meter",
    "Resume",
    "Samples",
    "Watchdog",
]
