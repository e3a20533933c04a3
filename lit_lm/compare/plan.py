"""Which runs a comparison is made of: every member tries the same multiples of its learning rates, and the best of them
is trained with further seeds.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

from lit_lm import configs
from lit_lm.compare.config import Comparison, Member
from lit_lm.compare.identity import architecture, identity, package_version, read_config, task
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


def trials(comparison: Comparison, parallel: int, code: str) -> list[Run]:
    """The runs with seed 0, member by member."""
    factors = comparison.learning_rates or (1.0,)
    return [
        _run(comparison, member, factor, 0, parallel, code)
        for member in comparison.members
        for factor in factors
    ]


def further(
    comparison: Comparison, chosen: Mapping[str, float], parallel: int, code: str
) -> list[Run]:
    """The runs with other seeds, of each member with the multiple that was chosen for it."""
    return [
        _run(comparison, member, chosen[member.name], seed, parallel, code)
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


def _run(
    comparison: Comparison, member: Member, factor: float, seed: int, parallel: int, code: str
) -> Run:
    path = find(member.config, comparison.path.parent if comparison.path else None).resolve()
    config, files = read_config(path)
    default = configs.shipped() / "trainer" / "default.yaml"
    files += [default] if default.is_file() else []
    overrides = [*comparison.overrides, *member.overrides]
    if comparison.parameters is not None:
        from lit_lm.compare.sizes import size_flags  # builds networks: slow to import

        overrides += size_flags(path, tuple(overrides), comparison.parameters)
    if factor != 1:
        overrides += scaled_rates(config, overrides, factor)
    if seed:
        overrides += [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
    budget = budget_of(comparison)
    name = member.name + (f"-x{factor:g}" if factor != 1 else "") + (f"-seed{seed}" if seed else "")
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


def scaled_rates(config: dict[str, Any], overrides: Sequence[str], factor: float) -> list[str]:
    """Flags that multiply an experiment's learning rates, as its YAML, its flags or the defaults have them."""
    from lit_lm.optim import OptimConfig

    optim = ((config.get("model") or {}).get("init_args") or {}).get("optim") or {}
    out = []
    for name in _RATES:
        flag = f"--model.init_args.optim.{name}="
        given = [o.removeprefix(flag) for o in overrides if o.startswith(flag)]
        value = given[-1] if given else optim.get(name, getattr(OptimConfig, name))
        out.append(f"{flag}{float(value) * factor:.6g}")
    return out
