"""A folder at any address of fsspec, and waiting for it when it does not answer."""

from __future__ import annotations

import errno
import json
import logging
import os
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, TypeVar

from lit_lm.data.files import file_system, is_address
from lit_lm.errors import InputError

T = TypeVar("T")

_log = logging.getLogger("lightning.pytorch.lit_lm")  # Lightning shows what its own loggers say
_FIRST_WORD, _LONGEST_SILENCE, _LONGEST_PAUSE = 5.0, 60.0, 30.0
# Libraries whose own exceptions say that something does not answer.
_NETWORK = {
    "aiobotocore", "aiohttp", "botocore", "fsspec", "gcsfs", "google", "httpcore", "httpx", "huggingface_hub", "requests",
    "s3fs", "urllib3",
}  # fmt: skip
# What no waiting mends.
_FINAL = {
    errno.EACCES, errno.EDQUOT, errno.EINVAL, errno.EISDIR, errno.ENAMETOOLONG, errno.ENOENT, errno.ENOSPC, errno.ENOTDIR,
    errno.EPERM, errno.EROFS,
}  # fmt: skip
# The answers of HTTP that say "not now"; its others of the 400s say "never", and these two of the 500s too.
_NOT_NOW, _NEVER = {408, 421, 425, 429}, {501, 505}
_ADVICE = {
    401: "log in as its library wants it",
    403: "see that you may read and write there",
    405: "it can only be read; write to another address",
    501: "it can only be read; write to another address",
}


def may_pass(error: Exception) -> bool:
    """Whether an error may be gone when the same is tried again: of the network, or of what is behind it."""
    status = _status(error)
    if status is not None and (
        status in _NEVER or (400 <= status < 500 and status not in _NOT_NOW)
    ):
        return False
    if isinstance(error, OSError):
        return error.errno not in _FINAL and not isinstance(
            error, FileNotFoundError | PermissionError
        )
    return type(error).__module__.partition(".")[0] in _NETWORK


def _status(error: Exception) -> int | None:
    """The answer of HTTP that an error is about, wherever its library keeps it."""
    found = getattr(error, "status", None) or getattr(error, "code", None)
    found = found or getattr(getattr(error, "response", None), "status_code", None)
    return found if isinstance(found, int) else None


class Waiting:
    """How long something has been waited for: said at growing intervals, until patience ends.

    Args:
        what: what is waited for.
        patience: seconds.
    """

    def __init__(self, what: str, patience: float) -> None:
        self._what, self._patience = what, patience
        self._begin = time.monotonic()
        self._next, self._said = _FIRST_WORD, False

    @property
    def seconds(self) -> float:
        """Since it began."""
        return time.monotonic() - self._begin

    def go_on(self, why: str) -> None:
        """Says so, if it is time to.

        Raises:
            InputError: it has been long enough.
        """
        seconds = self.seconds
        if seconds >= self._patience:
            raise InputError(
                f"{self._what} did not come in {seconds:.0f} s ({why}): see that its server runs and can be reached, then "
                "start again with --ckpt_path=last. `patience` says how long to wait."
            )
        if seconds >= self._next or (why and not self._said):
            self._next, self._said = seconds + min(seconds + 1, _LONGEST_SILENCE), True
            _log.warning(
                "Waiting for %s, for %.0f s so far%s.", self._what, seconds, why and f" ({why})"
            )

    def end(self) -> None:
        """It is there."""
        if self._said:
            _log.warning("%s came after %.0f s: going on.", self._what, self.seconds)


