"""Comparisons: many experiments at one budget, one command, one page that answers the question."""

from lit_lm.compare.comparison import MembersFailed, compare, run_comparison
from lit_lm.compare.config import Budget, Comparison, Member, load

__all__ = ["Budget", "Comparison", "Member", "MembersFailed", "compare", "load", "run_comparison"]
