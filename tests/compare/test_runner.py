import io
import json
import os
import signal
import subprocess
import sys
import time
from pathlib import Path

import pytest
from rich.console import Console

from lit_lm.cli import main
from lit_lm.compare import MembersFailed, runner
from lit_lm.compare.display import PlainDisplay, State, choose_display
from lit_lm.compare.files import read_json
from lit_lm.compare.runner import FAILED, Job, run_jobs
from lit_lm.errors import InputError
from tests.conftest import ROOT

from .conftest import COMMAND, LM, TRANSLATOR


def run_stopped(house, name, number=signal.SIGINT):
    """Starts the comparison, stops it when a member has started; its exit status and output."""
    script = (
        "import signal; signal.signal(signal.SIGINT, signal.default_int_handler)\n"
        "from lit_lm.compare import load, run_comparison; from pathlib import Path\n"
        "from tests.compare.conftest import read\n"
        f"run_comparison(load(Path({str(house.write())!r})), command={COMMAND!r}, read=read)"
    )
    process = subprocess.Popen(
        [sys.executable, "-c", script], stdout=subprocess.PIPE, text=True, cwd=ROOT
    )
    deadline = time.monotonic() + 30
    while not (house.output / name / "job.json").exists() and time.monotonic() < deadline:
        time.sleep(0.05)
    time.sleep(0.3)
    process.send_signal(number)
    out, _ = process.communicate(timeout=20)
    return process.returncode, out


def test_finished_members_are_kept(house):
    house.add("gpt", LM)
    house.add("transformer", TRANSLATOR)
    page = house.run()
    assert page == house.output / "index.html"
    assert house.starts() == ["gpt", "transformer"]
    before = page.with_name("results.json").read_text().splitlines()
    house.run()
    assert house.starts() == []
    after = page.with_name("results.json").read_text().splitlines()
    assert [line for line in before if "created" not in line and "status" not in line] == [
        line for line in after if "created" not in line and "status" not in line
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM])
def test_stopped_half_way_only_what_is_missing_is_run(house, tmp_path, number):
    house.add("gpt", LM)
    house.add("transformer", TRANSLATOR | {"wait_for": str(tmp_path / "go")})
    house.add("last", LM)
    code, out = run_stopped(house, "transformer", number)
    assert code != 0
    assert "start the same command again" in out
    assert house.starts() == ["gpt", "transformer"]
    (tmp_path / "go").touch()
    house.run()
    assert house.starts() == ["transformer", "last"]
    assert not (house.output / "replaced").exists()


def test_stopping_ends_the_members(house, tmp_path):
    house.add("gpt", LM | {"wait_for": str(tmp_path / "never")})
    pid = tmp_path / "pid"
    command = (
        sys.executable,
        "-c",
        f"import os, time; open({str(pid)!r}, 'w').write(str(os.getpid())); time.sleep(60)",
    )

    class Interrupting(PlainDisplay):
        def show(self, states: list[State]) -> None:
            if pid.exists() and pid.read_text():
                raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        run_jobs([Job("a", tmp_path / "a", "1")], Interrupting(), command=command)
    with pytest.raises(ProcessLookupError):
        os.kill(int(pid.read_text()), 0)


@pytest.mark.parametrize("change", ["experiment", "overrides", "budget"])
def test_what_is_changed_is_run_again_and_the_old_result_kept(house, change):
    house.add("gpt", LM)
    house.add("transformer", TRANSLATOR)
    house.run()
    house.starts()
    if change == "experiment":
        house.add("gpt", LM | {"loss": 1.5})
    elif change == "overrides":
        house.members[0]["overrides"] = ["--model.init_args.optim.lr=0.002"]
    else:
        house.settings["budget"]["amount"] = 3_000_000
    house.run()
    assert set(house.starts()) == ({"gpt", "transformer"} if change == "budget" else {"gpt"})
    replaced = list((house.output / "replaced").glob("gpt-*"))
    assert len(replaced) == 1
    assert read_json(replaced[0] / "result.json")["test"]["loss"] == LM["loss"]


def test_fresh_runs_everything(house):
    house.add("gpt", LM)
    house.run()
    house.run(fresh=True)
    assert house.starts() == ["gpt", "gpt"]


def test_a_failing_member_does_not_stop_the_others(house, capsys):
    house.add("broken", LM | {"fail": "ValueError: d_model must be a multiple of num_heads"})
    house.add("gpt", LM)
    with pytest.raises(MembersFailed) as error:
        house.run()
    assert error.value.names == ("broken",)
    assert error.value.page.exists()
    shown = capsys.readouterr().out + house.console.file.getvalue()
    assert "d_model must be a multiple" in shown
    assert str(house.output / "broken" / "log.txt") in shown
    found = read_json(house.output / "results.json")
    assert [m["status"] for m in found["members"]] == ["failed", "done"]
    assert found["members"][0]["league"] == "language models"
    house.starts()

    house.add("broken", LM)  # mended
    house.run()
    assert house.starts() == ["broken"]


