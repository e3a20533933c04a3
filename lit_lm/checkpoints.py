"""Files of checkpoints: written whole or not at all, checked when read, and never able to run code.

A checkpoint is what ``torch.save`` writes: a zip archive, in which every entry has a checksum (CRC-32; ``unzip -t FILE``
looks at them too, ``torch.load`` does not). It holds tensors and plain types and is read with ``weights_only=True``.
Training over shards may write folders instead (``shard_files.py``), which can be used like files.
"""

from __future__ import annotations

import contextlib
import io
import os
import pickle
import shutil
import zipfile
from pathlib import Path
from typing import Any

import fsspec
import torch
from lightning.fabric.plugins.io import TorchCheckpointIO

from lit_lm import shard_files
from lit_lm.errors import InputError

_SUFFIX = ".ckpt"
AVERAGE = f"average{_SUFFIX}"


class DamagedError(InputError):
    """A checkpoint is not what was written."""


def save(content: dict[str, Any], path: str | Path) -> None:
    """Writes a checkpoint under a temporary name, flushes it to the disk and renames it: whatever happens, ``path`` is
    the old file or the new one. An address such as ``s3://...`` is written as its file system does it.

    Raises:
        InputError: there is no room, or the folder cannot be written to; what was there before is untouched.
    """
    if is_remote(path):
        with fsspec.open(str(path), "wb") as stream:
            torch.save(content, stream)
        return
    path = Path(path)
    temporary = path.with_name(path.name + ".tmp")
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        with temporary.open("wb") as file:
            torch.save(content, file)
            file.flush()
            os.fsync(file.fileno())
        temporary.replace(path)
        _flush_folder(path.parent)
    except (OSError, RuntimeError) as error:
        cause = _os_error(error)
        if cause is None:
            raise
        size = temporary.stat().st_size if temporary.exists() else 0
        with contextlib.suppress(OSError):
            temporary.unlink()
        raise InputError(_no_room(path, cause, size)) from error


def load(path: str | Path, *, lazily: bool = False) -> dict[str, Any]:
    """A checkpoint's content: tensors (on the CPU) and plain types.

    Args:
        path: a file, a folder of shards, or an address that fsspec knows.
        lazily: leave the tensors in the file, and the file unchecked: for reading what is beside them.

    Raises:
        InputError: there is no such file, or it holds more than tensors and plain types.
        DamagedError: it is empty, cut short or altered.
    """
    if is_remote(path):
        try:
            with fsspec.open(str(path), "rb") as stream:
                data = stream.read()
        except (OSError, ImportError, ValueError) as error:
            raise InputError(f"no checkpoint can be read from {path}: {error!r}") from error
        return _read(io.BytesIO(data), str(path))
    if shard_files.is_sharded(path):
        return _load_shards(Path(path), lazily)
    if not Path(path).is_file():
        raise InputError(
            f"no checkpoint {str(path)!r}: training writes them to <run.dir>/<run.name>/checkpoints"
        )
    if lazily:
        return _unpickle(path, str(path), mmap=True)
    with Path(path).open("rb") as file:
        return _read(file, str(path))


def check(path: str | Path) -> None:
    """Raises DamagedError if a file is not the archive that was written, or a folder lacks some of its shards."""
    if Path(path).is_dir():
        _check_shards(Path(path))
        return
    with Path(path).open("rb") as file:
        _check(file, str(path))


def check_can_go_on(content: dict[str, Any], name: str | Path = "the checkpoint") -> None:
    """Raises InputError if training cannot go on from a checkpoint, as it holds weights only."""
    if not {"optimizer_states", "lr_schedulers"} & content.keys():
        raise InputError(
            f"{name} holds weights only, no optimizer: training cannot go on from it. Give one of lit-lm fit, such as "
            "last.ckpt"
        )


def kept(folder: str | Path) -> list[Path]:
    """The last checkpoints of a run, newest first: ``last.ckpt``, ``last-1.ckpt`` and so on."""
    numbered = {
        int(number): path
        for path in Path(folder).glob(f"last*{_SUFFIX}")
        if (number := path.stem.removeprefix("last").removeprefix("-") or "0").isdecimal()
    }
    return [numbered[number] for number in sorted(numbered)]


def make_room(folder: str | Path, keep: int) -> None:
    """Renames ``last.ckpt`` to ``last-1.ckpt``, that to ``last-2.ckpt`` and so on; only ``keep - 1`` of them stay."""
    files = kept(folder)
    for path in files[keep - 1 :] if keep > 1 else files[1:]:
        remove(path)
    for number, path in reversed(list(enumerate(files[: keep - 1], 1))):
        path.replace(path.with_name(f"last-{number}{_SUFFIX}"))


def put(new: Path, path: Path) -> None:
    """Gives a new checkpoint its place; where one of them is a folder, there is a moment without any."""
    if path.is_dir() or (path.exists() and new.is_dir()):
        remove(path)
    new.replace(path)


def remove(path: Path) -> None:
    """Removes a file or a folder of shards."""
    if path.is_dir():
        shutil.rmtree(path)
    else:
        path.unlink(missing_ok=True)


