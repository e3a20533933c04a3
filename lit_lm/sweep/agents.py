"""What W&B's agents have run on this machine: the same experiment with settings that the server chose."""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import yaml

from lit_lm.compare.curves import read_curves
from lit_lm.sweep.config import Sweep
from lit_lm.sweep.objective import best_of
from lit_lm.sweep.wandb_form import AGENTS


def agent_rows(sweep: Sweep) -> list[dict[str, Any]]:
    """The runs of agents, also those that have not ended: ``name``, ``settings``, ``objective`` and ``folder``."""
    rows = []
    keys = [its.key for its in sweep.parameters]
    for folder in sorted((sweep.folder / AGENTS).glob("*")):
        given = _settings(folder / "config.yaml", keys)
        if given is not None:
            values = (read_curves(folder, [sweep.metric.name]).get(sweep.metric.name) or {}).get(
                "value", []
            )
            rows.append(
                {
                    "name": f"{AGENTS}/{folder.name}",
                    "settings": given,
                    "objective": best_of(values, sweep.metric),
                    "folder": str(folder.resolve()),
                }
            )
    return rows


def _settings(path: Path, keys: Sequence[str]) -> dict[str, Any] | None:
    """Settings of a run, from the configuration that it left; None if it left none that can be read."""
    try:
        config = yaml.safe_load(path.read_text(encoding="utf-8"))
    except (OSError, UnicodeDecodeError, yaml.YAMLError):
        return None
    return {key: _at(config, key) for key in keys}


def _at(config: Any, key: str) -> Any:
    for part in key.split("."):
        config = config.get(part) if isinstance(config, dict) else None
    return config
