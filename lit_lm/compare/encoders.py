"""The league of the encoders: what curves over numbers of labels have found (``lit-lm curve``), as far as they are there."""

from __future__ import annotations

import base64
import json
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from lit_lm.errors import InputError

TITLE = "Encoders, by what they reach with few labels"


def encoders(folders: Sequence[str], beside: Path | None) -> list[dict[str, Any]]:
    """What each curve found: its name and tables, and what is missing in them or why there are none.

    Args:
        folders: as a comparison names them.
        beside: the folder of the comparison's YAML, in which relative ones are looked for too.

    Raises:
        InputError: a folder's results.json is not one of a curve.
    """
    return [_read(folder, beside) for folder in folders]


def _read(name: str, beside: Path | None) -> dict[str, Any]:
    places = [Path(name), *([beside / name] if beside else [])]
    path = next((p for place in places if (p := place / "results.json").is_file()), None)
    if path is None:
        reason = f"there are no results in {name} yet: `lit-lm curve` makes them"
        return {"name": Path(name).name, "folder": None, "tables": [], "missing": reason}
    try:
        found = json.loads(path.read_text(encoding="utf-8"))
        tables, called = found["tables"], found["name"]
    except (ValueError, KeyError, TypeError) as error:
        raise InputError(
            f"curves: {path} does not hold the results of a curve ({error!r}): give a folder that `lit-lm curve` has written, "
            "or run that again"
        ) from error
    return {
        "name": called,
        "folder": str(path.parent),
        "tables": tables,
        "missing": found.get("unfinished"),
    }


def picture(curve: dict[str, Any]) -> str | None:
    """A curve's picture as a data address; None where there is none."""
    path = None if curve["folder"] is None else Path(curve["folder"]) / "curve.svg"
    if path is None or not path.is_file():
        return None
    return f"data:image/svg+xml;base64,{base64.b64encode(path.read_bytes()).decode()}"
