"""In what the members' configurations differ."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import yaml

# What names and places a run, or is the same thing said twice.
_LEFT_OUT = ("run.", "ckpt_path", "trainer.callbacks", "config")


def differences(folders: Mapping[str, Path]) -> list[tuple[str, dict[str, str]]]:
    """Settings that are not the same for all members, in the order in which they come up.

    Args:
        folders: of each member, with its ``config.yaml``; one without is left out.

    Returns:
        For each setting its dotted key, and each member's value; a member that lacks the setting is not in it.
    """
    read = {name: _flat(folder / "config.yaml") for name, folder in folders.items()}
    read = {name: settings for name, settings in read.items() if settings}
    keys = dict.fromkeys(key for settings in read.values() for key in settings)
    out = []
    for key in keys:
        values = {name: its[key] for name, its in read.items() if key in its}
        if not key.startswith(_LEFT_OUT) and (
            len(values) < len(read) or len(set(values.values())) > 1
        ):
            out.append((key.replace("init_args.", ""), values))
    return out


def _flat(path: Path) -> dict[str, str]:
    if not path.is_file():
        return {}
    try:
        content = yaml.safe_load(path.read_text(encoding="utf-8"))
    except yaml.YAMLError:
        return {}
    return dict(_leaves(content, ""))


def _leaves(value: Any, key: str) -> list[tuple[str, str]]:
    if isinstance(value, dict) and value:
        return [
            leaf
            for name, inner in value.items()
            for leaf in _leaves(inner, f"{key}.{name}" if key else str(name))
        ]
    return [(key, value if isinstance(value, str) else json.dumps(value))]
