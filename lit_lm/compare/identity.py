"""What a result was made from: the experiment's files, its flags, its budget, the package."""

from __future__ import annotations

import hashlib
import json
import os
import re
import sys
from collections.abc import Iterable, Iterator
from contextlib import suppress
from functools import lru_cache
from glob import glob
from importlib.metadata import PackageNotFoundError, version
from pathlib import Path
from typing import Any

import yaml

from lit_lm import configs
from lit_lm.errors import InputError

_YAML = (".yaml", ".yml")
_VARIABLE = re.compile(r"\$\{oc\.env:(\w+)(?:,([^}]*))?\}")


def read_config(path: Path) -> tuple[dict[str, Any], list[Path]]:
    """An experiment's YAML with the YAMLs it names in their places, and every file it names.

    A text that is the path of an existing file, relative to the YAML it stands in or to the working
    folder, names that file.
    """
    files: list[Path] = []
    config = _read(path, files)
    if not isinstance(config, dict):
        raise InputError(
            f"{path} is no experiment: it must hold keys such as model, data and trainer"
        )
    return config, files


def identity(files: Iterable[Path], overrides: Iterable[str], **rest: Any) -> str:
    """One short text that is the same exactly if a result would come from the same description.

    Args:
        files: what the experiment's configuration is made of, in order.
        overrides: flags; files that they name count with their contents.
        rest: anything else that matters, in plain types.
    """
    digest = hashlib.sha256()
    overrides = list(overrides)
    digest.update(json.dumps([overrides, rest], sort_keys=True).encode())
    files = list(files)
    for flag in overrides:
        key, _, value = flag.partition("=")
        _resolve(_of_flag(key, value), Path(), files)
    for path in files:
        digest.update(_digest(path))
    return digest.hexdigest()[:16]


def architecture(config: dict[str, Any]) -> str | None:
    """Name of the network that a configuration describes, such as "GPT"; None if it names none."""
    for key, value in _walk(config):
        if key in ("net", "encoder"):
            path = value.get("class_path") if isinstance(value, dict) else value
            if isinstance(path, str):
                return path.rpartition(".")[2].removesuffix("Config")
    return None


def task(config: dict[str, Any]) -> str | None:
    """Class path of the task that a configuration trains; None if it names none."""
    model = config.get("model")
    path = model.get("class_path") if isinstance(model, dict) else model
    return path if isinstance(path, str) else None


def package_version() -> str:
    """Version of lit_lm, as installed."""
    try:
        return version("lit_lm")
    except PackageNotFoundError:
        return "0"


def code_digest() -> str:
    """Digest of the package's code, less the code that only compares, sweeps and draws curves."""
    root = Path(__file__).parent.parent
    digest = hashlib.sha256()
    for path in sorted(root.rglob("*.py")):
        if path.relative_to(root).parts[0] not in ("compare", "curve", "sweep"):
            digest.update(
                path.relative_to(root).as_posix().encode() + b"\0" + path.read_bytes() + b"\0"
            )
    return digest.hexdigest()[:16]


def _of_flag(key: str, value: str) -> Any:
    """What a flag's value says: the file of a configuration's name, or plain types."""
    if key in ("--config", "-c"):
        with suppress(InputError):
            return str(configs.find(value).resolve())
    with suppress(yaml.YAMLError):
        return yaml.safe_load(value)
    return value


def _code_of(class_path: str) -> list[Path]:
    """The user's own files behind a class path: of a module beside the configuration, all of its package."""
    top = class_path.partition(".")[0]
    installed = [Path(p).resolve() for p in (sys.prefix, sys.base_prefix)]
    if top == "lit_lm":
        return []
    for folder in (Path(p).resolve() for p in ("", *sys.path)):
        if any(folder.is_relative_to(there) for there in installed):
            continue
        if (file := folder / f"{top}.py").is_file():
            return [file]
        if (folder / top).is_dir() and (own := sorted((folder / top).rglob("*.py"))):
            return own
    return []


def _read(path: Path, files: list[Path]) -> Any:
    if path in files:
        return str(path)
    files.append(path)
    return _resolve(configs.parse(configs.read(path), path), path.parent, files)


def _resolve(value: Any, folder: Path, files: list[Path]) -> Any:
    if isinstance(value, dict):
        if isinstance(path := value.get("class_path"), str):
            files += [file for file in _code_of(path) if file not in files]
        return {str(key): _resolve(item, folder, files) for key, item in value.items()}
    if isinstance(value, list):
        return [_resolve(item, folder, files) for item in value]
    if isinstance(value, str):
        value = _VARIABLE.sub(lambda found: os.environ.get(found[1], found[2] or ""), value)
        for path in (folder / value, Path(value)):
            if any(sign in value for sign in "*?["):
                files += [p for p in _matching(path) if p not in files]
            elif _is_file(path):
                path = path.resolve()
                if path.suffix in _YAML:
                    return _read(path, files)
                if path not in files:
                    files.append(path)
                break
    return value


def _matching(pattern: Path) -> list[Path]:
    try:
        return [
            Path(p).resolve()
            for p in sorted(glob(str(pattern), recursive=True))
            if _is_file(Path(p))
        ]
    except (OSError, ValueError, re.error):
        return []


def _is_file(path: Path) -> bool:
    try:
        return path.is_file()
    except (OSError, ValueError):  # a text too long, or with a zero byte, is no path
        return False


def _digest(path: Path) -> bytes:
    stat = path.stat()
    return _digest_of(path, stat.st_size, stat.st_mtime_ns)


@lru_cache(maxsize=4096)
def _digest_of(path: Path, size: int, changed: int) -> bytes:
    """Read once, as long as it stays as it is: many jobs may name one large file."""
    with path.open("rb") as file:
        return hashlib.file_digest(file, "sha256").digest()


def _walk(value: Any) -> Iterator[tuple[str, Any]]:
    items = (
        value.items()
        if isinstance(value, dict)
        else enumerate(value)
        if isinstance(value, list)
        else ()
    )
    for key, item in items:
        yield str(key), item
        yield from _walk(item)
