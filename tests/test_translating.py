"""``lit-lm translate`` and ``summarize``: one line in, one line out, whatever comes and whatever happens."""

from __future__ import annotations

import json
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import Any

import pytest

from lit_lm import TokenizerConfig, Translation, load_task, streams
from lit_lm.cli import main
from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop import save_checkpoint
from lit_lm.translator import batches, tag_of
from tests import forks
from tests.odd_lines import NETS, checkpoint, odd_lines, write

SAMPLING = ["--temperature=1", "--seed=3"]
N_BEST = ["--beam=3", "--n_best=2"]


@pytest.fixture(scope="module")
def trained(tmp_path_factory: pytest.TempPathFactory) -> dict[str, str]:
    folder = tmp_path_factory.mktemp("translating")
    return {net: str(checkpoint(folder / f"{net}.ckpt", net)) for net in NETS}


@pytest.fixture
def small(monkeypatch: pytest.MonkeyPatch) -> None:
    """Windows of few lines."""
    monkeypatch.setattr(streams, "_LINES", 16)


def run(model: str, source: Path, *flags: str, verb: str = "translate") -> str:
    """The whole output file of a run."""
    out = source.with_suffix(".out")
    if "--resume" not in flags:
        out.unlink(missing_ok=True)
    assert main([verb, model, str(source), f"--output={out}", "--device=cpu", *flags]) == 0
    return out.read_bytes().decode()


