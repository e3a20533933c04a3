"""Which runs a comparison is made of: every member tries the same multiples of its learning rates, and the best of them
is trained with further seeds.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_lm import configs
from lit_lm.compare.config import Comparison, Member
from lit_lm.compare.identity import architecture, identity, package_version, read_config, task
from lit_lm.compare.keys import unlike
from lit_lm.compare.runner import Job, Outcome

_SAMPLES = 6
_SUFFIXES = ("", ".yaml", ".yml")
_RATES = ("lr", "muon_lr")
# What a trial is chosen by: the least value on the validation split of the first that its curves have.
_CHOSEN_BY = ("val/bpb", "val/loss")


@dataclass(frozen=True)
class Run:
    """One training of a member.

    Args:
        member: the member.
        factor: its learning rates as a multiple of the experiment's own.
        seed: of fresh weights and the order of the data.
        job: what its process is to do.
    """

    member: Member
    factor: float
    seed: int
    job: Job


@dataclass(frozen=True)
class Trial:
    """What came of a multiple of the learning rates.

    Args:
        factor: the multiple.
        value: the best on the validation split; None if it failed or diverged.
        outcome: of its run.
    """

    factor: float
    value: float | None
    outcome: Outcome


Read = Callable[[Sequence[str], str], Any]
"""Reads the settings of flags, for somebody who asks, as ``settings.parse_settings`` does."""


def read_settings(flags: Sequence[str], asks: str) -> Any:
    """See :func:`lit_lm.settings.parse_settings`; imports Lightning."""
    from lit_lm.settings import parse_settings

    return parse_settings(flags, asks)


def trials(comparison: Comparison, parallel: int, code: str, read: Read) -> list[Run]:
    """The runs with seed 0, member by member.

    Raises:
        InputError: two runs would be called alike, or settings are wrong (SystemExit where the parser has said so).
    """
    factors = comparison.learning_rates or (1.0,)
    unlike(
        [
            name_of(member, factor, seed)
            for member in comparison.members
            for factor in factors
            for seed in range(comparison.seeds)
        ],
        "two runs, of which some have endings such as -x2 and -seed1,",
    )
    return [
        _run(comparison, member, factor, 0, parallel, code, read)
        for member in comparison.members
        for factor in factors
    ]


def further(
    comparison: Comparison, chosen: Mapping[str, float], parallel: int, code: str, read: Read
) -> list[Run]:
    """The runs with other seeds, of each member with the multiple that was chosen for it."""
    return [
        _run(comparison, member, chosen[member.name], seed, parallel, code, read)
        for member in comparison.members
        if member.name in chosen
        for seed in range(1, comparison.seeds)
    ]


def judge(run: Run, outcome: Outcome) -> Trial:
    """What a trial is worth."""
    curves = (outcome.result or {}).get("curves") or {}
    values: list[float | None] = next(
        (curves[key]["value"] for key in _CHOSEN_BY if key in curves), []
    )
    known = [value for value in values if value is not None]
    return Trial(run.factor, min(known, default=None), outcome)


def best(made: Sequence[Trial]) -> Trial:
    """The trial that goes on: the best one that has a value, else the first that ended, else the first."""
    valued = [trial for trial in made if trial.value is not None]
    ended = [trial for trial in made if trial.outcome.result is not None]
    if valued:
        return min(valued, key=lambda trial: trial.value)  # type: ignore[arg-type, return-value]
    return (ended or list(made))[0]


def find(name: str, beside: Path | None = None) -> Path:
    """A YAML by path or by name.

    Args:
        name: a path, with or without ``.yaml``, or the name of a shipped configuration.
        beside: a folder that relative names are also looked for in.
    """
    for folder in [Path(), *([beside] if beside else [])]:
        for suffix in _SUFFIXES:
            path = folder / f"{name}{suffix}"
            if path.is_file():
                return path
    return configs.find(name)


def budget_of(comparison: Comparison) -> dict[str, Any] | None:
    """A comparison's budget in plain types."""
    budget = comparison.budget
    return None if budget is None else {"unit": budget.unit, "amount": budget.amount}


def parameters_of(comparison: Comparison) -> dict[str, Any] | None:
    """The size of a comparison's members in plain types; None where each has its own."""
    return None if comparison.parameters is None else asdict(comparison.parameters)


def name_of(member: Member, factor: float, seed: int) -> str:
    """What a run is called."""
    return member.name + (f"-x{factor:g}" if factor != 1 else "") + (f"-seed{seed}" if seed else "")


def _run(
    comparison: Comparison,
    member: Member,
    factor: float,
    seed: int,
    parallel: int,
    code: str,
    read: Read,
) -> Run:
    path = find(member.config, comparison.path.parent if comparison.path else None).resolve()
    config, files = read_config(path)
    default = configs.shipped() / "trainer" / "default.yaml"
    files += [default] if default.is_file() else []
    overrides = [*comparison.overrides, *member.overrides]
    if comparison.parameters is not None:
        from lit_lm.compare.sizes import size_flags  # builds networks: slow to import

        overrides += size_flags(path, tuple(overrides), comparison.parameters)
    settings = read([f"--config={path}", *overrides], f"compare ({member.name})")
    if factor != 1:
        overrides += scaled_rates(settings, factor)
    if comparison.seeds > 1:
        overrides += _seeds(settings, seed)
    budget = budget_of(comparison)
    name = name_of(member, factor, seed)
    job = Job(
        name=name,
        folder=(comparison.folder / name).resolve(),
        identity=identity(files, overrides, budget=budget, version=package_version()),
        payload={
            "config": str(path),
            "overrides": overrides,
            "budget": budget,
            "group": comparison.name,
            "architecture": architecture(config) or member.name,
            "task": task(config),
            "tags": ["compare", comparison.name],
            "samples": _SAMPLES,
            "code": code,
            "parallel": parallel,
        },
    )
    return Run(member, factor, seed, job)


def scaled_rates(settings: Any, factor: float) -> list[str]:
    """Flags that multiply the learning rates that a run would have."""
    from lit_lm.optim import OptimConfig

    optim = settings["model"]["init_args"].get("optim") or asdict(OptimConfig())
    return [f"--model.init_args.optim.{name}={optim[name] * factor:.6g}" for name in _RATES]


def _seeds(settings: Any, seed: int) -> list[str]:
    """Flags that give a run a seed, where it would have another."""
    its = {
        "seed_everything": settings["seed_everything"],
        "data.init_args.seed": settings["data"]["init_args"].get("seed"),
    }
    return [f"--{name}={seed}" for name, found in its.items() if found != seed]
