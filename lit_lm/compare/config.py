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
class Parameters:
    """How large every member is made.

    Args:
        amount: trainable numbers of its network.
        embeddings: those in tables that are looked up are among them.
    """

    amount: float
    embeddings: bool = True


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
        parameters: how large every member is made, by its widths; each experiment's own size when None.
        overrides: flags for every member; a member's own come later and win.
        seeds: how many times each member is trained: seeds 0, 1, ... choose fresh weights and the order of the data.
        learning_rates: multiples of each experiment's own learning rates that every member tries with seed 0; the one with
            the best validation goes on to the other seeds. Empty for the experiment's own only.
        curves: folders that ``lit-lm curve`` has written, whose tables and pictures are shown as the league of the encoders.
        samples: the page and the results show texts of the data, outputs and attention; False for data that must not be shown.
        path: the YAML it was read from; relative names in it are looked for beside it.
    """

    name: str
    members: tuple[Member, ...]
    output_dir: str = "runs/compare"
    budget: Budget | None = None
    parameters: Parameters | None = None
    overrides: tuple[str, ...] = ()
    seeds: int = 1
    learning_rates: tuple[float, ...] = ()
    curves: tuple[str, ...] = ()
    samples: bool = True
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
    top = mapping(read(path), Comparison, str(path), required=("members",), hidden=("path",))
    budget, parameters = top.get("budget"), top.get("parameters")
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
        parameters=None if parameters is None else _parameters(parameters, f"{path}: parameters"),
        overrides=flags(top.get("overrides"), f"{path}: overrides"),
        seeds=_count(top.get("seeds", 1), f"{path}: seeds"),
        learning_rates=_factors(top.get("learning_rates"), f"{path}: learning_rates"),
        curves=_folders(top.get("curves"), f"{path}: curves"),
        samples=_yes_or_no(top.get("samples", True), f"{path}: samples"),
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


def _count(raw: Any, where: str) -> int:
    if not isinstance(raw, int) or isinstance(raw, bool) or not 1 <= raw <= 1000:
        raise InputError(f"{where} is {raw!r}: it must be a whole number from 1 to 1000")
    return raw


def _folders(raw: Any, where: str) -> tuple[str, ...]:
    if not isinstance(raw, list | None):
        raise InputError(
            f"{where} is {raw!r}: it must be a list of folders that lit-lm curve writes"
        )
    return tuple(text(each, f"{where}[{i}]") for i, each in enumerate(raw or []))


def _factors(raw: Any, where: str) -> tuple[float, ...]:
    if raw is None:
        return ()
    numbers = raw if isinstance(raw, list) else [raw]
    if not all(isinstance(n, int | float) and not isinstance(n, bool) and n > 0 for n in numbers):
        raise InputError(
            f"{where} is {raw!r}: it must be a list of multiples above 0, such as [0.5, 1, 2]"
        )
    if len(set(numbers)) < len(numbers):
        raise InputError(f"{where} is {raw!r}: one multiple stands there twice")
    return tuple(float(n) for n in numbers)


def _budget(raw: Any, where: str) -> Budget:
    values = mapping(raw, Budget, where, required=("unit", "amount"))
    if values["unit"] not in UNITS:
        raise InputError(f"{where}.unit is {values['unit']!r}: choose one of {', '.join(UNITS)}")
    return Budget(values["unit"], _amount(values["amount"], f"{where}.amount"))


def _parameters(raw: Any, where: str) -> Parameters:
    values = mapping(raw, Parameters, where, required=("amount",))
    embeddings = _yes_or_no(values.get("embeddings", True), f"{where}.embeddings")
    return Parameters(_amount(values["amount"], f"{where}.amount"), embeddings)


def _yes_or_no(raw: Any, where: str) -> bool:
    if not isinstance(raw, bool):
        raise InputError(f"{where} is {raw!r}: it must be true or false")
    return raw


def _amount(raw: Any, where: str) -> float:
    try:
        amount = float(raw)  # YAML reads 2e6 as a text
    except (TypeError, ValueError):
        raise InputError(f"{where} is {raw!r}: it must be a number") from None
    if isinstance(raw, bool) or not 0 < amount < float("inf"):
        raise InputError(f"{where} is {raw!r}: it must be a number above 0")
    return amount
