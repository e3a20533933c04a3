"""What training takes before it is started: memory of a device, FLOPs, hours; and what would make it fit."""

from lit_lm.planning.plan import Plan, plan
from lit_lm.planning.report import table

__all__ = ["Plan", "plan", "table"]
