"""A network in a later layer: what its file or its class leaves out has that class's default, not what an earlier layer said of
another network. The parser alone would keep every setting of the same name.
"""

from __future__ import annotations

import dataclasses
import json
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

from lit_lm import configs
from lit_lm.startup import located

_CONFIG = re.compile(r"(?:-c|--config)(?:=(.*))?", re.DOTALL)
_NET = re.compile(r"--model\.(?:init_args\.)?net(?:=(.*))?", re.DOTALL)


class _Net(NamedTuple):
    """A network as a layer names it.

    Args:
        class_path: of its class.
        given: settings that the layer names.
        whole: the layer names a file.
    """

    class_path: str
    given: frozenset[str]
    whole: bool


def with_defaults(args: Sequence[str]) -> list[str]:
    """The flags with more among them: behind each network that takes the place of another one, the rest of its settings.

    Args:
        args: flags as ``lit-lm fit`` takes them, configurations as files.
    """
    out: list[str] = []
    before: str | None = None
    values = iter(args)
    for arg in values:
        out.append(arg)
        match = _CONFIG.fullmatch(arg) or _NET.fullmatch(arg)
        if match is None:
            continue
        value = match[1]
        if value is None:
            value = next(values, None)
            if value is None:
                break
            out.append(value)
        net = _of_layer(Path(value)) if match.re is _CONFIG else _read(value, Path())
        if net is None:
            continue
        if before is not None and (net.whole or net.class_path != before):
            rest = {"class_path": net.class_path, "init_args": _defaults(net)}
            out.append(f"--model.init_args.net={json.dumps(rest)}")
        before = net.class_path
    return out


def _of_layer(path: Path) -> _Net | None:
    """The network that a configuration names."""
    model: Any = _mapping(path).get("model")
    if isinstance(model, str):
        path = path.parent / model
        model = _mapping(path)
    if not isinstance(model, Mapping):
        return None
    settings = model.get("init_args", model)
    return _read(settings.get("net"), path.parent) if isinstance(settings, Mapping) else None


def _read(value: Any, folder: Path) -> _Net | None:
    """A network as a file, a class, or a text or mapping with settings; None for what the parser is to refuse."""
    whole = isinstance(value, str) and (folder / value).is_file()
    if whole:
        value = _mapping(folder / value)
    elif isinstance(value, str):
        value = configs.parse(value, Path("--model.init_args.net")) if value[:1] == "{" else value
        value = {"class_path": value} if isinstance(value, str) else value
    if not isinstance(value, Mapping) or not isinstance(value.get("class_path"), str):
        return None
    name = value["class_path"]
    name = name if "." in name else f"lit_lm.models.{name}"
    given = value.get("init_args")
    return _Net(name, frozenset(given if isinstance(given, Mapping) else ()), whole)


def _mapping(path: Path) -> Mapping[str, Any]:
    content = configs.parse(configs.read(path), path) if path.is_file() else None
    return content if isinstance(content, Mapping) else {}


def _defaults(net: _Net) -> dict[str, Any]:
    """What a network's class says of settings that are not given."""
    try:
        kind = located(net.class_path)
    except (ImportError, AttributeError, ValueError):
        return {}
    out = {}
    for field in dataclasses.fields(kind) if dataclasses.is_dataclass(kind) else ():
        if field.name in net.given or not field.init:
            continue
        if field.default is not dataclasses.MISSING:
            out[field.name] = field.default
        elif field.default_factory is not dataclasses.MISSING:
            out[field.name] = field.default_factory()
    return {name: value for name, value in out.items() if _is_plain(value)}


def _is_plain(value: Any) -> bool:
    try:
        json.dumps(value)
    except TypeError:
        return False
    return True
