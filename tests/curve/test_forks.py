import os
import signal
import subprocess
import time

import pytest

from lit_lm.compare.forks import CAN_FORK, Forks

pytestmark = pytest.mark.skipif(not CAN_FORK, reason="forks are for Linux")


def start(forks, folder, word):
    """A process that does what the word says, and its log."""
    job = folder / f"{word}.txt"
    job.write_text(word)
    with (folder / f"{word}.log").open("ab") as log:
        return forks.start(job, log, {**os.environ, "CURVE_TEST": "heard"})


def test_processes_of_one_host(tmp_path):
    with Forks("tests.curve.fake_child") as forks:
        words = ("ends", "raises", "exits", "killed", "waits")
        processes = {word: start(forks, tmp_path, word) for word in words}
        assert len({process.pid for process in processes.values()}) == 5
        codes = {word: processes[word].wait(20) for word in words[:4]}
        assert codes == {"ends": 0, "raises": 1, "exits": 4, "killed": -signal.SIGKILL}
        logs = {word: (tmp_path / f"{word}.log").read_text() for word in words}
        assert [log.splitlines()[0] for log in logs.values()] == [f"said {w} heard" for w in words]
        assert logs["raises"].splitlines()[-1] == "ValueError: out of luck"

        waiting = processes["waits"]
        assert waiting.poll() is None
        with pytest.raises(subprocess.TimeoutExpired):
            waiting.wait(0.1)
        os.killpg(waiting.pid, signal.SIGTERM)  # it leads a group of its own
        assert waiting.wait(20) == -signal.SIGTERM

        # A host that is killed takes its processes along, and the next one gets a new host.
        left = start(forks, tmp_path, "waits")
        os.kill(_parent(left.pid), signal.SIGKILL)
        assert left.wait(20) == -signal.SIGKILL
        os.killpg(left.pid, signal.SIGKILL)
        assert start(forks, tmp_path, "ends").wait(20) == 0

        # Nor does a process outlive whoever wanted it.
        left = start(forks, tmp_path, "waits")
        forks._host.stdin.close()
        assert left.wait(20) == -signal.SIGKILL
        deadline = time.monotonic() + 20
        while _state(left.pid) not in "Z" and time.monotonic() < deadline:
            time.sleep(0.02)
        assert _state(left.pid) in "Z"  # gone, or nobody has asked yet what became of it


def test_a_host_that_cannot_import_says_so_in_the_log(tmp_path):
    with Forks("tests.curve.no_such_module") as forks:
        process = start(forks, tmp_path, "ends")
        deadline = time.monotonic() + 20
        assert process.wait(20) == 1
        assert time.monotonic() < deadline
    assert "no_such_module" in (tmp_path / "ends.log").read_text().splitlines()[-1]


def _parent(pid):
    return int(_stat(pid)[1])


def _state(pid):
    return _stat(pid)[0]


def _stat(pid):
    """Of a process its state and what follows in Linux's list; an empty state if it is gone."""
    try:
        with open(f"/proc/{pid}/stat") as stat:
            return stat.read().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return [""]
