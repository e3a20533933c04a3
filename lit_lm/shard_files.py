"""Checkpoints in shards: folders of which every process wrote its part, in the format of ``torch.distributed.checkpoint``
beside Lightning's ``meta.pt``. Like any checkpoint they cannot run code when they are read.

torch's own reader unpickles whatever stands in a folder's ``.metadata`` and in its entries that are no tensors; the
reader and the planner here take what describes tensors, and plain types, and nothing else.
"""

from __future__ import annotations

import io
import pickle
from pathlib import Path
from typing import Any

import torch
from torch.distributed.checkpoint.default_planner import (
    DefaultLoadPlanner,
    _EmptyStateDictLoadPlanner,
)
from torch.distributed.checkpoint.filesystem import FileSystemReader
from torch.distributed.checkpoint.metadata import Metadata, TensorStorageMetadata
from torch.distributed.checkpoint.state_dict_loader import _load_state_dict, load

from lit_lm.errors import InputError

META = "meta.pt"
_INDEX = ".metadata"
_WEIGHTS = "state_dict."
_CLASSES = {
    "torch.distributed.checkpoint.metadata": {
        "BytesStorageMetadata",
        "ChunkStorageMetadata",
        "Metadata",
        "MetadataIndex",
        "StorageMeta",
        "TensorProperties",
        "TensorStorageMetadata",
        "_MEM_FORMAT_ENCODING",
    },
    "torch.distributed.checkpoint.filesystem": {"_StorageInfo"},
    "torch": {"Size", "device"},
    "torch.serialization": {"_get_layout"},
    "collections": {"OrderedDict"},
    "pathlib": {"PosixPath", "PurePosixPath"},
}


def is_sharded(path: str | Path) -> bool:
    """Whether a path is a folder of shards."""
    return (Path(path) / META).is_file()


def problem(folder: Path) -> str | None:
    """What is wrong with a folder: files that are missing or shorter than they were written; None if nothing is."""
    try:
        index = _read_index(folder / _INDEX)
    except Exception as error:  # what is garbled can fail in any way
        return f"its index {_INDEX} cannot be read ({error})"
    ends: dict[str, int] = {}
    for place in index.storage_data.values():
        ends[place.relative_path] = max(
            ends.get(place.relative_path, 0), place.offset + place.length
        )
    for name, end in ends.items():
        file = folder / name
        size = file.stat().st_size if file.is_file() else 0
        if size < end:
            return f"its file {name} has {size:,} of {end:,} bytes"
    return None


def read(folder: Path) -> dict[str, Any]:
    """Weights, and the states of optimizers as a single process saves them, whole, on the CPU."""
    content: dict[str, Any] = {}
    planner = _SafeEmptyPlanner()  # type: ignore[no-untyped-call]
    _load_state_dict(content, SafeReader(folder), planner=planner, no_dist=True)
    content = {"state_dict": content.pop("state_dict"), **content}
    states = [
        content.pop(name) for name in sorted(k for k in content if k.startswith("optimizer_"))
    ]
    return content | ({"optimizer_states": [numbered(state) for state in states]} if states else {})


def as_file(folder: Path) -> io.BytesIO:
    """What is needed to use a trained network, as a file would hold it."""
    content = torch.load(folder / META, map_location="cpu", weights_only=True)
    weights = read(folder)["state_dict"]
    file = io.BytesIO()
    torch.save(content | {"state_dict": weights}, file)
    file.seek(0)
    return file


def read_into(content: dict[str, Any], folder: Path) -> None:
    """Fills tensors, sharded or whole, with what stands under their names; other values are replaced. All processes take
    part.
    """
    load(content, storage_reader=SafeReader(folder), planner=SafePlanner())


def numbered(state: dict[str, Any]) -> dict[str, Any]:
    """An optimizer's state by parameters' numbers, as ``Optimizer.state_dict`` has it, from one by their names."""
    names = [name for group in state["param_groups"] for name in group["params"]]
    numbers = {name: i for i, name in enumerate(names)}
    groups = [g | {"params": [numbers[n] for n in g["params"]]} for g in state["param_groups"]]
    of = {numbers[name]: values for name, values in state.get("state", {}).items()}
    return {"state": dict(sorted(of.items())), "param_groups": groups}


def outline(folder: Path) -> dict[str, Any]:
    """Weights without their numbers: names, shapes and types."""
    found = _read_index(folder / _INDEX).state_dict_metadata.items()
    return {
        name.removeprefix(_WEIGHTS): torch.empty(
            its.size, dtype=its.properties.dtype, device="meta"
        )
        for name, its in found
        if name.startswith(_WEIGHTS) and isinstance(its, TensorStorageMetadata)
    }


class SafeReader(FileSystemReader):
    """torch's, but for what an index may be made of."""

    def read_metadata(self, *args: Any, **kwargs: Any) -> Metadata:
        """The index of a folder."""
        index = _read_index(Path(self.path) / _INDEX)
        index.storage_meta.load_id = self.load_id  # type: ignore[union-attr]
        return index


class SafePlanner(DefaultLoadPlanner):
    """torch's, but for what an entry may hold that is no tensor."""

    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        """Reads such an entry."""
        super().load_bytes(read_item, _plain(value))


class _SafeEmptyPlanner(_EmptyStateDictLoadPlanner):
    def load_bytes(self, read_item: Any, value: io.BytesIO) -> None:
        super().load_bytes(read_item, _plain(value))


def _plain(value: io.BytesIO) -> io.BytesIO:
    """What ``value`` holds, once it is certain that it holds tensors and plain types only."""
    try:
        torch.load(value, weights_only=True)
    except pickle.UnpicklingError as error:
        raise InputError(
            "the checkpoint is refused: it holds more than tensors and plain types, which could run code when it is read"
        ) from error
    value.seek(0)
    return value


def _read_index(path: Path) -> Metadata:
    with path.open("rb") as file:
        index = _Unpickler(file).load()
    if not isinstance(index, Metadata):
        raise InputError(f"{path} is no index of a checkpoint")
    return index


class _Unpickler(pickle.Unpickler):
    def find_class(self, module: str, name: str) -> Any:
        kind = getattr(torch, name, None) if module == "torch" else None
        if isinstance(kind, torch.dtype):
            return kind
        if name not in _CLASSES.get(module, ()):
            raise InputError(
                f"it is refused: it holds {module}.{name}, which could run code when it is read"
            )
        return super().find_class(module, name)
