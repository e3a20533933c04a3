"""The command line as a user types it."""

import sys

QUICK = ["--trainer.accelerator=cpu", "--trainer.enable_progress_bar=false", "--run.wandb=disabled"]
COMMAND = [sys.executable, "-m", "lit_lm"]
EXPERIMENTS = ["gpt", "mt", "rnn", "bert", "elmo"]
