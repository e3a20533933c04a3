"""A training run to be planned, and the bare model's."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from torch import nn

from lit_lm.describe import check_precision, outline
from lit_lm.footprint import Footprint, Precision
from lit_lm.full_rows import Lengths, footprint
from lit_lm.models.base import Network
from lit_lm.optim import OptimConfig

Measure = Callable[..., Footprint]


class Sizes(NamedTuple):
    """Numbers that a network is made of.

    Args:
        total: all parameters, shared ones once, task's head included.
        embeddings: those in tables that are looked up.
        layer: those of the largest layer.
        around: those that stand in no layer.
    """

    total: int
    embeddings: int
    layer: int
    around: int


@dataclass(frozen=True)
class Job:
    """A training run to be planned.

    Args:
        name: of the configuration.
        architecture: the network's class.
        vocab_size: token ids.
        lengths: most tokens of a row; source and target for pairs.
        sizes: parameters.
        tokens: predicted tokens of a full row.
        flops: training FLOPs of a predicted token.
        rows: rows of a device's batch, as many as there are at most.
        accumulate: batches of an optimizer step.
        precision: the trainer's.
        optimizer: by name.
        sharded: weights are sharded over devices, not repeated.
        checkpointing: layers are computed again in the backward pass.
        devices: how many.
        budget: unit and amount of training that the settings ask for; None where they end it by epochs.
        measure: what a step keeps: of rows, precision, and whether it is on a GPU; and lengths, if they are others.
    """

    name: str
    architecture: str
    vocab_size: int
    lengths: tuple[int, ...]
    sizes: Sizes
    tokens: float
    flops: float
    measure: Measure
    rows: int = 1
    accumulate: int = 1
    precision: Precision = "32-true"
    optimizer: str = "adamw"
    sharded: bool = False
    checkpointing: bool = False
    devices: int = 1
    budget: tuple[str, float] | None = None

    def total_tokens(self) -> float | None:
        """Predicted tokens of the whole run; None where the settings do not tell without the data."""
        if self.budget is None:
            return None
        unit, amount = self.budget
        step = self.rows * self.tokens * self.accumulate * self.devices
        return {"tokens": amount, "steps": amount * step, "flops": amount / self.flops}.get(unit)


def sizes_of(module: nn.Module, network: Network) -> Sizes:
    """Parameters of a module that is or holds a network, and of the network's layers."""
    parameters = {id(p): p.numel() for p in module.parameters()}
    of_layers = [{id(p) for p in layer.parameters()} for layer in network.stacked()]
    inside = set().union(*of_layers)
    tables = {id(m.weight) for m in module.modules() if isinstance(m, nn.Embedding)}
    return Sizes(
        total=sum(parameters.values()),
        embeddings=sum(parameters[key] for key in tables),
        layer=max((sum(parameters[key] for key in its) for its in of_layers), default=0),
        around=sum(n for key, n in parameters.items() if key not in inside),
    )


def model_job(
    config: str,
    *,
    vocab_size: int | None = None,
    length: int | None = None,
    target_length: int | None = None,
    batch_size: int = 1,
    precision: Precision = "32-true",
    optimizer: str = "adamw",
) -> Job:
    """Pre-training of a bare model; arguments and errors as of :func:`lit_lm.describe.describe`."""
    check_precision(precision)
    found = outline(config, vocab_size, length, target_length)
    optim = OptimConfig(optimizer=optimizer)  # type: ignore[arg-type]

    @functools.cache
    def measure(
        rows: int, precision: Precision, gpu: bool, lengths: Lengths = found.lengths
    ) -> Footprint:
        return footprint(found.net, found.spec, lengths, rows, precision, optim, gpu=gpu)

    return Job(
        name=found.name,
        architecture=type(found.network).__name__,
        vocab_size=found.spec.vocab_size,
        lengths=found.lengths,
        sizes=sizes_of(found.network, found.network),
        tokens=found.lengths[-1],
        flops=found.cost.training_flops_per_token,
        measure=measure,
        rows=batch_size,
        precision=precision,
        optimizer=optimizer,
    )
