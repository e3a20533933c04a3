"""One file per objective: LightningModules that own step, loss and metrics; never layers."""

from lit_lm.tasks.adaptation import Adaptation
from lit_lm.tasks.base import Task
from lit_lm.tasks.bidirectional_lm import BidirectionalLM
from lit_lm.tasks.causal_lm import CausalLM
from lit_lm.tasks.classification import Classification, Regression
from lit_lm.tasks.masked_lm import MaskedLM
from lit_lm.tasks.question_answering import QuestionAnswering
from lit_lm.tasks.tagging import Tagging
from lit_lm.tasks.translation import Translation

__all__ = [
    "Adaptation",
    "BidirectionalLM",
    "CausalLM",
    "Classification",
    "MaskedLM",
    "QuestionAnswering",
    "Regression",
    "Tagging",
    "Task",
    "Translation",
]
