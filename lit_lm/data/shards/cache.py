"""Shards on this machine: a folder of bounded size that all processes of the machine share."""

from __future__ import annotations

import contextlib
import os
import shutil
import threading
from collections.abc import Sequence
from pathlib import Path

from filelock import FileLock, Timeout

from lit_lm.data.prepare import cache_folder
from lit_lm.data.shards.address import Address
from lit_lm.data.shards.manifest import ENDINGS, Manifest, Shard, digest_of_files
from lit_lm.errors import InputError

_STEM = "text"
_TRIES = 3


class ShardCache:
    """Fetches shards and keeps those that were used last. One that lies on this machine already is read where it is.

    A shard is a folder that is moved into place when it is whole. Who holds its lock fetches it, and others wait. What is
    deleted stays readable for those that have it open.

    Args:
        address: where the shards are.
        manifest: what they are.
        most: bytes that they may take here.
    """

    def __init__(self, address: Address, manifest: Manifest, most: int) -> None:
        self._address, self._most = address, most
        self.folder = cache_folder() / f"shards-{manifest.content}"
        self._sizes = {s.name: s.size for shards in manifest.splits.values() for s in shards}
        self._ahead: threading.Thread | None = None

    def stem(self, shard: Shard) -> Path:
        """The path of a shard's files without their endings; fetches them if they are not here.

        Raises:
            InputError: the address does not answer for too long, or what it holds is damaged.
        """
        if (local := self._address.local) is not None:
            return local / shard.name
        waiting = self._address.waiting(f"{shard.name}, which another thread or process fetches")
        while not self._is_here(shard):
            try:
                with self._lock(shard.name, 1.0):
                    if not self._is_here(shard):
                        self._fetch(shard, patiently=True)
            except Timeout:
                waiting.go_on("no answer" if waiting.seconds > 5 else "")
        waiting.end()
        return self.folder / shard.name / _STEM

    def ahead(self, shards: Sequence[Shard]) -> None:
        """Begins to fetch shards that will be wanted soon, in the background. What fails is left to `stem`."""
        if self._address.local is not None:
            return
        before = self._ahead

        def work() -> None:
            if before is not None:
                before.join()
            for shard in shards:
                with contextlib.suppress(Exception), self._lock(shard.name, -1):
                    if not self._is_here(shard):
                        self._fetch(shard, patiently=False)

        self._ahead = threading.Thread(target=work, daemon=True)
        self._ahead.start()

    def _is_here(self, shard: Shard) -> bool:
        """Whether it is; then it was used now."""
        try:
            os.utime(self.folder / shard.name)
        except FileNotFoundError:
            return False
        return True

    def _lock(self, name: str, timeout: float) -> FileLock:
        try:
            self.folder.mkdir(parents=True, exist_ok=True)
        except OSError as error:
            raise InputError(
                f"the cache {self.folder} cannot be written ({error}): set LIT_LM_CACHE to a folder that can."
            ) from None
        return FileLock(self.folder / f"{name}.lock", timeout=timeout)

    def _fetch(self, shard: Shard, *, patiently: bool) -> None:
        """With the shard's lock held."""
        work = self.folder / f".{shard.name}"
        for _ in range(_TRIES):
            shutil.rmtree(work, ignore_errors=True)  # its maker is dead
            self._make_room(shard, work)
            files = [work / f"{_STEM}{ending}" for ending in ENDINGS]
            fetch = self._address.fetch if patiently else self._address.try_fetch
            for ending, file in zip(ENDINGS, files, strict=True):
                fetch(f"{shard.name}{ending}", file)
            if digest_of_files(files) == shard.digest:
                work.rename(self.folder / shard.name)
                return
        shutil.rmtree(work)
        raise InputError(
            f"{self._address.url}: {shard.name} is not what the index says, fetched {_TRIES} times: delete "
            "index.json and what begins with that name, and prepare again."
        )

    def _make_room(self, shard: Shard, work: Path) -> None:
        """Deletes what was used longest ago until there is room, and takes it."""
        with self._lock("room", -1):
            here = []
            total = shard.size
            for path in self.folder.iterdir():
                if size := self._sizes.get(path.name.removeprefix(".")):
                    total += size
                    if not path.name.startswith("."):
                        here.append((path.stat().st_mtime_ns, path, size))
            for _, path, size in sorted(here):
                if total <= self._most:
                    break
                gone = path.with_name(f"{path.name}.{os.getpid()}.old")
                path.rename(gone)
                shutil.rmtree(gone)
                total -= size
            work.mkdir()
