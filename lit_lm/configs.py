"""Where configurations are: as a path, or by name among the shipped ones (``experiment/gpt_wiki``)."""

from __future__ import annotations

import difflib
from pathlib import Path
from typing import TYPE_CHECKING, Any, Literal

from lit_lm.errors import InputError

if TYPE_CHECKING:
    from lit_lm.models import Architecture


def shipped() -> Path:
    """The folder of shipped configurations: inside an installed wheel, or at the top of a checkout."""
    package = Path(__file__).parent
    inside = package / "configs"
    return inside if inside.is_dir() else package.parent / "configs"


def names() -> list[str]:
    """Names of all shipped configurations, such as ``experiment/gpt_wiki``."""
    root = shipped()
    return sorted(p.relative_to(root).with_suffix("").as_posix() for p in root.rglob("*.yaml"))


def find(name: str) -> Path:
    """The file that a ``--config`` means.

    Args:
        name: a path (as it is, or with ``.yaml``), or the name of a shipped configuration.

    Raises:
        InputError: there is no such file and no such name; says what is near.
    """
    root = shipped()
    for path in (Path(name), Path(f"{name}.yaml"), root / name, root / f"{name}.yaml"):
        if path.is_file():
            return path
    tail = name.removeprefix("configs/")
    if tail != name and (root / tail).is_file():
        return root / tail
    near = difflib.get_close_matches(name.removesuffix(".yaml"), names(), n=3, cutoff=0.5)
    mend = f"Did you mean {', '.join(near)}?" if near else "`lit-lm configs` lists those."
    raise InputError(f"no configuration {name!r}: neither a file nor a shipped one. {mend}")


def read(path: Path) -> str:
    """A configuration's text.

    Raises:
        InputError: it is not there, or not UTF-8.
    """
    try:
        return path.read_text(encoding="utf-8-sig")
    except UnicodeDecodeError as error:
        raise InputError(f"{path} is not UTF-8 text: {error}") from error
    except OSError as error:
        raise InputError(f"cannot read {path}: {error.strerror}") from error


def parse(text: str, path: Path) -> Any:
    """What a text of YAML holds; errors name its line.

    Raises:
        InputError: it is no YAML, or a key is given twice.
    """
    import yaml
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    try:
        content = yaml.safe_load(text)
        if isinstance(content, dict):
            OmegaConf.create(text)  # refuses keys that are given twice
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    except (yaml.YAMLError, RecursionError) as error:
        mark = getattr(error, "problem_mark", None)
        line = "" if mark is None else f", line {mark.line + 1}"
        problem = getattr(error, "problem", None) or str(error).splitlines()[0]
        raise InputError(f"{path}{line}: no valid YAML: {problem}") from error
    return content


def check(path: Path) -> None:
    """Raises InputError unless a file holds settings: YAML with a mapping, each key once, and nothing in it that
    cannot be resolved. Files that it names for whole groups of settings are checked too.
    """
    from omegaconf import OmegaConf
    from omegaconf.errors import OmegaConfBaseException

    content = parse(text := read(path), path)
    if not isinstance(content, dict):
        found = "nothing" if content is None else f"{type(content).__name__} {str(content)[:40]!r}"
        raise InputError(
            f"{path} holds {found}, where settings are wanted, each with its name: `run: {{name: mine}}`"
        )
    try:
        OmegaConf.to_container(OmegaConf.create(text), resolve=True)
    except OmegaConfBaseException as error:
        raise InputError(f"{path}: {str(error).splitlines()[0]}") from error
    for key, value in content.items():
        if isinstance(value, str) and value.endswith((".yaml", ".yml")):
            if not (path.parent / value).is_file():
                raise InputError(
                    f"{path}: {key} names {value!r}, and there is no such file beside it"
                )
            check(path.parent / value)


def kind(name: str) -> Literal["model", "experiment", "layer"]:
    """What a configuration is: of a model alone, with a model among other settings, or with none.

    Raises:
        InputError: there is no such file, or it holds no settings.
    """
    check(path := find(name))
    content = parse(read(path), path)
    if "model" in content:
        return "experiment"
    return "model" if "class_path" in content else "layer"


def architecture(name: str, content: Any = None) -> Architecture:
    """The architecture of a model configuration.

    Args:
        name: such as ``model/gpt_wiki``, or a path.
        content: what the file holds, where it has been read or stands in another file.

    Raises:
        InputError: there is no such file, or it does not describe an architecture.
    """
    import jsonargparse

    from lit_lm.models import Architecture

    if content is None:
        check(path := find(name))
        content = parse(read(path), path)
    parser = jsonargparse.ArgumentParser(exit_on_error=False)
    parser.add_argument("--net", type=Architecture)
    try:
        parsed = parser.parse_object({"net": content})
    except (jsonargparse.ArgumentError, TypeError) as error:
        raise InputError(f"{name} does not describe an architecture: {error}") from error
    return parser.instantiate(parsed).net  # type: ignore[no-any-return]
