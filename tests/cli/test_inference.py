"""Text in, text or vectors out, from a checkpoint alone."""

from __future__ import annotations

import json
import subprocess
from pathlib import Path

import numpy as np
import pytest

from lit_lm.cli import main
from tests import forks


def test_inference_verbs_need_the_checkpoint_alone(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    def call(verb: str, *args: str) -> subprocess.CompletedProcess[str]:
        command = [verb, *args, "--device=cpu"]
        code = main(command)
        return subprocess.CompletedProcess(command, code, *capsys.readouterr())

    args = ["generate", str(trained["gpt"]), "--max_new_tokens=5", "--json"]
    command = forks.Command(args, tmp_path / "generate", stdin=b"a b\n\nc\n")
    assert command.wait() == 0, command.stderr
    rows = [json.loads(line) for line in command.stdout.splitlines()]
    assert [row["prompt"] for row in rows] == ["a b", "", "c"]
    source = tmp_path / "input.txt"
    source.write_text("a b c\n\nd unknownword e\n" + "a " * 40 + "\n")
    out = call("translate", str(trained["mt"]), str(source))
    assert out.returncode == 0, out.stderr
    lines = out.stdout.split("\n")
    assert len(lines) == 5
    assert lines[1] == ""
    out = call("translate", str(trained["gpt"]), str(source))
    assert out.returncode == 2
    assert "holds CausalLM; lit-lm translate needs Translation" in out.stderr
    assert "Traceback" not in out.stderr


def test_fill_mask_and_embed(
    trained: dict[str, Path], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = tmp_path / "input.txt"
    source.write_text("a <mask> c\n<mask> d <mask>\n")

    def call(*args: str) -> subprocess.CompletedProcess[str]:
        command = [*args, "--device=cpu"]
        code = main(command)
        return subprocess.CompletedProcess(command, code, *capsys.readouterr())

    out = call("fill-mask", str(trained["bert"]), str(source), "--json", "--top_k=3")
    assert out.returncode == 0, out.stderr
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    assert [len(row["fills"]) for row in rows] == [1, 2]
    best = rows[0]["fills"][0]
    assert len(best) == 3
    assert best[0]["probability"] >= best[1]["probability"] >= best[2]["probability"] > 0
    assert rows[0]["output"] == f"a {best[0]['token']} c"
    plain = call("fill-mask", str(trained["bert"]), str(source))
    assert plain.stdout.splitlines() == [row["output"] for row in rows]
    source.write_text("a b\n\nc\n")
    out = call("fill-mask", str(trained["bert"]), str(source))
    assert out.returncode == 2
    assert "line 1 has no <mask>" in out.stderr
    for name, path in trained.items():
        file = tmp_path / f"{name}.npy"
        out = call("embed", str(path), str(source), "--output", str(file))
        assert out.returncode == 0, out.stderr
        array = np.load(file, allow_pickle=False)
        assert array.shape[0] == 3
        assert (array[1] == 0).all()
    out = call("embed", str(trained["elmo"]), str(source), "--pooling=tokens")
    rows = [json.loads(line) for line in out.stdout.splitlines()]
    assert [row["tokens"] for row in rows] == [["a", "b"], [], ["c"]]
    assert [len(row["vectors"]) for row in rows] == [2, 0, 1]
    pooled = call("embed", str(trained["elmo"]), str(source))
    vector = json.loads(pooled.stdout.splitlines()[0])["vector"]
    np.testing.assert_allclose(vector, np.mean(rows[0]["vectors"], axis=0), rtol=1e-4)
    out = call("embed", str(trained["gpt"]), str(source), "--output", "x.txt")
    assert out.returncode == 2
    assert "name a .npy file" in out.stderr


def test_sampling_is_seeded(
    trained: dict[str, Path], capsys: pytest.CaptureFixture[str], tmp_path: Path
) -> None:
    source = tmp_path / "prompts.txt"
    source.write_text("a b\n")
    seen = []
    for seed in (1, 1, 2):
        flags = ["--temperature=1", f"--seed={seed}", "--max_new_tokens=12", "--device=cpu"]
        assert main(["generate", str(trained["gpt"]), str(source), *flags]) == 0
        seen.append(capsys.readouterr().out)
    assert seen[0] == seen[1] != seen[2]


def test_invalid_utf8_on_standard_input(trained: dict[str, Path], tmp_path: Path) -> None:
    args = ["translate", str(trained["mt"]), "--device=cpu"]
    command = forks.Command(args, tmp_path, stdin=b"a\nb \xff\n")
    assert command.wait() == 2
    assert b"line 2" in command.stderr
    assert b"0xff" in command.stderr
