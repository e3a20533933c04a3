"""Processes that begin with everything imported: forked from one that has done nothing else.

To import takes longer than most of what tests do, and a fork of the tests' own process would have its threads, locks and
random numbers. Where a command line itself is to be shown, from the interpreter on, tests start it as a user does.
"""

from __future__ import annotations

import os
import signal
import sys
from collections.abc import Callable, Sequence
from multiprocessing.context import ForkServerProcess
from pathlib import Path

from torch import multiprocessing

METHOD = "forkserver"
multiprocessing.set_forkserver_preload([__name__, "tests.tiny", "lit_lm.training"])


def adopt(environment: dict[str, str]) -> None:
    """Takes on an environment: a fork has that of the moment at which the first was started."""
    os.environ.clear()
    os.environ |= environment


class Command:
    """``lit-lm`` in a process of its own.

    Args:
        args: of the command line.
        work: a folder for what it reads (``stdin``) and writes (``stdout``, ``stderr``).
        stdin: what it reads.
        main: does it; it stands in a module.
    """

    def __init__(
        self,
        args: Sequence[str],
        work: Path,
        stdin: bytes = b"",
        main: Callable[[list[str]], int] | None = None,
    ) -> None:
        self._work = work
        work.mkdir(parents=True, exist_ok=True)
        for name, content in (("stdin", stdin), ("stdout", b""), ("stderr", b"")):
            (work / name).write_bytes(content)
        context = multiprocessing.get_context(METHOD)
        self.process: ForkServerProcess = context.Process(
            target=_command, args=(list(args), str(work), dict(os.environ), main)
        )
        self.process.start()

    @property
    def stdout(self) -> bytes:
        """What it has written."""
        return (self._work / "stdout").read_bytes()

    @property
    def stderr(self) -> bytes:
        """What it has written."""
        return (self._work / "stderr").read_bytes()

    @property
    def running(self) -> bool:
        """Whether it has not ended yet."""
        return self.process.exitcode is None

    def send(self, number: signal.Signals) -> None:
        """Sends it a signal."""
        assert self.process.pid is not None
        os.kill(self.process.pid, number)

    def wait(self, seconds: float = 200) -> int:
        """Its status, negative where a signal ended it; it is killed if it takes longer."""
        self.process.join(seconds)
        if self.running:
            self.process.kill()
            self.process.join()
        assert self.process.exitcode is not None
        return self.process.exitcode


def _command(
    args: list[str],
    work: str,
    environment: dict[str, str],
    main: Callable[[list[str]], int] | None,
) -> None:
    adopt(environment)
    for number, (name, mode) in enumerate(
        (("stdin", os.O_RDONLY), ("stdout", os.O_WRONLY), ("stderr", os.O_WRONLY))
    ):
        file = os.open(f"{work}/{name}", mode)
        os.dup2(file, number)
        os.close(file)
    sys.stdin = open(0, closefd=False)  # noqa: SIM115
    # Tests that a shell has put into the background ignore Ctrl-C, and so would what they start.
    signal.signal(signal.SIGINT, signal.default_int_handler)
    if main is None:
        from lit_lm.cli import main
    sys.exit(main(args))
