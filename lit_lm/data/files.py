"""Reading text files strictly: UTF-8 or an error that says where. Files here, and at addresses that fsspec knows.
Knows nothing of tokens or tensors.
"""

from __future__ import annotations

import glob
import hashlib
import io
import os
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any, BinaryIO

import fsspec

from lit_lm.errors import InputError

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20
_ENDS = 1 << 16


def is_address(path: str) -> bool:
    """Whether `path` is an address of fsspec, such as `s3://bucket/name`, and no path of this machine."""
    return "://" in path


def file_system(address: str) -> tuple[Any, str]:
    """The file system of an address, and what the address is called there.

    Raises:
        InputError: there is none of that name, or its library is not installed.
    """
    try:
        system, path = fsspec.core.url_to_fs(address)
    except ImportError as error:
        raise InputError(
            f"{address}: {error}. For s3:// that is `pip install 'lit_lm[remote]'`, for gs:// `pip install gcsfs`."
        ) from None
    except ValueError as error:
        raise InputError(f"{address}: {error}.") from None
    return system, path


def expand(paths: str | list[str]) -> list[str]:
    """One path or several, as a list; in place of a pattern (`*`, `?`, `[...]`, `**`) what it matches, sorted.

    Raises:
        InputError: a pattern matches nothing.
    """
    found: list[str] = []
    for path in [paths] if isinstance(paths, str) else paths:
        pattern = glob.has_magic(path) and (is_address(path) or not os.path.exists(path))
        matches = sorted(_matches(path)) if pattern else [path]
        if not matches:
            raise InputError(f"{path} matches no file. {_mend()}")
        found += matches
    return found


def _matches(pattern: str) -> list[str]:
    if not is_address(pattern):
        found = glob.glob(os.path.expanduser(pattern), recursive=True)
        return [path for path in found if not os.path.isdir(path)]
    system, path = file_system(pattern)
    return [system.unstrip_protocol(name) for name in system.glob(path)]


def open_bytes(path: str) -> BinaryIO:
    """A file to read, here or at an address.

    Raises:
        InputError: there is no such file, or it is empty.
    """
    if not is_address(path):
        return as_path(path).open("rb")
    size_of(path)
    system, name = file_system(path)
    return io.BufferedReader(system.open(name, "rb"), _CHUNK)


def size_of(path: str) -> int:
    """Bytes of a file, here or at an address; see `open_bytes`."""
    if not is_address(path):
        return as_path(path).stat().st_size
    system, name = file_system(path)
    try:
        size = system.info(name)["size"]
    except FileNotFoundError:
        raise InputError(f"{path}: no such file. Mend the address in `data.source`.") from None
    except PermissionError as error:
        raise InputError(f"{path}: {error}. Its credentials come from the environment.") from None
    if not size:
        raise InputError(f"{path} is empty (0 bytes, or its server does not tell its size).")
    return int(size)


def signature(path: str) -> list[Any]:
    """What tells a file from others without reading all of it: size, and a digest of its first and last 64 KiB."""
    size = size_of(path)
    with open_bytes(path) as stream:
        digest = hashlib.blake2b(stream.read(_ENDS), digest_size=16)
        stream.seek(max(size - _ENDS, 0))
        digest.update(stream.read(_ENDS))
    return [size, digest.hexdigest()]


def as_path(path: str) -> Path:
    """The file that `path` names; relative to the working directory, `~` is the home folder.

    Raises:
        InputError: there is no such file, it is a folder, or it is empty.
    """
    file = Path(path).expanduser()
    if file.is_dir():
        raise InputError(f"{path} is a folder, where a file is wanted: name the file inside it.")
    if not file.exists():
        raise InputError(f"{path}: no such file{_missing_part(file)}. {_mend()}")
    if file.stat().st_size == 0:
        raise InputError(f"{path} is empty (0 bytes): give a file that holds text.")
    return file


def _missing_part(file: Path) -> str:
    """Say which folder on the way is missing, when it is not the file alone."""
    missing = next((p for p in reversed(file.parents) if not p.exists()), None)
    return "" if missing is None else f" (already the folder {missing} is missing)"


def _mend() -> str:
    folder = os.environ.get("LIT_LM_DATA")
    mend = "Mend the path in `data.source` (relative paths start at the working directory"
    if folder:
        return f"{mend}; LIT_LM_DATA is {folder!r})."
    return (
        f"{mend}), or, for the shipped configurations, set the environment variable LIT_LM_DATA, "
        "which is not set, to the folder that holds the corpora."
    )


