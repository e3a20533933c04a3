"""What a network costs: parameters and FLOPs per token, one small API for loggers, comparisons and tables."""

from __future__ import annotations

from dataclasses import dataclass

from torch import nn

from lit_lm.models.base import Network

# Backward takes the gradient of each product with respect to both of its factors: twice the forward.
TRAINING_FACTOR = 3


@dataclass(frozen=True)
class Cost:
    """What a network costs.

    Args:
        parameters: trainable numbers, shared ones counted once.
        embedding_parameters: those of them in tables that are looked up (tokens, positions).
        forward_flops_per_token: forward FLOPs per predicted token at the lengths asked for.
        training_flops_per_token: the same for forward and backward.
    """

    parameters: int
    embedding_parameters: int
    forward_flops_per_token: float
    training_flops_per_token: float


def cost(network: Network, *lengths: float) -> Cost:
    """Parameters, and FLOPs per predicted token of a row of these lengths.

    Args:
        network: any architecture's network, on any device (also meta).
        lengths: the row's tokens: one number for text, source and target for pairs.
    """
    forward = network.row_flops(*lengths) / lengths[-1]
    tables = {id(m.weight): m.weight for m in network.modules() if isinstance(m, nn.Embedding)}
    return Cost(
        parameters=sum(p.numel() for p in network.parameters() if p.requires_grad),
        embedding_parameters=sum(w.numel() for w in tables.values()),
        forward_flops_per_token=forward,
        training_flops_per_token=TRAINING_FACTOR * forward,
    )
