"""A plan: memory of a device by strategy, FLOPs, speed at a stated utilisation, hours, and what would make it fit."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass

from lit_lm.describe import check_rows
from lit_lm.errors import InputError
from lit_lm.peaks import Device, device
from lit_lm.planning.advice import Change, changes
from lit_lm.planning.job import Job
from lit_lm.planning.strategies import DeviceMemory, Strategy, per_device, strategies

MFU = 0.4
"""Share of the peak that training is taken to reach: of Llama 3 405B's 38 to 43 % on 8,192 to 16,384 H100s (Grattafiori et al.
2024, table 4, https://arxiv.org/abs/2407.21783). Small networks and short rows reach less.
"""
RECOMPUTED = 4 / 3
"""With activation checkpointing the forward pass, a third of the work, is done twice."""


@dataclass(frozen=True)
class Row:
    """One strategy.

    Args:
        strategy: which.
        memory: of one device.
        fits: whether the device has as much; None where its memory is not known.
        tokens_per_second: of all devices together; None where the device's peak is not known.
        hours: of the whole run; None likewise, or where there is no token budget.
        device_hours: the same for all devices together.
    """

    strategy: Strategy
    memory: DeviceMemory
    fits: bool | None
    tokens_per_second: float | None
    hours: float | None
    device_hours: float | None


@dataclass(frozen=True)
class Plan:
    """What :func:`plan` finds.

    Args:
        job: the run that is planned.
        device: on which kind of device.
        mfu: share of its peak that is taken to be reached.
        total_tokens: predicted tokens of the whole run; None where nothing says.
        total_flops: the model's FLOPs for them.
        rows: one for each strategy.
        chosen: the one that the settings choose.
        changes: what would make the chosen strategy fit; nothing if it does.
        content: a step was run with content, so that weights were allocated.
    """

    job: Job
    device: Device
    mfu: float
    total_tokens: float | None
    total_flops: float | None
    rows: tuple[Row, ...]
    chosen: Row
    changes: tuple[Change, ...]
    content: bool


def plan(
    job: Job,
    *,
    device_name: str = "h100",
    devices: int | None = None,
    memory: float | None = None,
    mfu: float = MFU,
    tokens: float | None = None,
) -> Plan:
    """Plans a training run.

    Args:
        job: the run.
        device_name: as :func:`lit_lm.peaks.device` takes it.
        devices: how many; None for as many as the settings say.
        memory: gigabytes of a device; None for what is known of it.
        mfu: share of the device's peak that is reached.
        tokens: predicted tokens to train on; None for what the settings say.

    Raises:
        InputError: an unknown device, or a number out of bounds.
    """
    job = dataclasses.replace(job, devices=job.devices if devices is None else devices)
    if job.devices < 1:
        raise InputError(f"devices={job.devices}: training takes at least 1")
    for name, value in (("memory", memory), ("tokens", tokens)):
        if value is not None and not 0 < value < float("inf"):
            raise InputError(f"{name}={value:g} must be above 0 and finite")
    if not 0 < mfu <= 1:
        raise InputError(f"mfu={mfu:g}: a share of the peak is above 0 and at most 1")
    check_rows(job.rows)
    found = device(device_name, job.precision)
    if memory is not None:
        found = found._replace(memory=round(memory * 1e9))
    gpu = not device_name.startswith("cpu")
    total = tokens if tokens is not None else job.total_tokens()
    step = job.measure(job.rows, job.precision, gpu)
    rows = []
    for strategy in strategies(job.devices):
        held = per_device(step, job.sizes, strategy, job.devices, job.precision)
        rows.append(_row(job, strategy, held, found, mfu, total))
    sharded = job.sharded and job.devices > 1
    wanted = (sharded, job.checkpointing)
    chosen = next(r for r in rows if (r.strategy.sharded, r.strategy.checkpointing) == wanted)
    mends: list[Change] = []
    if found.memory is not None and not chosen.fits:
        mends = changes(job, chosen.strategy, found.memory, gpu)
    return Plan(
        job=job,
        device=found,
        mfu=mfu,
        total_tokens=total,
        total_flops=None if total is None else total * job.flops,
        rows=tuple(rows),
        chosen=chosen,
        changes=tuple(mends),
        content=step.content,
    )


def _row(
    job: Job,
    strategy: Strategy,
    held: DeviceMemory,
    found: Device,
    mfu: float,
    total: float | None,
) -> Row:
    speed = hours = None
    if found.flops is not None:
        speed = job.devices * found.flops * mfu / job.flops
        speed /= RECOMPUTED if strategy.checkpointing else 1
        hours = None if total is None else total / speed / 3600
    fits = None if found.memory is None else held.total <= found.memory
    return Row(strategy, held, fits, speed, hours, None if hours is None else hours * job.devices)
