"""Reading text files strictly: UTF-8 or an error that says where. Knows nothing of tokens or
tensors.
"""

from __future__ import annotations

import hashlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from lit_lm.errors import InputError

_BOM = b"\xef\xbb\xbf"
_CHUNK = 1 << 20


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
    with as_path(path).open("rb") as stream:
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
    data = as_path(path).read_bytes().removeprefix(_BOM)
    return _decode(data, path, 1).replace("\r\n", "\n")


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
    with as_path(path).open("rb") as stream:
        while chunk := stream.read(_CHUNK):
            count, last = count + chunk.count(b"\n"), chunk[-1:]
    return count + (last != b"\n")


def hash_files(paths: Iterable[str]) -> str:
    """Hexadecimal digest over the bytes of files, in order, read in constant memory."""
    digest = hashlib.blake2b(digest_size=16)
    for path in paths:
        file = as_path(path)
        digest.update(file.stat().st_size.to_bytes(8, "little"))
        with file.open("rb") as stream:
            while chunk := stream.read(_CHUNK):
                digest.update(chunk)
    return digest.hexdigest()
