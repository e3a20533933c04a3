"""The direction of imports: what each part of the package may know."""

from __future__ import annotations

import ast
from pathlib import Path

import pytest

from tests.conftest import ROOT

PACKAGE = ROOT / "lit_lm"
FILES = sorted(PACKAGE.rglob("*.py"))

# What a part may import of the package besides itself. Whatever is not listed may know everything.
MAY_KNOW = {
    "errors": set(),
    "specs": set(),
    "startup": set(),
    "nn": {"errors"},
    "losses": {"nn"},
    "muon": set(),
    "optim": {"errors", "muon"},
    "generation": {"errors"},
    "scores": {"errors"},
    "scoring": {"errors", "json_lines", "scores", "streams"},
    "metrics": {"losses", "scores"},
    "label_metrics": {"data", "metrics"},
    "models": {"errors", "nn", "specs"},
    "flops": {"models"},
    "sharding": set(),
    "shard_files": {"errors"},
    "checkpoints": {"errors", "shard_files"},
    "strategies": {"checkpoints", "shard_files", "sharding", "tasks"},
    "csv_log": {"errors"},
    "peaks": {"errors"},
    "footprint": {"losses", "models", "nn"},
    "full_rows": {"footprint", "losses", "models", "optim", "specs"},
    "profiling": {"errors"},
    "callbacks": {"averaging", "checkpoints", "csv_log", "errors", "peaks", "sharding"},
    "json_lines": {"errors"},
    "data": {"checkpoints", "errors", "json_lines", "specs"},
    "tasks": {
        "callbacks", "data", "errors", "flops", "generation", "label_metrics", "losses", "metrics", "models", "nn", "optim",
        "scores", "shard_files", "sharding", "specs",
    },
    "wandb_artifacts": {"checkpoints"},
    "wandb_log": {"checkpoints", "wandb_artifacts"},
    "runs": {"csv_log", "errors", "wandb_log"},
    "configs": {"errors", "models"},
    "describe": {"configs", "errors", "flops", "footprint", "full_rows", "models", "optim", "specs"},
    "planning": {
        "configs", "data", "describe", "errors", "footprint", "full_rows", "models", "optim", "peaks", "settings", "specs", "startup", "tasks",
    },
    "memory": {"errors"},
    "matmul": set(),
    "resuming": {"checkpoints", "errors"},
    "parsing": {"callbacks", "errors", "runs"},
    "net_layers": {"configs", "startup"},
    "training": {
        "callbacks", "checkpoints", "configs", "data", "errors", "matmul", "memory", "net_layers", "parsing",
        "pretrained", "resuming", "runs", "startup", "tasks",
    },
    "settings": {"configs", "data", "errors", "models", "parsing", "startup", "training"},
    "pretrained": {"checkpoints", "errors", "interop", "models", "startup", "tasks"},
    "curve": {"compare", "configs", "errors"},
    "dashboard": {"compare", "errors"},
    "sweep": {"compare", "configs", "errors"},
    "interop": {"data", "errors", "models", "specs", "tasks"},
    "streams": {"errors"},
    "progress": set(),
    "translator": {"data", "errors", "generation", "tasks"},
    "inference": {"errors", "generation", "specs", "streams", "tasks", "training"},
    "searching": {"errors", "inference", "streams", "tasks"},
    "piping": {"errors", "json_lines", "progress", "streams"},
    "labelling": {"data", "errors", "inference", "json_lines", "piping", "streams", "tasks", "translator"},
    "prompts": {"data", "errors", "tasks"},
    "prompting": {
        "data", "errors", "inference", "json_lines", "piping", "prompts", "streams", "tasks"
    },
    "translating": {
        "errors", "generation", "inference", "json_lines", "progress", "streams", "tasks", "translator"
    },
}  # fmt: skip
# What a part may not import from elsewhere.
MAY_NOT_USE = {
    "nn": {"lightning", "wandb", "jsonargparse"},
    "models": {"lightning", "wandb"},
    "losses": {"lightning"},
    "generation": {"lightning"},
    "specs": {"torch", "lightning"},
    "json_lines": {"torch", "lightning"},
    "streams": {"torch", "lightning"},
    "piping": {"torch", "lightning"},
    "verbs": {"torch", "lightning"},
    "label_verbs": {"torch", "lightning"},
    "plan_verb": {"torch", "lightning"},
    "run_verbs": {"torch", "lightning"},
    "footprint": {"lightning"},
    "full_rows": {"lightning"},
    "curve": {"torch", "lightning"},
    "dashboard": {"torch", "lightning"},
    "sweep": {"torch", "lightning", "wandb"},
    "scores": {"torch", "lightning"},
    "scoring": {"torch", "lightning"},
}


def imports(path: Path) -> set[str]:
    """Modules that a file imports, also inside functions."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Import):
            found |= {alias.name for alias in node.names}
        elif isinstance(node, ast.ImportFrom) and node.module and not node.level:
            found |= (
                {node.module}
                if node.module != "lit_lm"
                else {f"lit_lm.{a.name}" for a in node.names}
            )
    return found


def part(module: str) -> str:
    return module.split(".")[1]


@pytest.mark.parametrize("path", FILES, ids=lambda p: p.relative_to(PACKAGE).as_posix())
def test_imports_run_one_way(path: Path) -> None:
    own = path.relative_to(PACKAGE).with_suffix("").parts[0]
    used = imports(path)
    if own in MAY_KNOW:
        known = {part(m) for m in used if m.startswith("lit_lm.")} - {own}
        assert known <= MAY_KNOW[own], f"{own} must not know {sorted(known - MAY_KNOW[own])}"
    outside = {m.split(".")[0] for m in used}
    assert not outside & MAY_NOT_USE.get(own, set())


def test_architectures_do_not_know_each_other() -> None:
    files = [p for p in (PACKAGE / "models").glob("*.py") if p.stem not in ("__init__", "base")]
    assert len(files) >= 2
    for path in files:
        others = {f"lit_lm.models.{p.stem}" for p in files} - {f"lit_lm.models.{path.stem}"}
        assert not imports(path) & others
