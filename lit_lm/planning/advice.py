"""What would make training fit: as few changes as will do on the devices that there are, and more devices."""

from __future__ import annotations

import itertools
import math
from dataclasses import dataclass

from lit_lm.footprint import Precision
from lit_lm.planning.job import Job
from lit_lm.planning.strategies import Strategy, per_device, strategies

_MOST = 1 << 16
"""No run is planned for more devices."""


@dataclass(frozen=True)
class Change:
    """Something that makes it fit.

    Args:
        text: what to change, with the settings.
        devices: how many it then takes.
        strategy: which.
        rows: rows of a device's batch.
        accumulate: batches of an optimizer step.
        precision: the trainer's.
        total: bytes of a device.
    """

    text: str
    devices: int
    strategy: str
    rows: int
    accumulate: int
    precision: Precision
    total: int


class _Search:
    """Tries settings.

    Args:
        job: the run.
        limit: bytes of a device.
        gpu: whether it is a GPU.
    """

    def __init__(self, job: Job, limit: int, gpu: bool) -> None:
        self.job, self.limit, self.gpu = job, limit, gpu

    def total(self, strategy: Strategy, devices: int, rows: int, precision: Precision) -> int:
        """Bytes of a device."""
        step = self.job.measure(rows, precision, self.gpu)
        return per_device(step, self.job.sizes, strategy, devices, precision).total

    def fits(self, strategy: Strategy, devices: int, rows: int, precision: Precision) -> bool:
        """Whether a device has as much."""
        return self.total(strategy, devices, rows, precision) <= self.limit

    def most_rows(self, strategy: Strategy, devices: int, precision: Precision) -> int | None:
        """The most rows with which it fits, of halves of the job's; None for none."""
        if self.job.rows == 1 or not self.fits(strategy, devices, 1, precision):
            return None
        # What rows keep grows by about the same with each: where to look.
        rows = self.job.rows
        one, all_ = (self.total(strategy, devices, n, precision) for n in (1, rows))
        room = 1 + (self.limit - one) * (rows - 1) / max(all_ - one, 1)
        rows //= 2
        while rows > 1 and (rows > room or not self.fits(strategy, devices, rows, precision)):
            rows //= 2
        return rows

    def fewest_devices(self, strategy: Strategy, rows: int, precision: Precision) -> int | None:
        """The fewest devices, a power of two, over which a sharding strategy fits; None for none."""
        counts = (1 << i for i in range(1, _MOST.bit_length()))
        return next((n for n in counts if self.fits(strategy, n, rows, precision)), None)

    def change(
        self, told: list[str], strategy: Strategy, devices: int, rows: int, precision: Precision
    ) -> Change:
        """A change that fits, in words."""
        accumulate = self.job.accumulate * math.ceil(self.job.rows / rows)
        total = self.total(strategy, devices, rows, precision)
        text = ", ".join(told)
        return Change(text, devices, strategy.name, rows, accumulate, precision, total)


def changes(job: Job, chosen: Strategy, limit: int, gpu: bool) -> list[Change]:
    """What would make a run fit that does not.

    Args:
        job: the run.
        chosen: the strategy it is meant to have.
        limit: bytes of a device.
        gpu: whether it is a GPU.
    """
    search = _Search(job, limit, gpu)
    return _on_these(job, chosen, search) + _on_more(job, chosen, search)


def _on_these(job: Job, chosen: Strategy, search: _Search) -> list[Change]:
    """Changes on the devices that there are: all sets of as few as will do."""
    half: Precision = "bf16-mixed"
    others = [s for s in strategies(job.devices) if s.checkpointing >= chosen.checkpointing]
    precisions = (
        [job.precision, half] if job.precision == "32-true" and search.gpu else [job.precision]
    )
    found: dict[int, list[Change]] = {}
    for strategy, precision, fewer in itertools.product(others, precisions, (False, True)):
        told = _told(chosen, strategy)
        if precision != job.precision:
            told.append(f"--trainer.precision={precision}")
        rows: int | None = job.rows
        if fewer:
            rows = search.most_rows(strategy, job.devices, precision)
        if rows is None or not search.fits(strategy, job.devices, rows, precision):
            continue
        if fewer:
            told.append(_smaller(job, rows))
        change = search.change(told, strategy, job.devices, rows, precision)
        found.setdefault(len(told), []).append(change)
    return found[min(found)] if found else []


def _on_more(job: Job, chosen: Strategy, search: _Search) -> list[Change]:
    """Sharding over more devices: with the settings as they are, with layers computed again, with one row in half
    precision as well; each that takes fewer devices than the one before.
    """
    half: Precision = "bf16-mixed" if search.gpu else job.precision
    out: list[Change] = []
    least = _MOST + 1
    for again, rows, precision in (
        (chosen.checkpointing, job.rows, job.precision),
        (True, job.rows, job.precision),
        (True, 1, half),
    ):
        shard = next(s for s in strategies(2) if s.sharded and s.checkpointing == again)
        count = search.fewest_devices(shard, rows, precision)
        if count is None or not job.devices < count < least:
            continue
        told = [f"{count:,} devices", *_told(chosen, shard)]
        if precision != job.precision:
            told.append(f"--trainer.precision={precision}")
        if rows != job.rows:
            told.append(_smaller(job, rows))
        out.append(search.change(told, shard, count, rows, precision))
        least = count
    return out


def counted(number: int, what: str) -> str:
    """So many of something."""
    plural = what + ("es" if what.endswith("ch") else "s")
    return f"{number:,} {what if number == 1 else plural}"


def _told(chosen: Strategy, other: Strategy) -> list[str]:
    """A change of strategy in words."""
    out = []
    if other.sharded != chosen.sharded:
        out.append(f"--config trainer/{other.flags}")
    if other.checkpointing and not chosen.checkpointing:
        out.append("--activation_checkpointing=true")
    return out


def _smaller(job: Job, rows: int) -> str:
    times = job.accumulate * math.ceil(job.rows / rows)
    return (
        f"batches of {counted(rows, 'row')} instead of {job.rows:,} "
        f"with --trainer.accumulate_grad_batches={times:,} for "
        f"{'the same step' if times * rows == job.accumulate * job.rows else 'about the same step'}"
    )
