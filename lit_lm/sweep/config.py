"""What a sweep's YAML may say: W&B's keys, and what is run here. Mistakes are reported with place and way out."""

from __future__ import annotations

import json
import math
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Literal, get_args

from lit_lm.compare.keys import mapping, name_of, read, text
from lit_lm.errors import InputError

Method = Literal["grid", "random"]
Goal = Literal["minimize", "maximize"]
Distribution = Literal["uniform", "int_uniform", "log_uniform_values"]

ARGUMENTS = "${args}"
"""Where W&B's agent puts the flags of a run."""

_KEY = re.compile(r"[A-Za-z_][A-Za-z0-9_.-]*")  # as W&B has it
# What is each member's own.
_TAKEN = ("config", "ckpt_path", "run.name", "run.dir", "run.group", "run.job_type", "run.tags")


@dataclass(frozen=True)
class Parameter:
    """One setting, and what it may be. It has either values, or bounds and a distribution.

    Args:
        key: the flag without its hyphens, such as ``model.init_args.optim.lr``.
        values: what it may be; a single one is a constant.
        distribution: how it is drawn between the bounds.
        min: the lower bound.
        max: the upper bound.
    """

    key: str
    values: tuple[Any, ...] = ()
    distribution: Distribution | None = None
    min: float = 0.0
    max: float = 0.0


@dataclass(frozen=True)
class Metric:
    """What decides.

    Args:
        name: a metric of the validation split, such as ``val/loss``.
        goal: whether less of it is better, or more.
    """

    name: str
    goal: Goal = "minimize"


@dataclass(frozen=True)
class Sweep:
    """One experiment with many settings.

    Args:
        config: the experiment's YAML: a path, or the name of a shipped one.
        method: "grid" runs all combinations of the values, "random" draws some.
        metric: what members are sorted by.
        parameters: the settings, by key.
        name: folder below ``output_dir``, and group of the W&B runs.
        output_dir: where sweeps are kept.
        runs: how many are drawn at random; None for a grid.
        seed: of what is drawn.
        project: W&B's project of the sweep.
        command: what W&B's agent runs; None for ``lit-lm fit`` of the experiment.
        path: the YAML it was read from; relative names in it are looked for beside it.
    """

    config: str
    method: Method
    metric: Metric
    parameters: tuple[Parameter, ...]
    name: str
    output_dir: str = "runs/sweep"
    runs: int | None = None
    seed: int = 0
    project: str = "lit_lm"
    command: tuple[str, ...] | None = None
    path: Path | None = None

    @property
    def folder(self) -> Path:
        """Where everything of this sweep is written."""
        return Path(self.output_dir) / self.name


def load(path: Path) -> Sweep:
    """Reads a sweep's YAML.

    Raises:
        InputError: the file is missing, is no YAML, or says something that is not understood.
    """
    required = ("config", "method", "metric", "parameters")
    top = mapping(read(path), Sweep, str(path), required=required, hidden=("path",))
    method = top["method"]
    if method not in get_args(Method):
        raise InputError(
            f"{path}: method is {method!r}: choose grid or random; others need W&B's server"
        )
    return Sweep(
        config=text(top["config"], f"{path}: config"),
        method=method,
        metric=_metric(top["metric"], f"{path}: metric"),
        parameters=_parameters(top["parameters"], method, f"{path}: parameters"),
        name=name_of(top.get("name", path.stem), f"{path}: name"),
        output_dir=text(top.get("output_dir", Sweep.output_dir), f"{path}: output_dir"),
        runs=_runs(top.get("runs"), method, f"{path}: runs"),
        seed=_whole(top.get("seed", Sweep.seed), 0, f"{path}: seed"),
        project=text(top.get("project", Sweep.project), f"{path}: project"),
        command=_command(top.get("command"), f"{path}: command"),
        path=path,
    )


def _metric(raw: Any, where: str) -> Metric:
    values = mapping(raw, Metric, where, required=("name",))
    name, goal = text(values["name"], f"{where}.name"), values.get("goal", Metric.goal)
    if not name.startswith("val/"):
        raise InputError(
            f"{where}.name is {name!r}: settings are chosen by a metric of the validation split, such as val/loss"
        )
    if goal not in get_args(Goal):
        raise InputError(f"{where}.goal is {goal!r}: choose one of {', '.join(get_args(Goal))}")
    return Metric(name, goal)


