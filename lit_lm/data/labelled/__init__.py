"""Labelled examples: where they come from, how they become rows, and the data modules over them."""
