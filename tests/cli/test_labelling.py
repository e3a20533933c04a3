"""``lit-lm classify``, ``tag``, ``answer`` and ``embed --search``."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from lit_lm import InputError, streams
from lit_lm.cli import main
from lit_lm.data import AnswerData, ClassificationData, SquadFiles, TsvLabels
from lit_lm.data.labelled import tags
from lit_lm.interop import save_checkpoint
from lit_lm.searching import best, directions
from lit_lm.tasks import Classification, QuestionAnswering, Tagging
from tests.labelled import CONTEXTS, data_of, task_of, write


@pytest.fixture(scope="module")
def checkpoints(news: Any, entities: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("labelling")
    rows = write(
        folder / "pairs.tsv", *(f"one{' two' * i}\tthree\t{'yn'[i % 2]}" for i in range(4))
    )
    pairs = TsvLabels(train=str(rows), val=str(rows), label=3, second=2)
    for name, task in (
        ("news", task_of(Classification, news)),
        ("pairs", task_of(Classification, data_of(ClassificationData, pairs))),
        ("entities", task_of(Tagging, entities)),
    ):
        save_checkpoint(task, folder / f"{name}.ckpt")
    return {name: str(folder / f"{name}.ckpt") for name in ("news", "pairs", "entities")}


def call(
    verb: str, model: str, source: Path, *flags: str, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Lines of what is printed."""
    assert main([verb, model, str(source), "--device=cpu", *flags]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.split("\n")[:-1]


def test_a_line_gives_a_line(
    checkpoints: Any,
    news: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_LINES", 3)
    texts = [e.text for e in news.examples("val")] + ["", "x\u2028y <mask>", "tab\there"]
    source = write(tmp_path / "in.txt", *texts)
    rows = [
        json.loads(line)
        for line in call("classify", checkpoints["news"], source, "--json", capsys=capsys)
    ]
    assert [row["text"] for row in rows] == texts
    task = task_of(Classification, news)
    for row, one in zip(rows, task.classify(texts), strict=True):
        assert row["label"] == one.label
        assert row["probabilities"] == pytest.approx(one.probabilities, abs=1e-5)
    plain = call("classify", checkpoints["news"], source, capsys=capsys)
    assert plain == [row["label"] for row in rows]
    assert len(set(plain)) == 2
    records = [{"id": i, "body": {"en": t}} for i, t in enumerate(texts)]
    source = write(tmp_path / "in.jsonl", *records)
    found = call("classify", checkpoints["news"], source, "--key=body.en", "--json", capsys=capsys)
    for line, record, row in zip(found, records, rows, strict=True):
        one = json.loads(line)
        assert one.pop("probabilities") == pytest.approx(row["probabilities"], abs=1e-5)
        assert one == {**record, "label": row["label"]}


def test_pairs_of_lines(
    checkpoints: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    pairs = [{"text": "He fell .", "second": "She won ."}, {"text": "a", "second": ""}]
    columns = write(tmp_path / "in.tsv", *("\t".join(pair.values()) for pair in pairs))
    records = write(tmp_path / "in.jsonl", *pairs)
    model = checkpoints["pairs"]
    found = call("classify", model, columns, "--pairs", "--json", capsys=capsys)
    flags = ("--key=text", "--second=second", "--json")
    assert found == call("classify", model, records, *flags, capsys=capsys)
    assert [{k: v for k, v in json.loads(f).items() if k in ("text", "second")} for f in found] == (
        pairs
    )
    assert main(["classify", model, str(columns), "--device=cpu"]) == 2
    assert "trained on pairs of texts: give the second ones too (--pairs" in capsys.readouterr().err
    assert main(["classify", checkpoints["news"], str(columns), "--device=cpu", "--pairs"]) == 2
    assert "trained on single texts: give no second ones" in capsys.readouterr().err


def test_long_texts_are_named_or_cut(
    checkpoints: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    model, source = checkpoints["news"], tmp_path / "in.txt"
    write(source, "a", "He fell . " * 100, "b", "c " * 200)
    assert main(["classify", model, str(source), "--device=cpu"]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    assert "in.txt, line 2 has 302 tokens, more than the 128" in captured.err
    flags = ["--json", "--overlong=truncate"]
    assert main(["classify", model, str(source), "--device=cpu", *flags]) == 0
    captured = capsys.readouterr()
    assert captured.err.startswith("lit-lm classify: 4 lines in ")
    assert "; 2 longer than 128 tokens truncated (first: line 2)\n" in captured.err
    whole = json.loads(captured.out.splitlines()[1])["probabilities"]
    write(source, "He fell . " * 42)
    alone = json.loads(call("classify", model, source, "--json", capsys=capsys)[0])
    assert alone["probabilities"] == pytest.approx(whole, abs=1e-5)


def test_tags_of_lines_and_columns(
    checkpoints: Any,
    entities: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(streams, "_LINES", 5)
    task, model = task_of(Tagging, entities), checkpoints["entities"]
    examples = entities.examples("val")[:5]
    texts = [e.text for e in examples] + [""]
    source = write(tmp_path / "in.txt", *texts)
    rows = [json.loads(line) for line in call("tag", model, source, "--json", capsys=capsys)]
    wanted = task.tag(texts)
    for row, text, its in zip(rows, texts, wanted, strict=True):
        assert row["text"] == text
        same = [{**e._asdict(), "probability": pytest.approx(e.probability, abs=1e-4)} for e in its]
        assert row["entities"] == same
    plain = call("tag", model, source, capsys=capsys)
    assert plain == ["\t".join(f"{e.type}: {e.text}" for e in its) for its in wanted]
    assert any("\t" in line for line in plain)
    lines = ["-DOCSTART- -X-", ""]
    for example in examples:
        lines += [*(f"{word} NN" for word in example.words), ""]
    lines[-1:] = ["", "last"]  # two blank lines, and no line behind the last sentence
    columns = write(tmp_path / "in.conll", *lines)
    found = {
        scheme: call("tag", model, columns, *flags, capsys=capsys)
        for scheme, flags in (
            ("iob2", ["--format=conll"]),
            ("bioes", ["--format=conll", "--scheme=bioes"]),
        )
    }
    sentences = task.tag_words([*(e.words for e in examples), ["last"]])
    for scheme, out in found.items():
        names = [tags.convert(its.tags, "iob2", scheme) for its in sentences]  # type: ignore[arg-type]
        new = iter(tag for its in names for tag in its)
        assert len(out) == len(lines)
        assert out[0] == f"{lines[0]} O"
        assert out[1:] == [f"{line} {next(new)}" if line else "" for line in lines[1:]]
    assert found["iob2"] != found["bioes"]


def test_answers_as_json_lines(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    pairs = [{"id": i, "question": f"Who {i}?", "context": c} for i, c in enumerate(CONTEXTS)]
    source = write(tmp_path / "in.jsonl", *pairs, {"question": "a", "context": ""})
    squad = {"context": CONTEXTS[0], "qas": [{"id": 1, "question": "Who?", "answers": []}]}
    file = write(tmp_path / "squad.json", {"data": [{"paragraphs": [squad]}]})
    data = data_of(AnswerData, SquadFiles(train=str(file), val=str(file)), max_length=20)
    task = task_of(QuestionAnswering, data)
    save_checkpoint(task, tmp_path / "a.ckpt")
    model = str(tmp_path / "a.ckpt")
    rows = [json.loads(line) for line in call("answer", model, source, capsys=capsys)]
    wanted = task.answer([p["question"] for p in pairs], CONTEXTS)
    for row, pair, one in zip(rows, pairs, wanted, strict=False):
        assert row == {**pair, **one._asdict(), "score": pytest.approx(one.score, abs=1e-4)}
    assert rows[3]["score"] is None
    assert not rows[3]["answer"]
    write(source, *pairs, {"question": "so " * 30, "context": "a"})
    assert main(["answer", model, str(source), "--device=cpu"]) == 2
    assert "in.jsonl, line 4: the question has 30 tokens" in capsys.readouterr().err


@pytest.mark.parametrize(
    ("verb", "flags", "lines", "message"),
    [
        ("classify", ["--pairs"], ["a\tb", "c"], "in.txt, line 2 has 1 columns, where --pairs"),
        ("classify", ["--second=b"], ["a"], "--key"),
        ("classify", ["--key=a"], ["{"], "line 1: not JSON"),
        ("classify", ["--key=a"], [{"a": 1}], "line 1: field 'a' is 1"),
        (
            "classify",
            ["--key=a", "--json"],
            [{"a": "x", "label": "y"}],
            "line 1 has a field 'label' already: write to another one \\(--field\\)",
        ),
        ("tag", [], ["a"], "holds Classification; lit-lm tag needs Tagging"),
        ("tag", ["--scheme=iob2"], ["a"], "--format=conll"),
        ("tag", ["--json", "--format=conll"], ["a"], "drop --json"),
        ("embed", ["--search=-", "--output=x.npy"], ["a"], "drop --output"),
        ("embed", ["--search=none.txt"], ["a"], "cannot read 'none.txt'"),
    ],
)
def test_what_cannot_be_is_said(
    verb: str,
    flags: list[str],
    lines: list[Any],
    message: str,
    checkpoints: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
) -> None:
    source = write(tmp_path / "in.txt", *lines)
    assert main([verb, checkpoints["news"], str(source), "--device=cpu", *flags]) == 2
    captured = capsys.readouterr()
    assert not captured.out
    with pytest.raises(InputError, match=message):
        raise InputError(captured.err)


def test_a_file_without_sentences_is_no_column_file(
    checkpoints: Any,
    tmp_path: Path,
    capsys: pytest.CaptureFixture[str],
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr("lit_lm.labelling._MOST", 10)
    source = write(tmp_path / "in.txt", "a", "", *"bcdefghijklm")
    flags = ["--format=conll", "--device=cpu"]
    assert main(["tag", checkpoints["entities"], str(source), *flags]) == 2
    assert "no blank line in the 12 from line 3 on" in capsys.readouterr().err


def test_searching_is_brute_force(
    checkpoints: Any, news: Any, tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    texts = [e.text for e in news.examples("val")] + [""]
    texts.append(texts[2])
    lines, queries = write(tmp_path / "in.txt", *texts), write(tmp_path / "q.txt", *texts[:5], "")
    model, flags = checkpoints["news"], ("--batch_size=4",)
    vectors = np.array(
        [json.loads(v)["vector"] for v in call("embed", model, lines, capsys=capsys)]
    )
    asked = [*vectors[:5], np.zeros(vectors.shape[1])]
    search = (f"--search={queries}", "--top_k=4", *flags)
    rows = [
        json.loads(line) for line in call("embed", model, lines, *search, "--json", capsys=capsys)
    ]
    assert [row["text"] for row in rows] == [*texts[:5], ""]
    for row, query in zip(rows, asked, strict=True):
        norms = np.linalg.norm(vectors, axis=1) * np.linalg.norm(query)
        cosines = vectors @ query / np.where(norms, norms, 1)
        numbers = [its["line"] - 1 for its in row["found"]]
        similarities = [its["similarity"] for its in row["found"]]
        np.testing.assert_allclose(similarities, np.sort(cosines)[::-1][:4], atol=1e-5)
        np.testing.assert_allclose(similarities, cosines[numbers], atol=1e-5)
        assert [its["text"] for its in row["found"]] == [texts[i] for i in numbers]
    assert rows[0]["found"][0]["line"] == 1
    plain = [line.split("\t") for line in call("embed", model, lines, *search, capsys=capsys)]
    assert len(plain) == 24
    assert [(p[0], p[1], p[3]) for p in plain] == [
        (str(i), str(rank), its["text"])
        for i, row in enumerate(rows, 1)
        for rank, its in enumerate(row["found"], 1)
    ]


def test_the_best_come_first_and_equals_in_order() -> None:
    rng = np.random.default_rng(0)
    for count in (1, 3, 20, 30):
        values = rng.integers(0, 6, 20).astype(np.float32)
        wanted = sorted(range(20), key=lambda i: (-values[i], i))[:count]
        assert best(values, count) == wanted
    found = directions(np.array([[3, 4], [0, 0]], dtype=np.float32))
    np.testing.assert_allclose(found, [[0.6, 0.8], [0, 0]], rtol=1e-6)
