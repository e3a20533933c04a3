"""What a comparison's YAML may say. Mistakes are reported with place and way out."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any

from lit_lm.compare.keys import flags, mapping, name_of, read, text, unlike
from lit_lm.errors import InputError

UNITS = ("tokens", "bytes", "flops", "seconds", "steps")


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
    top = mapping(
        read(path, "comparison"), Comparison, str(path), required=("members",), hidden=("path",)
    )
    budget = top.get("budget")
    members = top["members"]
    if not isinstance(members, list) or not members:
        raise InputError(
            f"{path}: members must be a list of at least one {{name: ..., config: ...}}"
        )
    comparison = Comparison(
        name=name_of(top.get("name", path.stem), f"{path}: name"),
        members=tuple(_member(m, f"{path}: members[{i}]") for i, m in enumerate(members)),
        output_dir=text(top.get("output_dir", Comparison.output_dir), f"{path}: output_dir"),
        budget=None if budget is None else _budget(budget, f"{path}: budget"),
        overrides=flags(top.get("overrides"), f"{path}: overrides"),
        path=path,
    )
    unlike([member.name for member in comparison.members], f"{path}: two members")
    return comparison


def _member(raw: Any, where: str) -> Member:
    values = mapping(raw, Member, where, required=("name", "config"))
    return Member(
        name=name_of(values["name"], f"{where}.name"),
        config=text(values["config"], f"{where}.config"),
        overrides=flags(values.get("overrides"), f"{where}.overrides"),
    )


def _budget(raw: Any, where: str) -> Budget:
    values = mapping(raw, Budget, where, required=("unit", "amount"))
    if values["unit"] not in UNITS:
        raise InputError(f"{where}.unit is {values['unit']!r}: choose one of {', '.join(UNITS)}")
    try:
        amount = float(values["amount"])  # YAML reads 2e6 as a text
    except (TypeError, ValueError):
        raise InputError(f"{where}.amount is {values['amount']!r}: it must be a number") from None
    if isinstance(values["amount"], bool) or not 0 < amount < float("inf"):
        raise InputError(f"{where}.amount is {values['amount']!r}: it must be a number above 0")
    return Budget(values["unit"], amount)