@dataclass(frozen=True)
class Address:
    """A folder at an address such as `s3://bucket/name`, or one on this machine.

    Args:
        url: the address.
        patience: seconds to wait for an answer before giving up.
    """

    url: str
    patience: float = 3600.0

    @property
    def local(self) -> Path | None:
        """The folder, if it is on this machine."""
        if is_address(self.url):
            return Path(self.url.removeprefix("file://")) if self.url[:7] == "file://" else None
        return Path(self.url).expanduser()

    def _file(self, name: str) -> tuple[Any, str]:
        system, path = file_system(self.url)
        return system, f"{path.rstrip('/')}/{name}"

    def read(self, name: str) -> bytes:
        """A file's content.

        Raises:
            InputError: there is no such file, or it did not come in time.
        """

        def work() -> bytes:
            system, path = self._file(name)
            return bytes(system.cat_file(path))

        return self.insist(name, work)

    def read_all(self, names: Sequence[str]) -> list[bytes]:
        """Several files' contents, at once where the file system can; see `read`."""

        def work() -> list[bytes]:
            system, folder = self._file("")
            found = system.cat([f"{folder}{name}" for name in names], on_error="raise")
            if isinstance(found, bytes):  # of a single one
                return [found]
            by_name = {path.rpartition("/")[2]: content for path, content in found.items()}
            return [by_name[name] for name in names]

        return self.insist(f"{names[0]} and others", work)

    def has(self, name: str) -> bool:
        """Whether a file is there."""

        def work() -> bool:
            system, path = self._file(name)
            system.invalidate_cache(path.rpartition("/")[0])
            return bool(system.exists(path))

        return self.insist(name, work)

    def fetch(self, name: str, to: Path) -> None:
        """Copies a file to this machine; see `read`."""

        def work() -> None:
            system, path = self._file(name)
            system.get_file(path, str(to))

        self.insist(name, work)

    def try_fetch(self, name: str, to: Path) -> None:
        """Copies a file, or raises what comes."""
        system, path = self._file(name)
        system.get_file(path, str(to))

    def names(self) -> set[str]:
        """The files in the folder; none where there is no folder."""

        def work() -> set[str]:
            system, path = self._file("")
            system.invalidate_cache(path.rstrip("/"))
            try:
                found = system.ls(path.rstrip("/"), detail=False)
            except FileNotFoundError:
                return set()
            return {name.rstrip("/").rpartition("/")[2] for name in found}

        return self.insist("its list of files", work)

    def put(self, content: Path | bytes, name: str) -> None:
        """Writes a file; whoever reads it sees all of it or none, on this machine and in object stores."""

        def work() -> None:
            if self.local is not None:
                _put_here(content, self.local / name)
                return
            system, path = self._file(name)
            if isinstance(content, bytes):
                system.pipe_file(path, content)
            else:
                system.put_file(str(content), path)

        self.insist(name, work)

    def put_json(self, content: Any, name: str) -> None:
        """Writes plain types; equal ones as equal bytes."""
        self.put(json.dumps(content, indent=1, sort_keys=True).encode(), name)

    def waiting(self, what: str) -> Waiting:
        """Waiting for something of this address begins."""
        return Waiting(f"{self.url.rstrip('/')} ({what})", self.patience)

    def insist(self, what: str, work: Callable[[], T], *, long: bool = False) -> T:
        """Does `work`, again and again with growing pauses while it fails as networks do, and says what it waits for.

        Args:
            what: what it is about, for people.
            work: what may be done again.
            long: it takes its time; only waiting between its attempts counts.

        Raises:
            InputError: it has not been done in `patience` seconds, or fails for another reason.
        """
        if self.local is not None and not long:
            return self._explained(what, work)
        waiting, pause = self.waiting(what), 1.0
        while True:
            attempt = _Attempt(lambda: self._explained(what, work))
            while not attempt.done.wait(1.0):
                if not long and waiting.seconds >= _FIRST_WORD:
                    waiting.go_on("no answer")
            if attempt.error is None:
                waiting.end()
                return attempt.result  # type: ignore[no-any-return]
            if not may_pass(attempt.error):
                raise attempt.error
            if long and pause == 1.0:  # its own time does not count
                waiting = self.waiting(what)
            waiting.go_on(f"{type(attempt.error).__name__}: {str(attempt.error)[:200]}")
            time.sleep(min(pause, max(self.patience - waiting.seconds, 0.0)))
            pause = min(2 * pause, _LONGEST_PAUSE)

    def _explained(self, what: str, work: Callable[[], T]) -> T:
        try:
            return work()
        except FileNotFoundError as error:
            raise InputError(
                f"{self.url} has no {what} ({error}): mend the address, or prepare it with `lit-lm prepare --to`."
            ) from error
        except Exception as error:
            status = _status(error)
            if may_pass(error) or not (status or isinstance(error, OSError)):
                raise
            advice = f": {_ADVICE[status]}" if status in _ADVICE else ""
            raise InputError(f"{self.url}: {what}: {error}{advice}.") from error


class _Attempt:
    """Work in a thread, so that whoever waits for it can say so."""

    def __init__(self, work: Callable[[], Any]) -> None:
        self.done = threading.Event()
        self.result: Any = None
        self.error: Exception | None = None
        threading.Thread(target=self._run, args=(work,), daemon=True).start()

    def _run(self, work: Callable[[], Any]) -> None:
        try:
            self.result = work()
        except Exception as error:
            self.error = error
        self.done.set()


def _put_here(content: Path | bytes, path: Path) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = path.with_name(f".{path.name}.{os.getpid()}.{threading.get_ident()}.tmp")
    with temporary.open("wb") as out:
        if isinstance(content, bytes):
            out.write(content)
        else:
            with content.open("rb") as stream:
                while block := stream.read(1 << 20):
                    out.write(block)
        out.flush()
        os.fsync(out.fileno())
    temporary.replace(path)
