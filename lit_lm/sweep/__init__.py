"""Sweeps: one experiment with many settings, by grid or at random, here or by W&B's agents."""

from lit_lm.sweep.config import Parameter, Sweep, load
from lit_lm.sweep.run import run_sweep, sweep
from lit_lm.sweep.wandb_form import print_wandb_form, wandb_form

__all__ = ["Parameter", "Sweep", "load", "print_wandb_form", "run_sweep", "sweep", "wandb_form"]