def find(name: str, folder: str | Path) -> Path | None:
    """The file that "best", "average", "last" or "last-intact" means in a folder; None if there is none yet.

    Raises:
        DamagedError: the last one is damaged (or with "last-intact", all are).
    """
    if name in ("best", "average"):
        file = Path(folder) / f"{name}{_SUFFIX}"
        return file if file.exists() else None
    files = kept(folder)
    for i, path in enumerate(files):
        try:
            check(path)
        except (
            InputError
        ) as error:  # also one that is nothing like a checkpoint, such as zeros after a power cut
            rest = [str(p) for p in files[i + 1 :]]
            if name == "last" or not rest:
                hint = (
                    f". The one before it is {rest[0]}: to go on from the newest one that is whole, give "
                    "--ckpt_path=last-intact"
                    if rest
                    else ". There is none before it: start anew without --ckpt_path"
                )
                raise DamagedError(f"{error}{hint}") from error
            print(f"{error}: going on from the one before it")
        else:
            return path
    return None


def is_remote(path: str | Path) -> bool:
    """Whether a path is an address of a file system other than this machine's."""
    return "://" in str(path) and not str(path).startswith("file://")


class CheckpointFiles(TorchCheckpointIO):
    """Lightning's reading and writing of checkpoints, by :func:`save` and :func:`load`."""

    def save_checkpoint(
        self, checkpoint: dict[str, Any], path: str | Path, storage_options: Any = None
    ) -> None:
        """See :func:`save`."""
        save(checkpoint, path)

    def load_checkpoint(
        self, path: str | Path, map_location: Any = None, weights_only: bool | None = True
    ) -> dict[str, Any]:
        """See :func:`load`; ``weights_only`` is always true."""
        return load(path)


def _load_shards(folder: Path, lazily: bool) -> dict[str, Any]:
    """Lazily, the weights are shapes without numbers, and there are no optimizers."""
    _check_shards(folder)
    with (folder / shard_files.META).open("rb") as file:
        content = _unpickle(file, str(folder), whole=False)
    more = {"state_dict": shard_files.outline(folder)} if lazily else shard_files.read(folder)
    return content | more


def _check_shards(folder: Path) -> None:
    try:
        with (folder / shard_files.META).open("rb") as file:
            _check(file, str(folder / shard_files.META))
    except FileNotFoundError as error:
        raise DamagedError(f"{folder} is damaged: it has no {shard_files.META}") from error
    wrong = shard_files.problem(folder)
    if wrong is not None:
        raise DamagedError(f"{folder} is damaged: {wrong}")


def _read(file: Any, name: str) -> dict[str, Any]:
    _check(file, name)
    file.seek(0)
    return _unpickle(file, name)


def _check(file: Any, name: str) -> None:
    file.seek(0, os.SEEK_END)
    if file.tell() == 0:
        raise DamagedError(f"{name} is damaged: it is empty (0 bytes)")
    file.seek(0)
    start = file.read(4)
    try:
        with zipfile.ZipFile(file) as archive:
            wrong = archive.testzip()
    except (zipfile.BadZipFile, EOFError, OSError, NotImplementedError, ValueError) as error:
        if start != b"PK\x03\x04":
            raise InputError(
                f"{name} cannot be read as a checkpoint: it is no archive of tensors (or it is damaged from its "
                "first bytes on)"
            ) from error
        raise DamagedError(f"{name} is damaged: it is cut short or altered ({error})") from error
    if wrong is not None:
        raise DamagedError(f"{name} is damaged: the checksum of its entry {wrong!r} is wrong")


def _unpickle(source: Any, name: str, *, whole: bool = True, **options: Any) -> dict[str, Any]:
    try:
        content = torch.load(source, map_location="cpu", weights_only=True, **options)
    except pickle.UnpicklingError as error:
        raise InputError(
            f"{name} is refused: it holds more than tensors and plain types, which could run code when it is read "
            f"({_first_line(error)})"
        ) from error
    except Exception as error:
        raise InputError(f"{name} cannot be read as a checkpoint ({_first_line(error)})") from error
    if not isinstance(content, dict) or (whole and "state_dict" not in content):
        raise InputError(f"{name} is not a checkpoint of lit_lm: it has no 'state_dict'")
    return content


def _first_line(error: Exception) -> str:
    lines = [line for line in str(error).splitlines() if line.strip()]
    told = next((line for line in lines if "Unsupported" in line or "GLOBAL" in line), None)
    return (told or (lines[0] if lines else type(error).__name__)).strip()[:200]


def _os_error(error: BaseException | None) -> OSError | None:
    """The operating system's error behind one of torch's."""
    while error is not None:
        if isinstance(error, OSError):
            return error
        error = error.__cause__ or error.__context__
    return None


def _no_room(path: Path, error: OSError, written: int) -> str:
    try:
        free = f", {shutil.disk_usage(path.parent).free / 2**20:,.0f} MiB are free there now"
    except OSError:
        free = ""
    intact = [p for p in (path, *kept(path.parent)) if p.is_file()]
    last = f" {intact[0]}, from before, is untouched." if intact else ""
    return (
        f"{path} could not be written: {error.strerror or error} (after {written / 2**20:,.1f} MiB{free}).{last} "
        "Make room, or set another run.dir, and go on with --ckpt_path=last"
    )


def _flush_folder(folder: Path) -> None:
    """So that a rename survives a power cut; not every system can."""
    with contextlib.suppress(OSError):
        handle = os.open(folder, os.O_RDONLY)
        try:
            os.fsync(handle)
        finally:
            os.close(handle)