@pytest.mark.parametrize(
    "net", [pytest.param(n, marks=pytest.mark.slow) if n == "rnn" else n for n in NETS]
)
def test_any_line_gives_one_line_in_order(
    net: str, trained: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    count = 10_000 if net == "transformer" else 2_000
    lines = odd_lines(count)
    text = run(trained[net], write(lines, tmp_path / "in.txt"), "--beam=1")
    assert text.endswith("\n")
    outputs = text.split("\n")[:-1]
    assert outputs == text.splitlines()
    assert len(outputs) == len(lines)
    assert all(not out for line, out in zip(lines, outputs, strict=True) if not line.strip())
    report = capsys.readouterr().err
    assert report.startswith(f"lit-lm translate: {count:,} lines in ")
    assert report.count("\n") == 1
    long = [i for i, line in enumerate(lines) if len(line.encode()) > 500]
    for i in [*range(30), *long[:5], count - 1]:
        # Behind an empty line: at the start of a file U+FEFF would be a byte order mark.
        alone = run(trained[net], write(["", lines[i]], tmp_path / "one.txt"), "--beam=1")
        assert alone == f"\n{outputs[i]}\n", f"line {i + 1}: {lines[i]!r}"


@pytest.mark.parametrize("net", NETS)
def test_one_huge_line(
    net: str, trained: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    lines = ["a", "the cat runs! " * 4_000, "漢" * 5_000, "", "x" * 20_000]
    outputs = run(trained[net], write(lines, tmp_path / "in.txt")).split("\n")
    assert len(outputs) == 6
    assert not outputs[3]
    assert "3 longer than 64 tokens split (first: line 2)" in capsys.readouterr().err


@pytest.mark.parametrize("flags", [[], ["--json"], SAMPLING, N_BEST], ids=" ".join)
def test_a_run_that_was_cut_anywhere_goes_on_to_the_same(
    flags: list[str], trained: dict[str, str], small: None, tmp_path: Path
) -> None:
    source = write(odd_lines(70, seed=1), tmp_path / "in.txt")
    whole = run(trained["transformer"], source, *flags)
    raw = whole.encode()
    for cut in (0, 1, len(raw) // 3, len(raw) // 2, len(raw) - 1, len(raw)):
        (tmp_path / "in.out").write_bytes(raw[:cut])
        assert run(trained["transformer"], source, *flags, "--resume") == whole


def in_small_windows(args: list[str]) -> int:
    streams._LINES = 16
    return main(args)


def test_a_killed_process_goes_on_to_the_same(
    trained: dict[str, str], small: None, tmp_path: Path
) -> None:
    source = write(odd_lines(800, seed=2), tmp_path / "in.txt")
    whole = run(trained["rnn"], source)
    out = tmp_path / "in.out"
    out.unlink()
    args = ["translate", trained["rnn"], str(source), f"--output={out}", "--device=cpu"]
    command = forks.Command(args, tmp_path / "said", main=in_small_windows)
    while command.running and not (out.exists() and out.stat().st_size > 2_000):
        time.sleep(0.002)
    command.send(signal.SIGKILL)
    assert command.wait() == -signal.SIGKILL
    assert 0 < len(out.read_bytes()) < len(whole.encode())
    assert run(trained["rnn"], source, "--resume") == whole


def test_an_output_that_holds_something_is_refused(
    trained: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source, out = write(["a"], tmp_path / "in.txt"), tmp_path / "out.txt"
    out.write_text("mine\n")
    assert main(["translate", trained["rnn"], str(source), f"--output={out}"]) == 2
    error = capsys.readouterr().err
    assert "holds something already: go on with it (--resume), or name another file" in error
    assert out.read_text() == "mine\n"


@pytest.mark.parametrize("net", NETS)
def test_n_best(net: str, trained: dict[str, str], tmp_path: Path) -> None:
    lines = ["the cat runs!", "", "a house, " * 60, "Who? " * 3]
    source = write(lines, tmp_path / "in.txt")
    rows = [json.loads(line) for line in run(trained[net], source, *N_BEST).splitlines()]
    assert [row["source"] for row in rows] == lines
    best = run(trained[net], source, "--beam=3").split("\n")[:-1]
    for row, output in zip(rows, best, strict=True):
        scores = [one["score"] for one in row["outputs"]]
        assert scores == sorted(scores, reverse=True)
        assert {"output": row["output"], "score": row["score"]} == row["outputs"][0]
        assert streams.one_line(row["output"]) == output
        assert len({one["output"] for one in row["outputs"]}) == len(scores)
    assert [len(row["outputs"]) for row in rows] == [2, 1, 2, 2]
    assert rows[1]["outputs"] == [{"output": "", "score": 0.0}]
    plain, gnmt = (
        json.loads(run(trained[net], source, f"--penalty={kind}", "--json").splitlines()[0])
        for kind in ("plain", "gnmt")
    )
    assert plain["score"] != gnmt["score"]


def test_draws_depend_on_seed_and_line_alone(trained: dict[str, str], tmp_path: Path) -> None:
    source = write(odd_lines(60, seed=5), tmp_path / "in.txt")
    drawn = run(trained["transformer"], source, *SAMPLING)
    assert run(trained["transformer"], source, *SAMPLING, "--batch_tokens=50") == drawn
    assert run(trained["transformer"], source, "--temperature=1", "--seed=4") != drawn


@pytest.mark.parametrize(
    ("verb", "flags", "message"),
    [
        ("translate", ["--beam=2", "--n_best=3"], "more than the beam of 2: widen it"),
        ("translate", [*SAMPLING, "--n_best=2"], "more than the one draw"),
        ("translate", [*SAMPLING, "--beam=2"], "have no part in that"),
        ("translate", ["--temperature=-1"], "negative"),
        ("translate", ["--to=de"], "<2de> is no token of this checkpoint, which was not trained"),
        ("translate", ["--resume"], "name it with --output"),
        ("translate", ["--key=text"], "line 1: not JSON"),
        ("summarize", [], "line 2 has 801 tokens, more than the 64 .*--overlong=truncate"),
    ],
)
def test_what_cannot_be_is_said(
    verb: str,
    flags: list[str],
    message: str,
    trained: dict[str, str],
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(["a", "1," * 400], tmp_path / "in.txt")
    assert main([verb, trained["rnn"], str(source), "--device=cpu", *flags]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    with pytest.raises(InputError, match=message):
        raise InputError(captured.err)


def test_documents_come_as_json_lines_and_may_be_truncated(
    trained: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    documents = ["One.\nTwo.\u2028Three.", "a house, " * 100, ""]
    source = tmp_path / "in.jsonl"
    source.write_text("".join(json.dumps({"id": 1, "text": t}) + "\n" for t in documents))
    flags = ("--key=text", "--overlong=truncate", "--json")
    rows = run(trained["rnn"], source, *flags, verb="summarize").splitlines()
    assert [json.loads(row)["source"] for row in rows] == documents
    report = capsys.readouterr().err
    assert report.startswith("lit-lm summarize: 3 lines")
    assert "1 longer than 64 tokens truncated (first: line 2)" in report
    task = load_task(trained["rnn"])
    assert isinstance(task, Translation)
    ids = task.require_tokenizer().encode(documents[1])
    found = task.decode_rows([task.frame(ids[:63])[0]])[0][0]
    assert json.loads(rows[1])["output"] == task.text(found)


@pytest.mark.parametrize("kind", ["bpe", "word"])
def test_every_part_of_a_source_has_the_language_tag(
    kind: Any, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    config = TokenizerConfig(kind=kind, vocab_size=300, symbols=("<2de>", "<2pt-BR>", "<x>"))
    its = Tokenizer.train(config, ["a b . " * 20])
    task = Translation(NETS["rnn"], its.spec(8, 8))
    task.tokenizer = its
    save_checkpoint(task, tmp_path / "m.ckpt")
    seen: list[list[int]] = []
    decode_rows = Translation.decode_rows

    def spy(self: Translation, rows: list[list[int]], **settings: Any) -> Any:
        seen.extend(rows)
        return decode_rows(self, rows, **settings)

    monkeypatch.setattr(Translation, "decode_rows", spy)
    source = write(["a b", "a b . " * 5, "", "b" * 50], tmp_path / "in.txt")
    assert run(str(tmp_path / "m.ckpt"), source, "--to=pt-BR").count("\n") == 4
    assert {row[0] for row in seen} == set(its.encode("<2pt-BR>"))
    assert all(len(row) <= 8 for row in seen)
    assert [*its.encode("<2pt-BR> a b"), its.eos_id] in seen
    with pytest.raises(
        InputError, match="<2it> is no token of this checkpoint; it knows de, pt-BR"
    ):
        tag_of(its, "it")


@pytest.mark.slow
def test_an_answer_comes_before_the_next_line_is_written(
    trained: dict[str, str], tmp_path: Path
) -> None:
    command = [sys.executable, "-m", "lit_lm", "translate", trained["rnn"], "--device=cpu"]
    with subprocess.Popen(
        command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, stderr=subprocess.PIPE
    ) as process:
        assert process.stdin
        assert process.stdout
        for line in ("the cat", "", "a dog. " * 3):
            process.stdin.write(f"{line}\n".encode())
            process.stdin.flush()
            assert process.stdout.readline().endswith(b"\n")
        process.stdin.close()
        assert process.wait() == 0


def test_batches_hold_every_row_once_within_their_budget() -> None:
    lengths = [5, 100, 1, 17, 30, 2, 300, 16] * 10
    found = list(batches(lengths, 128))
    assert sorted(k for batch in found for k in batch) == list(range(len(lengths)))
    for batch in found:
        longest = max(16, *(lengths[k] for k in batch))
        assert len(batch) == 1 or len(batch) * longest <= 128
    assert list(batches([], 128)) == []


@pytest.mark.slow
def test_memory_does_not_grow_with_the_lines(trained: dict[str, str], tmp_path: Path) -> None:
    program = (
        "import resource, sys; from lit_lm.cli import main; status = main(sys.argv[1:]); "
        "print(resource.getrusage(resource.RUSAGE_SELF).ru_maxrss); sys.exit(status)"
    )
    peaks = []
    for count in (20_000, 200_000):
        source = write(["the cat runs!", "a dog. Who?"] * (count // 2), tmp_path / f"{count}.txt")
        flags = [f"--output={tmp_path / str(count)}", "--beam=1", "--device=cpu"]
        command = [sys.executable, "-c", program, "translate", trained["rnn"], str(source), *flags]
        done = subprocess.run(command, capture_output=True, text=True, check=True)
        peaks.append(int(done.stdout))
        assert (tmp_path / str(count)).read_bytes().count(b"\n") == count
    assert peaks[1] < 1.05 * peaks[0]


def test_flags_may_stand_anywhere(
    trained: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = str(write(["a cat", "b"], tmp_path / "in.txt"))
    model = trained["rnn"]
    for args in (
        [model, source, "--beam=2"],
        ["--beam=2", model, source],
        [model, "--beam", "2", source],
    ):
        assert main(["translate", *args, "--device=cpu"]) == 0
    lines = capsys.readouterr().out.split("\n")
    assert lines[:2] == lines[2:4] == lines[4:6]