def test_members_side_by_side(house, tmp_path):
    house.add(
        "a", LM | {"wait_for": str(tmp_path / "out" / "small" / "b" / "result.json")}
    )  # ends after b only
    house.add("b", LM)
    house.run(jobs=2)
    notes = read_json(house.output / "results.json")["notes"]
    assert any("beside other members" in note for note in notes)


def test_a_killed_process_is_a_failure(tmp_path):
    command = (sys.executable, "-c", "import os, signal; os.kill(os.getpid(), signal.SIGKILL)")
    job = Job("a", tmp_path / "a", "1")
    (outcome,) = run_jobs([job], PlainDisplay(), command=command)
    assert (outcome.status, outcome.result) == ("failed", None)
    assert "SIGKILL" in outcome.reason


def test_a_process_that_leaves_no_result_is_a_failure(tmp_path):
    (outcome,) = run_jobs(
        [Job("a", tmp_path / "a", "1")],
        PlainDisplay(),
        command=(sys.executable, "-c", "print('hm')"),
    )
    assert outcome.reason == "ended without a result: hm"


@pytest.mark.parametrize(
    ("said", "reason"),
    [
        (
            "torch.OutOfMemoryError: no room\nwandb: find logs here",
            "torch.OutOfMemoryError: no room",
        ),
        ("usage: lit-lm\nerror: argument --lr", "error: argument --lr"),
        (
            "[rank: 0] Received SIGTERM: 15\n\x1b[34mwandb\x1b[0m: bye",
            "[rank: 0] Received SIGTERM: 15",
        ),
        ("\x1b[31mred\x1b[0m words", "red words"),
    ],
)
def test_the_reason_is_found_in_the_log(tmp_path, said, reason):
    command = (sys.executable, "-c", f"print({said!r}); raise SystemExit(3)")
    (outcome,) = run_jobs([Job("a", tmp_path / "a", "1")], PlainDisplay(), command=command)
    assert outcome.reason == reason


def test_folders_of_others_are_left_alone(house):
    house.add("gpt", LM)
    (house.output / "gpt").mkdir(parents=True)
    (house.output / "gpt" / "thesis.txt").write_text("years of work")
    with pytest.raises(InputError, match="holds something else"):
        house.run()
    assert (house.output / "gpt" / "thesis.txt").exists()


def test_unknown_experiments_are_found_before_anything_runs(house):
    house.add("gpt", LM)
    house.members.append({"name": "other", "config": "experiment/no_such_thing"})
    with pytest.raises(InputError, match="no_such_thing"):
        house.run()
    assert not Path(house.output).exists()


def test_jobs_must_be_positive(house):
    house.add("gpt", LM)
    with pytest.raises(InputError, match="jobs is 0"):
        house.run(jobs=0)


@pytest.mark.parametrize("what", ["stopped", "failed", "other code", "nothing kept"])
def test_what_was_stopped_goes_on_and_what_failed_does_not(tmp_path, what):
    script = tmp_path / "job.py"
    script.write_text(
        "import json, sys, pathlib\n"
        "path = pathlib.Path(sys.argv[1]); folder = path.parent\n"
        "kept = (folder / 'checkpoints' / 'last.ckpt').is_file()\n"
        "told = {'identity': json.loads(path.read_text())['identity'], 'kept': kept}\n"
        "(folder / 'result.json').write_text(json.dumps(told))\n"
    )
    job = Job("one", tmp_path / "one", "identity", {"code": "now"})
    (job.folder / "checkpoints").mkdir(parents=True)
    code = "then" if what == "other code" else "now"
    (job.folder / "job.json").write_text(json.dumps({"identity": "identity", "code": code}))
    if what != "nothing kept":
        (job.folder / "checkpoints" / "last.ckpt").write_text("weights")
    if what == "failed":
        (job.folder / FAILED).write_text("out of luck")
    display = choose_display(Console(file=io.StringIO()), "jobs")
    (outcome,) = run_jobs([job], display, command=(sys.executable, str(script)))
    assert outcome.result is not None
    assert outcome.result["kept"] == (what == "stopped")


@pytest.mark.parametrize("seconds", [0.0, 1e9])
def test_what_became_of_jobs_so_far_is_told_once_in_a_while(tmp_path, monkeypatch, seconds):
    monkeypatch.setattr(runner, "_TELL_SECONDS", seconds)
    command = (sys.executable, "-S", "-c", "raise SystemExit(3)")
    jobs = [Job(name, tmp_path / name, "1") for name in "abc"]
    told = []
    outcomes = run_jobs(jobs, PlainDisplay(), command=command, tell=told.append)
    counts = [len(each) for each in told]
    assert counts == sorted(set(counts))
    if seconds:
        assert len(counts) == 1
    else:
        assert counts[-3:] == [1, 2, 3]
        assert told[-1] == outcomes


def test_failed_runs_end_the_command_with_status_1(tmp_path, monkeypatch, capsys):
    def fails(*args, **options):
        raise MembersFailed(tmp_path / "index.html", ["gpt"])

    monkeypatch.setattr("lit_lm.compare.compare", fails)
    assert main(["compare", "compare/builtin"]) == 1
    assert "lit-lm compare: gpt failed; the rest is in" in capsys.readouterr().err
