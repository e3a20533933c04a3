"""Memory of one device under each way to spread training over several."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import NamedTuple

from lit_lm.footprint import Footprint, Precision
from lit_lm.planning.job import Sizes


class Strategy(NamedTuple):
    """A way to spread training over devices.

    Args:
        name: for people to read.
        flags: how ``lit-lm fit`` is told.
        sharded: every device holds its share of weights, gradients and optimizer state; otherwise all of them.
        checkpointing: layers keep their inputs only, and are computed again in the backward pass.
    """

    name: str
    flags: str
    sharded: bool
    checkpointing: bool


_AGAIN = " + checkpointing"


def strategies(devices: int) -> list[Strategy]:
    """Those that there are for so many devices."""
    plain = [("one device", "", False)]
    if devices > 1:
        plain = [("ddp", "ddp", False), ("fsdp", "fsdp", True)]
    return [
        Strategy(name + (_AGAIN if again else ""), flags, sharded, again)
        for name, flags, sharded in plain
        for again in (False, True)
    ]


@dataclass(frozen=True)
class DeviceMemory:
    """Bytes on one device at the peak of a step.

    Args:
        weights: parameters, or the device's share.
        gradients: likewise.
        optimizer: its state, or the device's share.
        activations: what the network keeps for the backward pass, the batch and autocast's copies of weights included.
        logits: what output layer and loss hold: gradients taken ahead, and the logits that exist at a time.
        buffers: what the strategy holds: DDP's buckets of gradients; the layers that FSDP has gathered.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int
    logits: int
    buffers: int

    @property
    def total(self) -> int:
        """All of it."""
        held = self.weights + self.gradients + self.optimizer
        return held + self.activations + self.logits + self.buffers


def per_device(
    step: Footprint, sizes: Sizes, strategy: Strategy, devices: int, precision: Precision
) -> DeviceMemory:
    """What one of some devices holds.

    Args:
        step: what a step keeps on one device that holds everything.
        sizes: parameters of the network and its layers.
        strategy: how training is spread.
        devices: over how many.
        precision: the trainer's.
    """
    activations = step.checkpointed if strategy.checkpointing else step.activations
    logits = step.logits + step.stretch
    if not strategy.sharded:
        buckets = step.gradients if devices > 1 else 0
        copied = activations + step.copies
        return DeviceMemory(step.weights, step.gradients, step.optimizer, copied, logits, buckets)
    weights, gradients, optimizer = (
        math.ceil(n / devices) for n in (step.weights, step.gradients, step.optimizer)
    )
    return DeviceMemory(
        weights, gradients, optimizer, activations, logits, _gathered(sizes, precision)
    )


def _gathered(sizes: Sizes, precision: Precision) -> int:
    """What FSDP gathers: what stands around the layers all the time, the layer that is computed and the next one, in the
    precision of products; and before they are spread, gradients of a layer and of what stands around.
    """
    each = 4 if precision == "32-true" else 2
    return each * (2 * sizes.around + 3 * sizes.layer)
