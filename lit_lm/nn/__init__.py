"""Arithmetic that two or more architectures use. Knows torch only: no data, no Lightning, no configuration."""

from lit_lm.nn.attention import MultiHeadAttention
from lit_lm.nn.blocks import Block, FeedForward, Stack
from lit_lm.nn.positions import PositionKind, Positions

__all__ = [
    "Block",
    "FeedForward",
    "MultiHeadAttention",
    "PositionKind",
    "Positions",
    "Stack",
]
