"""Curves: what encoders make of few labels and of many, from scratch and from pre-trained weights."""

from lit_lm.curve.config import Curve, Encoder, LabelledTask, load
from lit_lm.curve.run import RunsFailed, curve, run_curve

__all__ = ["Curve", "Encoder", "LabelledTask", "RunsFailed", "curve", "load", "run_curve"]
