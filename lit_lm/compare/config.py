"""What a comparison's YAML may say. Mistakes are reported with place and way out."""

from __future__ import annotations

import re
from collections.abc import Iterable
from dataclasses import dataclass, fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

import yaml

from lit_lm.errors import InputError

UNITS = ("tokens", "bytes", "flops", "seconds", "steps")
# A name becomes a folder, a W&B run and a label in a chart.
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


@dataclass(frozen=True)
class Budget:
    """How long every member trains.

    Args:
        unit: predicted "tokens", raw "bytes", "flops", training "seconds" or optimizer "steps".
        amount: how much of it.
    """

    unit: str
    amount: float


@dataclass(frozen=True)
class Member:
    """One experiment of a comparison.

    Args:
        name: how it is called in tables and charts, and its folder.
        config: the experiment's YAML: a path, or the name of a shipped one.
        overrides: command-line flags that change it, such as ``--trainer.precision=bf16-mixed``.
    """

    name: str
    config: str
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Comparison:
    """Experiments to run and compare.

    Args:
        name: folder below ``output_dir``, and group of the W&B runs.
        members: the experiments.
        output_dir: where comparisons are kept.
        budget: how long every member trains; each experiment's own length when None.
        overrides: flags for every member; a member's own come later and win.
        path: the YAML it was read from; relative names in it are looked for beside it.
    """

    name: str
    members: tuple[Member, ...]
    output_dir: str = "runs/compare"
    budget: Budget | None = None
    overrides: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def folder(self) -> Path:
        """Where everything of this comparison is written."""
        return Path(self.output_dir) / self.name


def load(path: Path) -> Comparison:
    """Reads a comparison's YAML.

    Raises:
        InputError: the file is missing, is no YAML, or says something that is not understood.
    """
    try:
        raw = yaml.safe_load(path.read_text(encoding="utf-8"))
    except OSError as error:
        raise InputError(f"cannot read the comparison {path}: {error.strerror}") from error
    except yaml.YAMLError as error:
        raise InputError(f"{path} is no valid YAML: {error}") from error
    top = _mapping(raw, Comparison, str(path), required=("members",), hidden=("path",))
    budget = top.get("budget")
    members = top["members"]
    if not isinstance(members, list) or not members:
        raise InputError(
            f"{path}: members must be a list of at least one {{name: ..., config: ...}}"
        )
    comparison = Comparison(
        name=_name(top.get("name", path.stem), f"{path}: name"),
        members=tuple(_member(m, f"{path}: members[{i}]") for i, m in enumerate(members)),
        output_dir=_text(top.get("output_dir", Comparison.output_dir), f"{path}: output_dir"),
        budget=None if budget is None else _budget(budget, f"{path}: budget"),
        overrides=_flags(top.get("overrides"), f"{path}: overrides"),
        path=path,
    )
    names = [member.name.lower() for member in comparison.members]  # some file systems ignore case
    twice = next((name for name in names if names.count(name) > 1), None)
    if twice:
        raise InputError(f"{path}: two members are called {twice!r}: give each its own name")
    return comparison


def _member(raw: Any, where: str) -> Member:
    values = _mapping(raw, Member, where, required=("name", "config"))
    return Member(
        name=_name(values["name"], f"{where}.name"),
        config=_text(values["config"], f"{where}.config"),
        overrides=_flags(values.get("overrides"), f"{where}.overrides"),
    )


def _budget(raw: Any, where: str) -> Budget:
    values = _mapping(raw, Budget, where, required=("unit", "amount"))
    if values["unit"] not in UNITS:
        raise InputError(f"{where}.unit is {values['unit']!r}: choose one of {', '.join(UNITS)}")
    try:
        amount = float(values["amount"])  # YAML reads 2e6 as a text
    except (TypeError, ValueError):
        raise InputError(f"{where}.amount is {values['amount']!r}: it must be a number") from None
    if isinstance(values["amount"], bool) or not 0 < amount < float("inf"):
        raise InputError(f"{where}.amount is {values['amount']!r}: it must be a number above 0")
    return Budget(values["unit"], amount)


def _mapping(
    raw: Any, kind: type, where: str, *, required: Iterable[str], hidden: Iterable[str] = ()
) -> dict[str, Any]:
    allowed = [f.name for f in fields(kind) if f.name not in hidden]
    if not isinstance(raw, dict):
        raise InputError(f"{where}: expected the keys {', '.join(allowed)}, found {raw!r}")
    for key in raw:
        if key not in allowed:
            close = get_close_matches(str(key), allowed, 1)
            hint = f" (did you mean {close[0]!r}?)" if close else ""
            raise InputError(
                f"{where}: unknown key {key!r}{hint}; allowed are {', '.join(allowed)}"
            )
    for key in required:
        if raw.get(key) is None:
            raise InputError(
                f"{where}: the key {key!r} is missing; allowed are {', '.join(allowed)}"
            )
    return raw


def _text(raw: Any, where: str) -> str:
    if not isinstance(raw, str) or not raw:
        raise InputError(f"{where} is {raw!r}: it must be a text")
    return raw


def _name(raw: Any, where: str) -> str:
    name = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
    if not isinstance(name, str) or not _NAME.fullmatch(name) or name.lower() == "replaced":
        raise InputError(
            f"{where} is {raw!r}: use letters, digits and . _ + - only, starting with a letter "
            "or digit (and not 'replaced', where older results are kept)"
        )
    return name


def _flags(raw: Any, where: str) -> tuple[str, ...]:
    if raw is None:
        return ()
    if not isinstance(raw, list) or not all(isinstance(flag, str) for flag in raw):
        raise InputError(
            f"{where} is {raw!r}: it must be a list of flags such as --trainer.max_epochs=3"
        )
    wrong = next((flag for flag in raw if not flag.startswith("--") or "=" not in flag), None)
    if wrong is not None:
        raise InputError(f"{where}: {wrong!r} is no flag of the form --key=value")
    return tuple(raw)