def _parameters(raw: Any, method: Method, where: str) -> tuple[Parameter, ...]:
    """Sorted by key, so that their order in the file does not matter, and ``a`` comes before ``a.b``, which changes it."""
    if not isinstance(raw, dict) or not raw:
        raise InputError(f"{where} is {raw!r}: it must name settings, each with its values")
    made = [_parameter(key, raw[key], f"{where}.{key}") for key in sorted(raw, key=str)]
    for its in made:
        if method == "grid" and its.distribution not in (None, "int_uniform"):
            raise InputError(
                f"{where}.{its.key} is drawn ({its.distribution}): a grid needs values; or choose the method random"
            )
    return tuple(made)


def _parameter(key: Any, raw: Any, where: str) -> Parameter:
    if not isinstance(key, str) or not _KEY.fullmatch(key):
        raise InputError(
            f"{where}: {key!r} is no key that W&B takes: use a flag without its hyphens, such as model.init_args.optim.lr"
        )
    if key in _TAKEN:
        raise InputError(f"{where}: {key} is each member's own and cannot be swept")
    keys = set(raw) if isinstance(raw, dict) else None
    if keys == {"value"}:
        return Parameter(key, _values([raw["value"]], where))
    if keys == {"values"}:
        return Parameter(key, _values(raw["values"], f"{where}.values"))
    if keys in ({"min", "max"}, {"min", "max", "distribution"}):
        return _drawn(key, raw, where)
    raise InputError(
        f"{where} is {raw!r}: give value, or values, or min, max and distribution "
        f"({', '.join(get_args(Distribution))})"
    )


def _values(raw: Any, where: str) -> tuple[Any, ...]:
    if not isinstance(raw, list) or not raw:
        raise InputError(f"{where} is {raw!r}: it must be a list of at least one value")
    if _has_none(raw):
        raise InputError(
            f'{where} has a null, which W&B\'s agents pass on as None: write the text "null"'
        )
    texts = [json.dumps(value, sort_keys=True, default=str) for value in raw]
    if len(set(texts)) < len(texts):
        raise InputError(f"{where} is {raw!r}: one value stands there twice")
    return tuple(raw)


def _has_none(value: Any) -> bool:
    if isinstance(value, dict):
        return any(_has_none(item) for item in value.values())
    return value is None or (isinstance(value, list) and any(_has_none(item) for item in value))


def _drawn(key: str, raw: dict[str, Any], where: str) -> Parameter:
    """As W&B has it, bounds alone are of whole numbers if both are whole."""
    low, high = (_number(raw[name], f"{where}.{name}") for name in ("min", "max"))
    whole = isinstance(raw["min"], int) and isinstance(raw["max"], int)
    distribution = raw.get("distribution", "int_uniform" if whole else "uniform")
    if distribution not in get_args(Distribution):
        raise InputError(
            f"{where}.distribution is {distribution!r}: choose one of {', '.join(get_args(Distribution))}"
        )
    if not low < high:
        raise InputError(f"{where}: min {low:g} must be below max {high:g}")
    if distribution == "int_uniform":
        if not whole:
            raise InputError(f"{where}: int_uniform needs whole numbers for min and max")
        low, high = raw["min"], raw["max"]
    if distribution == "log_uniform_values" and low <= 0:
        raise InputError(f"{where}.min is {low:g}: log_uniform_values needs one above 0")
    return Parameter(key, distribution=distribution, min=low, max=high)


def _number(raw: Any, where: str) -> float:
    try:
        number = math.nan if isinstance(raw, bool) else float(raw)  # YAML reads 1e-4 as a text
    except (TypeError, ValueError):
        number = math.nan
    if not math.isfinite(number):
        raise InputError(f"{where} is {raw!r}: it must be a number")
    return number


def _runs(raw: Any, method: Method, where: str) -> int | None:
    if method == "grid":
        if raw is not None:
            raise InputError(f"{where} is {raw!r}: a grid runs all combinations; leave it out")
        return None
    if raw is None:
        raise InputError(f"{where} is missing: say how many runs are drawn at random")
    return _whole(raw, 1, where)


def _whole(raw: Any, least: int, where: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or raw < least:
        raise InputError(f"{where} is {raw!r}: it must be a whole number, at least {least}")
    return raw


def _command(raw: Any, where: str) -> tuple[str, ...] | None:
    if raw is None:
        return None
    if not isinstance(raw, list) or not all(isinstance(word, str) for word in raw):
        raise InputError(f"{where} is {raw!r}: it must be a list of words")
    if ARGUMENTS not in raw:
        raise InputError(f"{where} lacks the word {ARGUMENTS}, where W&B's agent puts the flags")
    return tuple(raw)
