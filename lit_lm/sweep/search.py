"""Which settings a sweep tries: all combinations, or some that are drawn. The same YAML always gives the same."""

from __future__ import annotations

import hashlib
import json
import math
import random
import re
from collections.abc import Iterator, Mapping, Sequence
from itertools import product
from typing import Any

from lit_lm.compare.config import Comparison, Member
from lit_lm.errors import InputError
from lit_lm.sweep.config import Parameter, Sweep

Settings = dict[str, Any]

MOST = 1000
"""No sweep has more members: a typing error, or a week of waiting."""

_DRAWS = 200
"""So many draws in a row that bring nothing new are enough."""

_LONGEST = 60
_UNUSUAL = re.compile(r"[^A-Za-z0-9.+-]+")


def settings(sweep: Sweep) -> list[Settings]:
    """The settings of each member, by key.

    Raises:
        InputError: there are too many combinations, or fewer than are to be drawn.
    """
    return list(_drawn(sweep) if sweep.method == "random" else _grid(sweep))


def varied(sweep: Sweep) -> list[str]:
    """The keys of the settings that are not the same in all members."""
    return [its.key for its in sweep.parameters if len(its.values) != 1]


def flags(chosen: Mapping[str, Any]) -> list[str]:
    """Settings as W&B's agent would write them."""
    return [f"--{key}={value}" for key, value in chosen.items()]


def comparison(sweep: Sweep, chosen: Sequence[Settings]) -> Comparison:
    """A sweep as a comparison of its members."""
    names = member_names(chosen, varied(sweep))
    members = tuple(
        Member(name, sweep.config, tuple(flags(its)))
        for name, its in zip(names, chosen, strict=True)
    )
    return Comparison(sweep.name, members, output_dir=sweep.output_dir, path=sweep.path)


def member_names(chosen: Sequence[Settings], keys: Sequence[str]) -> list[str]:
    """A name for each member, of what it tries: it stays what it is when others come or go."""
    short = dict(zip(keys, short_keys(keys), strict=True))
    names = ["-".join(f"{short[key]}{_text(its[key])}" for key in keys) or "only" for its in chosen]
    lower = [name.lower() for name in names]
    return [
        name
        if len(name) <= _LONGEST and lower.count(name.lower()) == 1
        else f"{name[:_LONGEST]}-{_digest(its)}"
        for name, its in zip(names, chosen, strict=True)
    ]


def short_keys(keys: Sequence[str]) -> list[str]:
    """The ends of dotted keys, as long as they must be to differ."""
    parts = [[part for part in key.split(".") if part not in ("", "init_args")] for key in keys]
    ends: list[str] = []
    for count in range(1, max(map(len, parts), default=0) + 1):
        ends = [".".join(its[-count:]) for its in parts]
        if len(set(ends)) == len(ends):
            break
    return [end.lstrip("_-.") for end in ends] if len(set(ends)) == len(ends) else list(keys)


def _grid(sweep: Sweep) -> Iterator[Settings]:
    choices = [its.values or range(int(its.min), int(its.max) + 1) for its in sweep.parameters]
    count = math.prod(map(len, choices))
    if count > MOST:
        raise InputError(
            f"{sweep.path or sweep.name}: the grid has {count:,} members, and {MOST:,} is the most: "
            "give fewer values, or choose the method random"
        )
    keys = [its.key for its in sweep.parameters]
    return (dict(zip(keys, values, strict=True)) for values in product(*choices))


def _drawn(sweep: Sweep) -> Iterator[Settings]:
    """Draw by draw; none comes twice. More runs, or another parameter, leave what was drawn before as it was."""
    runs = sweep.runs or 0
    if runs > MOST:
        raise InputError(f"{sweep.path or sweep.name}: runs is {runs:,}, and {MOST:,} is the most")
    seen: set[str] = set()
    draw = last = 0
    while len(seen) < runs:
        made = {its.key: _draw(its, f"{sweep.seed} {draw} {its.key}") for its in sweep.parameters}
        draw += 1
        if (digest := _digest(made)) not in seen:
            seen.add(digest)
            last = draw
            yield made
        elif draw - last >= _DRAWS:
            raise InputError(
                f"{sweep.path or sweep.name}: runs is {runs}, and there are only {len(seen)} different ones: "
                "ask for fewer, or choose the method grid"
            )


def _draw(parameter: Parameter, seed: str) -> Any:
    """One value. Numbers are rounded to what matters, so that they can be read and typed."""
    share = random.Random(seed).random()
    low, high = parameter.min, parameter.max
    if parameter.values:
        return parameter.values[int(share * len(parameter.values))]
    if parameter.distribution == "int_uniform":
        return int(low) + int(share * (int(high) - int(low) + 1))
    if parameter.distribution == "log_uniform_values":
        value = float(f"{low * (high / low) ** share:.4g}")
    else:
        value = round(low + share * (high - low), 3 - math.floor(math.log10(high - low)))
    return min(max(value, low), high)


def _text(value: Any) -> str:
    """A value in a name; of a path its stem only."""
    text = value if isinstance(value, str) else json.dumps(value)
    text = text.rpartition("/")[2].removesuffix(".yaml")
    return _UNUSUAL.sub("_", text).strip("_")


def _digest(chosen: Settings) -> str:
    text = json.dumps(chosen, sort_keys=True, default=str)
    return hashlib.blake2b(text.encode(), digest_size=3).hexdigest()
