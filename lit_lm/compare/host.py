"""``python -m lit_lm.compare.host MODULE ...``: imports the modules; for every job a child calls the first one's ``main``.

It runs one thread and touches no device, so that a child begins as a process of its own would. What it is told and what
it answers are lines of JSON.
"""

from __future__ import annotations

import importlib
import json
import os
import select
import signal
import sys
from collections.abc import Sequence
from pathlib import Path

from lit_lm.startup import importing

_TICK = 0.05


def host(modules: Sequence[str]) -> int:
    """Imports the modules, forks for every line of stdin, and says on stdout who has started and who has ended."""
    answers = os.dup(1)
    os.dup2(2, 1)  # what an import prints is no answer
    with importing():
        first, *_ = [importlib.import_module(name) for name in modules]
    children: set[int] = set()
    while True:
        if select.select([0], [], [], _TICK)[0]:
            line = sys.stdin.readline()
            if not line:  # whoever has started us is gone
                for pid in children:
                    os.killpg(pid, signal.SIGKILL)
                return 0
            told = json.loads(line)
            pid = os.fork()
            if pid == 0:
                os.close(answers)
                _begin(told["log"])
                # Lightning starts a run's further processes as it finds the first one was started.
                sys.argv[:] = [str(first.__file__), told["job"]]
                sys.modules["__main__"].__spec__ = first.__spec__
                status: int = first.main(Path(told["job"]))
                return status
            # Child and parent both do it: whoever comes first, the group is there before anyone is told of it.
            os.setpgid(pid, pid)
            children.add(pid)
            _say(answers, pid, None)
        for pid in list(children):
            ended, status = os.waitpid(pid, os.WNOHANG)
            if ended:
                children.remove(pid)
                _say(answers, pid, os.waitstatus_to_exitcode(status))


def _begin(log: str) -> None:
    """A child's own process group, input and output."""
    os.setpgid(0, 0)
    for stream, path, mode in ((0, os.devnull, os.O_RDONLY), (1, log, os.O_WRONLY | os.O_APPEND)):
        opened = os.open(path, mode)
        os.dup2(opened, stream)
        os.close(opened)
    os.dup2(1, 2)


def _say(answers: int, pid: int, code: int | None) -> None:
    os.write(answers, json.dumps([pid, code]).encode() + b"\n")


if __name__ == "__main__":
    sys.exit(host(sys.argv[1:]))
