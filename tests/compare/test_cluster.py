"""Jobs that are sent off, by submitit's real local mode: lost ones are sent again, and none runs twice."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import threading
import time
from pathlib import Path

import pytest

from lit_lm import configs
from lit_lm.compare import MembersFailed, runner
from lit_lm.compare.cluster import SUBMITTED, Cluster, Executor, load
from lit_lm.compare.files import read_json
from lit_lm.errors import InputError
from tests.conftest import ROOT

from .conftest import COMMAND, LM, TRANSLATOR

LOCAL = Executor("local", {"timeout_min": 5}, retries=1)


def started(house, name: str) -> bool:
    path = house.folder / "out" / "starts.txt"
    return path.exists() and name in path.read_text().split()


def wait_for(condition) -> None:
    end = time.monotonic() + 60
    while not condition():
        assert time.monotonic() < end
        time.sleep(0.05)


def process_of(house, name: str) -> int:
    """The process of a member, not the one that has started it."""
    job = str(house.output / name / "job.json")
    for folder in Path("/proc").glob("[0-9]*"):
        try:
            words = (folder / "cmdline").read_bytes().decode().split("\0")
        except OSError:
            continue
        if words[1:3] == [COMMAND[1], job]:
            return int(folder.name)
    raise AssertionError(f"nobody runs {job}")


def test_members_run_elsewhere_and_one_that_fails_is_not_sent_again(house):
    house.add("gpt", LM)
    house.add("bad", TRANSLATOR | {"fail": 3})
    with pytest.raises(MembersFailed, match="bad failed"):
        house.run(cluster=Cluster(LOCAL), jobs=2)
    assert sorted(house.starts()) == ["bad", "gpt"]
    assert "a line of the log of gpt" in (house.output / "gpt" / "log.txt").read_text()
    assert read_json(house.output / "gpt" / SUBMITTED)["cluster"] == "local"


def test_a_lost_member_is_sent_again(house, tmp_path, capsys):
    house.add("gpt", LM | {"wait_for": str(tmp_path / "go")})

    def kill() -> None:
        wait_for(lambda: started(house, "gpt"))
        os.kill(process_of(house, "gpt"), signal.SIGKILL)
        (tmp_path / "go").touch()

    thread = threading.Thread(target=kill)
    thread.start()
    house.run(cluster=Cluster(LOCAL))
    thread.join()
    assert house.starts() == ["gpt", "gpt"]
    assert "gpt: was lost, and is sent again" in capsys.readouterr().out


def test_when_the_watcher_is_gone_members_go_on_and_are_found_again(
    house, tmp_path, monkeypatch, capsys
):
    house.add("gpt", LM | {"wait_for": str(tmp_path / "go")})
    house.add("last", LM)
    script = (
        "from lit_lm.compare import load, run_comparison; from pathlib import Path\n"
        "from lit_lm.compare.cluster import Cluster, Executor\n"
        "from tests.compare.conftest import read\n"
        f"run_comparison(load(Path({str(house.write())!r})), command={COMMAND!r}, cluster=Cluster({LOCAL!r}), read=read)"
    )
    with subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.DEVNULL, cwd=ROOT
    ) as watcher:
        wait_for(lambda: started(house, "gpt"))
        watcher.kill()
    assert process_of(house, "gpt")
    with pytest.raises(
        InputError, match="still runs there"
    ):  # on this host it would be a second one
        house.run()
    house.settings["budget"]["amount"] += 1
    with pytest.raises(InputError, match="still runs there"):  # another run in its folder
        house.run(cluster=Cluster(LOCAL))
    house.settings["budget"]["amount"] -= 1
    house.write()

    sent_before = runner._sent_before

    def let_go(*args):
        found = sent_before(*args)
        (tmp_path / "go").touch()
        return found

    monkeypatch.setattr(runner, "_sent_before", let_go)
    house.run(cluster=Cluster(LOCAL))
    assert house.starts() == ["gpt", "last"]
    assert "gpt: was sent off before as" in capsys.readouterr().out


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("cluster: pbs", "cluster is 'pbs': choose one of slurm, local"),
        ("cluster: local", "give at least timeout_min"),
        ("{cluster: local, parameters: {timeout_min: 1}, retries: -1}", "retries is -1"),
        ("{cluster: local, parameter: {}}", "did you mean 'parameters'"),
    ],
)
def test_mistakes(tmp_path, text, said):
    (tmp_path / "e.yaml").write_text(text)
    with pytest.raises(InputError, match=said):
        load(tmp_path / "e.yaml")


def test_the_shipped_ones_are_read_and_parameters_are_checked():
    for name in ("slurm", "local"):
        assert load(configs.find(f"executor/{name}")).cluster == name
    with pytest.raises(InputError, match=r"executor local: .*'gpu'"):
        Cluster(Executor("local", {"timeout_min": 5, "gpu": 1}))
