"""Tensors under other names and in other shapes: how a layout is described, read and written.

A layout is a list of :class:`Weight`, one for each tensor that it keeps. The same list serves both ways.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import safetensors
import torch
from safetensors.torch import load_file, save_file
from torch import Tensor, nn

from lit_lm.errors import InputError

WEIGHTS, CONFIG = "model.safetensors", "config.json"
_SHOWN = 8


@dataclass(frozen=True)
class Weight:
    """One tensor of a layout, and which of ours it holds.

    Args:
        theirs: its name there.
        ours: names of the parameters that it holds, one behind the other along the first dimension.
        transposed: the layout keeps it turned round.
    """

    theirs: str
    ours: tuple[str, ...]
    transposed: bool = False

    def join(self, state: Mapping[str, Tensor]) -> Tensor:
        """The layout's tensor, made of ours."""
        tensor = (
            torch.cat([state[name] for name in self.ours]) if self.ours[1:] else state[self.ours[0]]
        )
        return (tensor.t() if self.transposed else tensor).contiguous()

    def split(self, tensor: Tensor, state: Mapping[str, Tensor]) -> dict[str, Tensor]:
        """Our parameters, cut out of the layout's tensor."""
        tensor = tensor.t() if self.transposed else tensor
        parts = torch.split(tensor, [len(state[name]) for name in self.ours])
        return {
            name: part.to(state[name].dtype).contiguous()
            for name, part in zip(self.ours, parts, strict=True)
        }


def linear(theirs: str, *ours: str, transposed: bool = False) -> list[Weight]:
    """Weight and bias of a linear map (or a norm) that holds those of ours."""
    return [
        Weight(f"{theirs}.weight", tuple(f"{o}.weight" for o in ours), transposed),
        Weight(f"{theirs}.bias", tuple(f"{o}.bias" for o in ours)),
    ]


def load(
    net: nn.Module,
    layout: Iterable[Weight],
    tensors: Mapping[str, Tensor],
    source: str | Path,
    *,
    copies: Mapping[str, str] | None = None,
    fresh: Iterable[str] = (),
) -> None:
    """Takes a network's weights from a layout's tensors. The network is changed only if all of them fit.

    Args:
        net: the network.
        layout: every tensor that must be there.
        tensors: what the file holds.
        source: the file's name, for errors.
        copies: names that a layout may keep beside others, with equal content: {copy: original}.
        fresh: parameters of ours that the file says nothing about.

    Raises:
        InputError: tensors are missing, left over, of other shapes, or copies that differ; lists them all.
        ValueError: the layout leaves parameters of ours without a source.
    """
    state = dict(net.state_dict())
    layout, copies = list(layout), copies or {}
    wanted = {w.theirs: _shape(w, state) for w in layout}
    here = {name: t for name, t in tensors.items() if name in wanted}
    problems = {
        "missing": sorted(wanted.keys() - here.keys()),
        "unexpected": sorted(tensors.keys() - wanted.keys() - copies.keys()),
        "of another shape": [
            f"{name} {list(t.shape)}, wanted {wanted[name]}"
            for name, t in sorted(here.items())
            if list(t.shape) != wanted[name]
        ],
        "not of floating point": sorted(n for n, t in here.items() if not t.is_floating_point()),
        "different from what they are copies of": [
            f"{copy} ({original})"
            for copy, original in copies.items()
            if copy in tensors
            and original in here
            and not torch.equal(tensors[copy], here[original])
        ],
    }
    if any(problems.values()):
        lists = [
            f"  {len(names)} {what}: {_some(names)}" for what, names in problems.items() if names
        ]
        raise InputError(
            f"{source} does not hold the weights that its configuration asks for; nothing was read:\n"
            + "\n".join(lists)
        )
    new: dict[str, Tensor] = {}
    for weight in layout:
        new |= weight.split(tensors[weight.theirs], state)
    shared = {t.data_ptr() for name, t in state.items() if name in new}
    fresh = set(fresh)
    forgotten = [
        n for n, t in state.items() if n not in {*new, *fresh} and t.data_ptr() not in shared
    ]
    if forgotten:
        raise ValueError(f"the layout names no source for {forgotten}")
    net.load_state_dict(new, strict=False)


def dump(net: nn.Module, layout: Iterable[Weight]) -> dict[str, Tensor]:
    """A network's weights as a layout keeps them; each tensor in memory of its own."""
    state = net.state_dict()
    return {w.theirs: w.join(state).detach().cpu().clone() for w in layout}


def read(folder: Path) -> tuple[dict[str, Any], dict[str, Tensor]]:
    """Configuration and tensors of a folder with ``config.json`` and safetensors, in one file or several.

    Raises:
        InputError: a file is missing or damaged.
    """
    config = read_json(folder / CONFIG)
    index, files = folder / f"{WEIGHTS}.index.json", [folder / WEIGHTS]
    if index.is_file():
        parts = read_json(index).get("weight_map", {})
        files = [folder / Path(name).name for name in sorted(set(parts.values()))]
    elif not files[0].is_file():
        others = sorted(
            p.name for p in folder.iterdir() if p.suffix in (".bin", ".pt", ".pth", ".h5")
        )
        hint = (
            f": {', '.join(others)} may run code when it is read; convert it to safetensors with the library "
            "that wrote it"
            if others
            else ""
        )
        raise InputError(f"{folder} has no {WEIGHTS}{hint}")
    tensors: dict[str, Tensor] = {}
    for file in files:
        tensors |= read_tensors(file)
    return config, tensors


def read_tensors(file: Path) -> dict[str, Tensor]:
    """The tensors of a safetensors file.

    Raises:
        InputError: the file is missing, cut short or no safetensors file.
    """
    try:
        return load_file(file)
    except (OSError, safetensors.SafetensorError) as error:
        raise InputError(f"{file} cannot be read as safetensors: {error}") from error


def read_json(file: Path) -> dict[str, Any]:
    """An object from a JSON file.

    Raises:
        InputError: the file is missing, or holds something else.
    """
    try:
        found = json.loads(file.read_text(encoding="utf-8"))
    except (OSError, ValueError) as error:
        raise InputError(f"{file} cannot be read as JSON: {error}") from error
    if not isinstance(found, dict):
        raise InputError(f"{file} holds a {type(found).__name__}, where an object is wanted")
    return found


def write(folder: Path, config: Mapping[str, Any], tensors: Mapping[str, Tensor]) -> None:
    """``config.json`` and ``model.safetensors`` in a folder, which is made."""
    folder.mkdir(parents=True, exist_ok=True)
    save_file(dict(tensors), folder / WEIGHTS, metadata={"format": "pt"})
    text = json.dumps(dict(config), indent=2, ensure_ascii=False) + "\n"
    (folder / CONFIG).write_text(text, encoding="utf-8")


def _shape(weight: Weight, state: Mapping[str, Tensor]) -> list[int]:
    parts = [list(state[name].shape) for name in weight.ours]
    shape = [sum(part[0] for part in parts), *parts[0][1:]]
    return shape[::-1] if weight.transposed else shape


def _some(names: list[str]) -> str:
    more = f" and {len(names) - _SHOWN} more" if len(names) > _SHOWN else ""
    return ", ".join(names[:_SHOWN]) + more
