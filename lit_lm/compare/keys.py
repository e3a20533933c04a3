"""Keys and values of YAMLs that say what to run. Mistakes are reported with place and way out."""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import fields
from difflib import get_close_matches
from pathlib import Path
from typing import Any

from lit_lm import configs
from lit_lm.errors import InputError

# What stands in the folders that names become folders of.
_TAKEN = {
    "replaced", "submitit", "agents", "pretraining", "index.html", "results.json", "results.csv", "results.md", "curve.png",
    "curve.svg",
}  # fmt: skip
_NAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9._+-]*")


def read(path: Path) -> Any:
    """What a YAML file holds."""
    return configs.parse(configs.read(path), path)


def mapping(
    raw: Any, kind: type, where: str, *, required: Iterable[str], hidden: Iterable[str] = ()
) -> dict[str, Any]:
    """A mapping whose keys are the fields of a dataclass, less the hidden ones; the required ones are there."""
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


def text(raw: Any, where: str) -> str:
    """A text that is not empty."""
    if not isinstance(raw, str) or not raw:
        raise InputError(f"{where} is {raw!r}: it must be a text")
    return raw


def name_of(raw: Any, where: str) -> str:
    """A name that can be a folder, a W&B run and a label in a chart."""
    name = str(raw) if isinstance(raw, int) and not isinstance(raw, bool) else raw
    if not isinstance(name, str) or not _NAME.fullmatch(name):
        raise InputError(
            f"{where} is {raw!r}: use letters, digits and . _ + - only, starting with a letter or digit"
        )
    if name.lower() in _TAKEN:
        raise InputError(
            f"{where} is {raw!r}, and something else is kept under that name: choose another"
        )
    return name


def flags(raw: Any, where: str) -> tuple[str, ...]:
    """Flags of the command line, each ``--key=value``; None is none."""
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


def unlike(names: Sequence[str], where: str) -> None:
    """Raises InputError if two names differ in case at most: some file systems ignore it."""
    counts = Counter(name.lower() for name in names)
    if twice := next((name for name, count in counts.items() if count > 1), None):
        raise InputError(f"{where} are called {twice!r}: give each its own name")