def read_lines(path: str) -> Iterator[str]:
    """Lines of a UTF-8 file without their line ends, in constant memory.

    Only "\\n" and "\\r\\n" end a line (not U+2028 and its like); a byte order mark is dropped.

    Raises:
        InputError: the file is missing or empty, or a line is not UTF-8.
    """
    with open_bytes(path) as stream:
        for number, raw in enumerate(stream, start=1):
            if number == 1:
                raw = raw.removeprefix(_BOM)
                _check_line_ends(raw, path)
            line = raw[:-2] if raw.endswith(b"\r\n") else raw.removesuffix(b"\n")
            yield _decode(line, path, number)


def _check_line_ends(first: bytes, path: str) -> None:
    """A file without any line feed, but with carriage returns, would be a single line."""
    if not first.endswith(b"\n") and b"\r" in first.rstrip(b"\r"):
        raise InputError(
            f"{path}: lines end in a carriage return only, as on old Macs. Convert the file first, for example "
            f"`tr '\\r' '\\n' < {path} > new.txt`."
        )


def read_text(path: str) -> str:
    """A whole UTF-8 file as it is, but for a byte order mark and "\\r\\n", which becomes "\\n".

    Raises:
        InputError: the file is missing or empty, or is not UTF-8.
    """
    with open_bytes(path) as stream:
        data = stream.read().removeprefix(_BOM)
    return _decode(data, path, 1).replace("\r\n", "\n")


def lines_from(path: str, start: int) -> Iterator[tuple[int, str]]:
    """Lines as `read_lines` has them, each with the byte that it starts at: from the one on that holds byte `start`.

    Raises:
        InputError: as there; instead of the line's number its byte is named.
    """
    with open_bytes(path) as stream:
        at = _line_start(stream, start)
        stream.seek(at)
        for raw in stream:
            line = raw
            if at == 0:
                line = raw.removeprefix(_BOM)
                _check_line_ends(line, path)
            line = line[:-2] if line.endswith(b"\r\n") else line.removesuffix(b"\n")
            try:
                text = line.decode()
            except UnicodeDecodeError as error:
                raise InputError(
                    f"{path}, byte {at + error.start}: 0x{line[error.start]:02x} is not valid UTF-8. "
                    f"Convert the file first, for example `iconv -f LATIN1 -t UTF-8 {path}`."
                ) from None
            yield at, text
            at += len(raw)


def _line_start(stream: BinaryIO, at: int) -> int:
    """Where the line starts that holds byte `at`."""
    step = 1 << 10
    while at > 0:
        begin = max(at - step, 0)
        stream.seek(begin)
        if (cut := stream.read(at - begin).rfind(b"\n")) >= 0:
            return begin + cut + 1
        at, step = begin, 2 * step
    return 0


def byte_ranges(paths: list[str], i: int, n: int) -> Iterator[tuple[str, int, int]]:
    """Part i (from 0) of n parts of files laid end to end: path, first byte, and the byte behind the last."""
    sizes = [size_of(path) for path in paths]
    total, begin = sum(sizes), 0
    low, high = total * i // n, total * (i + 1) // n
    for path, size in zip(paths, sizes, strict=True):
        start, stop = max(low - begin, 0), min(high - begin, size)
        if start < stop:
            yield path, start, stop
        begin += size


def _decode(data: bytes, path: str, line: int) -> str:
    try:
        return data.decode("utf-8")
    except UnicodeDecodeError as error:
        if line == 1 and data.startswith((b"\xff\xfe", b"\xfe\xff")):
            raise InputError(
                f"{path} is UTF-16, not UTF-8: convert it first, `iconv -f UTF-16 -t UTF-8 {path} > new.txt`."
            ) from None
        line += data.count(b"\n", 0, error.start)
        column = error.start - (data.rfind(b"\n", 0, error.start) + 1) + 1
        raise InputError(
            f"{path}, line {line}, byte {column}: 0x{data[error.start]:02x} is not valid UTF-8. "
            f"Convert the file first, for example `iconv -f LATIN1 -t UTF-8 {path}`."
        ) from None


def count_lines(path: str) -> int:
    """Lines of a file as `read_lines` has them: what stands behind the last line end is one more."""
    count, last = 0, b""
    with open_bytes(path) as stream:
        while chunk := stream.read(_CHUNK):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


def hash_files(paths: Iterable[str]) -> str:
    """Hexadecimal digest over the bytes of files, in order, read in constant memory."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        digest.update(size_of(path).to_bytes(8, "little"))
        with open_bytes(path) as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
