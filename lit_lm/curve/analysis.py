"""What runs say together: means with confidence intervals, and how many labels pre-training is worth.

Knows neither folders nor processes: all of it follows from the runs' numbers.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal

from lit_lm.compare.student import t_quantile
from lit_lm.curve.config import Labels, Start

CONFIDENCE = 0.95
Status = Literal["done", "failed", "not run yet"]


@dataclass(frozen=True)
class Run:
    """One run with labels.

    Args:
        task, encoder, start, labels, seed: which run it is.
        examples: how many examples it was trained on; None where that is not known.
        value: the task's metric on the test split; None if the run failed or is not run yet.
        collapsed: it gives one answer for everything.
        reason: why it failed; None if it did not.
    """

    task: str
    encoder: str
    start: Start
    labels: Labels
    seed: int
    examples: int | None = None
    value: float | None = None
    collapsed: bool = False
    reason: str | None = None

    @property
    def status(self) -> Status:
        """What became of it."""
        if self.value is not None:
            return "done"
        return "not run yet" if self.reason is None else "failed"


@dataclass(frozen=True)
class Point:
    """The runs that differ in their seed alone.

    Args:
        task, encoder, start, labels: which runs they are.
        examples: how many examples they were trained on; None where no run of the task knows.
        values: of the runs that are done, in order of their seeds.
        collapsed: how many of them collapsed; they count in the mean.
        failed: how many runs failed.
        missing: how many are not run yet.
    """

    task: str
    encoder: str
    start: Start
    labels: Labels
    examples: int | None
    values: tuple[float, ...]
    collapsed: int = 0
    failed: int = 0
    missing: int = 0

    @property
    def runs(self) -> int:
        """How many runs it is to have."""
        return len(self.values) + self.failed + self.missing

    @property
    def mean(self) -> float | None:
        """Over the runs that are done; None if there are none."""
        return sum(self.values) / len(self.values) if self.values else None

    @property
    def margin(self) -> float | None:
        """Half the width of the 95 % confidence interval of the mean, by Student's t; None of a single run."""
        count, mean = len(self.values), self.mean
        if mean is None or count < 2:
            return None
        variance = sum((value - mean) ** 2 for value in self.values) / (count - 1)
        return t_quantile(0.5 + CONFIDENCE / 2, count - 1) * math.sqrt(variance / count)


@dataclass(frozen=True)
class Efficiency:
    """What pre-training is worth: how many labels from scratch do as well as these.

    Args:
        task, encoder, labels: the pre-trained point.
        examples: its number of labels.
        equal: how many labels from scratch reach its mean.
        bound: "" where that is so, "more" where it takes more than that (the most that was run did not reach it),
            "less" where it takes fewer (the fewest that were run are better).
    """

    task: str
    encoder: str
    labels: Labels
    examples: int
    equal: float
    bound: Literal["", "more", "less"] = ""

    @property
    def factor(self) -> float:
        """Labels from scratch for each label with pre-training."""
        return self.equal / self.examples


def points(runs: Sequence[Run]) -> list[Point]:
    """Brings together the runs that differ in their seed alone, in the order of their first."""
    groups: dict[tuple[str, str, Start, Labels], list[Run]] = {}
    for run in runs:
        groups.setdefault((run.task, run.encoder, run.start, run.labels), []).append(run)
    # All examples of a task are as many in every run: one that failed stands where the others stand.
    known = {(run.task, run.labels): run.examples for run in runs if run.examples is not None}
    found = []
    for (task, encoder, start, labels), group in groups.items():
        done = sorted((run for run in group if run.value is not None), key=lambda run: run.seed)
        counts = Counter(run.status for run in group)
        found.append(
            Point(
                task,
                encoder,
                start,
                labels,
                examples=known.get((task, labels), None if labels == "all" else labels),
                values=tuple(run.value for run in done if run.value is not None),
                collapsed=sum(run.collapsed for run in done),
                failed=counts["failed"],
                missing=counts["not run yet"],
            )
        )
    return found


def efficiencies(found: Sequence[Point]) -> list[Efficiency]:
    """For each pre-trained point, how many labels from scratch are worth as much.

    The means from scratch are made monotone (isotonic regression), and between two of them the metric is taken to be
    linear in the logarithm of the number of labels. A point without a mean is left out.
    """
    out = []
    for point in found:
        mean, examples = point.mean, point.examples
        if point.start != "pretrained" or mean is None or examples is None:
            continue
        scratch = [
            (other.examples, other.mean, len(other.values))
            for other in found
            if (other.task, other.encoder, other.start) == (point.task, point.encoder, "scratch")
            and other.mean is not None
            and other.examples is not None
        ]
        if scratch:
            counts, means, weights = zip(*sorted(scratch), strict=True)
            equal, bound = labels_needed(counts, monotone(means, weights), mean)
            out.append(Efficiency(point.task, point.encoder, point.labels, examples, equal, bound))
    return out


def labels_needed(
    counts: Sequence[int], values: Sequence[float], target: float
) -> tuple[float, Literal["", "more", "less"]]:
    """The fewest labels that reach a target.

    Args:
        counts: numbers of labels, rising.
        values: what they reach, never falling.
        target: what is to be reached.

    Returns:
        The number, and "more" or "less" where only that is known.
    """
    if target < values[0]:
        return float(counts[0]), "less"
    for i, value in enumerate(values):
        if value == target:
            return float(counts[i]), ""
        if value > target:
            share = (target - values[i - 1]) / (value - values[i - 1])
            low, high = math.log(counts[i - 1]), math.log(counts[i])
            return math.exp(low + share * (high - low)), ""
    return float(counts[-1]), "more"


def monotone(values: Sequence[float], weights: Sequence[float]) -> list[float]:
    """The values that never fall and are nearest to these in weighted squares (pool adjacent violators)."""
    pools: list[tuple[float, float, int]] = []  # mean, weight, how many values
    for value, weight in zip(values, weights, strict=True):
        mean, total, size = value, float(weight), 1
        while pools and pools[-1][0] >= mean:
            before, its, count = pools.pop()
            mean = (before * its + mean * total) / (its + total)
            total, size = its + total, size + count
        pools.append((mean, total, size))
    return [mean for mean, _, size in pools for _ in range(size)]
