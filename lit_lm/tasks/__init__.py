"""One file per objective: LightningModules that own step, loss and metrics; never layers."""

from lit_lm.tasks.base import Task
from lit_lm.tasks.causal_lm import CausalLM
from lit_lm.tasks.translation import Translation

__all__ = ["CausalLM", "Task", "Translation"]
