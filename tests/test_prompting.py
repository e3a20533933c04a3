"""``lit-lm prompt`` and ``CausalLM.score``: every score is that of a sequence read alone."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_lm import CausalLM, InputError, TokenizerConfig
from lit_lm.cli import main
from lit_lm.data import Tokenizer
from lit_lm.data.labelled.subsets import order
from lit_lm.interop import save_checkpoint
from lit_lm.prompting import labels_of
from lit_lm.prompts import Prompter, Template, unescaped
from tests.tiny import GPT

TEXT = "Review: it was very bad and good , N/A ! \n Mood : so so fine not nice at all the end"
TEMPLATE, LABELS = r"Review: {text}\nMood:", "bad= bad,good= so good"
POSITIONS = 90
TEXTS = ["it was so nice", "", "not nice at all", "the end !", "very good and very bad"]


def make(kind: Any) -> CausalLM:
    torch.manual_seed(0)
    its = Tokenizer.train(TokenizerConfig(kind=kind), [TEXT] * 2)
    net = replace(GPT, num_layers=1, d_model=16, init_std=0.5)
    task = CausalLM(net, its.spec(POSITIONS)).eval()
    task.tokenizer = its
    return task


@pytest.fixture(scope="module", params=["word", "char"])
def task(request: pytest.FixtureRequest) -> CausalLM:
    return make(request.param)


@pytest.fixture(scope="module")
def model(task: CausalLM, tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompting") / "m.ckpt"
    save_checkpoint(task, path)
    return str(path)


@pytest.fixture(scope="module")
def words(tmp_path_factory: pytest.TempPathFactory) -> str:
    path = tmp_path_factory.mktemp("prompting") / "words.ckpt"
    save_checkpoint(make("word"), path)
    return str(path)


def likelihood(task: CausalLM, prompt: str, continuation: str) -> float:
    """log p(continuation | prompt), of the sequence on its own."""
    its = task.require_tokenizer()
    row = [its.eos_id, *its.encode(prompt)]
    end = its.encode(continuation)
    with torch.no_grad():
        logs = task.net.head(task.net(torch.tensor([row + end])))[0].log_softmax(-1)
    return sum(logs[len(row) - 1 + i, token].item() for i, token in enumerate(end))


def prompt_of(text: str) -> str:
    return f"Review: {text}\nMood:"


def reference(task: CausalLM, prompt: str) -> dict[str, float]:
    return {
        "bad": likelihood(task, prompt, " bad"),
        "good": likelihood(task, prompt, " so good"),
    }


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


def call(
    model: str, source: Path, *flags: str, capsys: pytest.CaptureFixture[str]
) -> tuple[list[str], str]:
    """Lines of what is printed, and what is reported."""
    args = ["prompt", model, str(source), f"--template={TEMPLATE}", f"--labels={LABELS}"]
    assert main([*args, "--device=cpu", *flags]) == 0, capsys.readouterr().err
    found = capsys.readouterr()
    return found.out.split("\n")[:-1], found.err


def scores(lines: list[str]) -> list[dict[str, float]]:
    return [json.loads(line)["scores"] for line in lines]


def test_a_score_is_that_of_the_sequence_alone(task: CausalLM) -> None:
    prompts = ["it was", "it was", "it was", "", "so so fine not nice", "it was", "it was so"]
    ends = [" bad", " good", " so good", " bad", " at all", "", " good"]
    found = task.score(prompts, ends)
    wanted = [likelihood(task, *pair) for pair in zip(prompts, ends, strict=True)]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert len(set(np.round(found, 3))) == len(set(zip(prompts, ends, strict=True)))
    # Neighbours in the batch do not matter, nor does its size.
    np.testing.assert_allclose([task.score([p], [e])[0] for p, e in zip(prompts, ends, strict=True)], found, atol=1e-4)  # fmt: skip
    its = task.require_tokenizer()
    rows = [task.frame(its.encode(p))[0] for p in prompts]
    small = task.score_ids(rows, [its.encode(e) for e in ends], batch_tokens=1)
    np.testing.assert_allclose(small, found, atol=1e-4)
    assert task.score([], []) == []
    with pytest.raises(InputError, match=r"text 2 has .* more than the 90 positions"):
        task.score(["a", "bad " * 91], ["b", "c"])


def test_scores_are_brute_force(
    task: CausalLM, model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    source = write(tmp_path / "in.txt", *TEXTS[:3])
    raw = [reference(task, prompt_of(text)) for text in TEXTS[:3]]
    known = reference(task, prompt_of("N/A"))
    its = task.require_tokenizer()
    tokens = {"bad": len(its.encode(" bad")), "good": len(its.encode(" so good"))}
    wanted = {
        "none": raw,
        "tokens": [{k: v / tokens[k] for k, v in row.items()} for row in raw],
        "prior": [{k: v - known[k] for k, v in row.items()} for row in raw],
    }
    for normalize, rows in wanted.items():
        flags = [f"--normalize={normalize}", "--batch_tokens=100", "--json"]
        lines, report = call(model, source, *flags, capsys=capsys)
        assert report.startswith("lit-lm prompt: 3 lines in ")
        for line, row, text in zip(map(json.loads, lines), rows, TEXTS, strict=False):
            assert line["text"] == text
            assert line["scores"] == pytest.approx(row, abs=1e-3)
            assert line["label"] == max(row, key=lambda name: row[name])
    assert len(lines) == 3


def test_solved_examples_stand_before_the_prompt(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    task = make("word")
    save_checkpoint(task, tmp_path / "m.ckpt")
    model = str(tmp_path / "m.ckpt")
    shots = [("it was so bad", "bad"), ("nice !", "good"), ("not good", "bad"), ("fine", "good")]
    records = [{"id": i, "text": t, "label": label} for i, (t, label) in enumerate(shots)]
    examples = write(tmp_path / "shots.jsonl", *records)
    table = write(tmp_path / "shots.tsv", "label\ttext", *(f"{g}\t{t}" for t, g in shots))
    source = write(tmp_path / "in.txt", *TEXTS)
    chosen = order([label for _, label in shots], 3)[:2].tolist()
    assert {shots[i][1] for i in chosen} == {"bad", "good"}
    words = labels_of(LABELS)
    before = "".join(f"{prompt_of(shots[i][0])}{words[shots[i][1]]} ! " for i in chosen)
    wanted = [reference(task, before + prompt_of(text)) for text in TEXTS]
    flags = ["--shots=2", "--seed=3", "--separator= ! ", "--json"]
    for file in (examples, table):
        lines, _ = call(model, source, f"--examples={file}", *flags, capsys=capsys)
        for found, raw in zip(scores(lines), wanted, strict=True):
            assert found == pytest.approx(raw, abs=1e-3)
    # Their prior is that of the prompt with the examples before it.
    known = reference(task, before + prompt_of("N/A"))
    flags.append("--normalize=prior")
    lines, _ = call(model, source, f"--examples={examples}", *flags, capsys=capsys)
    first = {k: v - known[k] for k, v in wanted[0].items()}
    assert scores(lines)[0] == pytest.approx(first, abs=1e-3)


def test_records_keep_their_fields_and_are_judged(
    model: str, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    plain, _ = call(model, write(tmp_path / "in.txt", *TEXTS), capsys=capsys)
    gold = ["good" if plain[0] == "bad" else "bad", *plain[1:]]
    records = [{"n": i, "s": t, "label": g} for i, (t, g) in enumerate(zip(TEXTS, gold, strict=True))]  # fmt: skip
    source = write(tmp_path / "in.jsonl", *records)
    flags = ("--key=s", "--label=label")
    lines, report = call(model, source, *flags, "--json", "--field=found", capsys=capsys)
    for line, record, label in zip(lines, records, plain, strict=True):
        row = json.loads(line)
        assert {name: row[name] for name in record} == record
        assert row["found"] == label
    assert "; accuracy 0.8000 (4 right)\n" in report
    args = ["prompt", model, str(source), "--device=cpu", f"--labels={LABELS}", "--key=s"]
    assert main([*args, "--template=Review: {s}\\nMood:"]) == 0
    assert capsys.readouterr().out.split("\n")[:-1] == plain


@pytest.mark.parametrize(
    ("flags", "message"),
    [
        (["--template=a"], "has no place for the text"),
        (["--template={text} {"], "'{' at character 8 is no field"),
        (["--template={other} {text}"], "asks for {other}, and lines of text have {text} only"),
        (["--key=text", "--template={other} {text}"], "line 1: no field 'other'"),
        (["--labels=a= bad"], "at least two are wanted"),
        (["--labels=a= bad,b"], "'b' is not NAME=WORDS"),
        (["--labels=a= bad,a= good"], "a stands there twice"),
        (["--labels=a= bad,b= bad"], "the words of a and b are the same tokens"),
        (["--labels=a= bad,b= zebra"], "the words ' zebra' of b are unknown tokens"),
        (["--shots=1"], "give both, or none"),
        (["--examples=shots.jsonl", "--shots=3"], "--shots=3 is more than the 1 examples"),
        (["--examples=wrong.jsonl", "--shots=1"], "wrong.jsonl, line 1: label is 'x', which is none"),
        (["--label=gold"], "--label=gold is a field of JSON lines"),
        (["--key=text", "--label=gold"], "line 1: no field 'gold'"),
        (["--key=text", "--label=label"], "line 2: label is 'x', which is none of the --labels"),
        (["--key=text", "--label=label", "--json"], "such as --field=predicted"),
        (["--key=long"], "in.jsonl, line 1: prompt and label have 107 tokens, more than the 90"),
    ],
)  # fmt: skip
def test_what_cannot_be_is_said(
    flags: list[str],
    message: str,
    words: str,
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> None:
    monkeypatch.chdir(tmp_path)
    record = {"text": "it was", "label": "bad", "long": "bad " * 100}
    source = write(tmp_path / "in.jsonl", record, {**record, "label": "x"})
    write(tmp_path / "shots.jsonl", record)
    write(tmp_path / "wrong.jsonl", {**record, "label": "x"})
    given = [f"--template={TEMPLATE}", f"--labels={LABELS}", *flags]
    assert main(["prompt", words, str(source), "--device=cpu", *given]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert message in captured.err


def test_templates() -> None:
    found = Template("{{{a}}} {b.c}{a}").fill(lambda name: f"<{name}>")
    assert found == "{<a>} <b.c><a>"
    assert unescaped(r"a\nb\\nc\td\x") == "a\nb\\nc\td\\x"
    assert labels_of(r"a= b, c=\nd = e") == {"a": " b", "c": "\nd = e"}
    task = make("word")
    with pytest.raises(InputError, match="no tokens"):
        Prompter(task, {"a": " bad", "b": "\u200b"[:0]})
