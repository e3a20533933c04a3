"""``lit-lm classify``, ``tag``, ``answer`` and ``embed --search``: what data modules read is what texts alone give."""

from __future__ import annotations

import json
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_lm import InputError, TokenizerConfig, streams
from lit_lm.cli import main
from lit_lm.data import (
    AnswerData,
    BuiltinLabels,
    BuiltinTags,
    ClassificationData,
    RegressionData,
    SquadFiles,
    TaggingData,
    TsvLabels,
)
from lit_lm.data.labelled import tags
from lit_lm.interop import save_checkpoint
from lit_lm.nn.heads import HeadConfig
from lit_lm.searching import best, directions
from lit_lm.tasks import Classification, QuestionAnswering, Regression, Tagging
from tests.tiny import BERT, ELMO, GPT

NETS = {
    "bert": replace(BERT, num_layers=1, d_model=16),
    "gpt": replace(GPT, num_layers=1, d_model=16),
    "elmo": replace(ELMO, num_layers=1, d_model=16, d_cell=16),
}
WORDS = TokenizerConfig(kind="word", vocab_size=400)
CONTEXTS = [
    "Anna met Ben in Oslo. She gave him a book, and he read it on the train to Bergen that night.",
    "The train left at nine; nobody (but Ben) was on it.",
    "Oslo",
]


def task_of(kind: Any, data: Any, net: str = "bert", **settings: Any) -> Any:
    """An untrained task whose scores differ from text to text: those of training rows are brought to mean 0, deviation 2."""
    torch.manual_seed(1)
    if kind in (Classification, Regression):  # the first vector of an untrained BERT says little
        settings["head"] = HeadConfig(pooling="mean")
    task = kind(NETS[net], data.spec, **settings)
    task.tokenizer = data.tokenizer
    rows, output = data.rows("train"), task.eval().head.output
    with torch.no_grad():
        batch = rows.collate([rows[i] for i in range(min(8, len(rows)))])
        scores = task.scores(batch).flatten(0, -2)
        mean, scale = scores.mean(0), 2 / scores.std(0)
        output.bias.copy_((output.bias - mean) * scale)
        output.weight.mul_(scale.unsqueeze(1))
    return task


def data_of(kind: Any, source: Any, net: str = "bert", **settings: Any) -> Any:
    characters = 12 if net == "elmo" else 0
    return kind(source, WORDS, form=net, characters=characters, batch_size=8, **settings)


def by_row(task: Any, data: Any, split: str, count: int = 100) -> list[tuple[Any, Any]]:
    """Each of the data module's rows, of its first examples, read alone, with its scores."""
    rows, out = data.rows(split), []
    for i in range(len(rows)):
        if rows[i].example >= count:
            break
        batch = rows.collate([rows[i]])
        with torch.no_grad():
            out.append((batch, task.scores(batch)))
    return out


@pytest.fixture(scope="module")
def news() -> Any:
    return data_of(ClassificationData, BuiltinLabels(about="news", train=12, val=6, test=0))


@pytest.fixture(scope="module")
def entities() -> Any:
    source = BuiltinTags(train=2, val=1, test=0)
    return data_of(TaggingData, source, max_length=9, scheme="bioes")


@pytest.fixture(scope="module")
def checkpoints(news: Any, entities: Any, tmp_path_factory: pytest.TempPathFactory) -> Any:
    folder = tmp_path_factory.mktemp("labelling")
    for name, task in (
        ("news", task_of(Classification, news)),
        ("entities", task_of(Tagging, entities)),
    ):
        save_checkpoint(task, folder / f"{name}.ckpt")
    return {name: str(folder / f"{name}.ckpt") for name in ("news", "entities")}


def call(
    verb: str, model: str, source: Path, *flags: str, capsys: pytest.CaptureFixture[str]
) -> list[str]:
    """Lines of what is printed."""
    assert main([verb, model, str(source), "--device=cpu", *flags]) == 0, capsys.readouterr().err
    return capsys.readouterr().out.split("\n")[:-1]


def write(path: Path, *lines: Any) -> Path:
    texts = [line if isinstance(line, str) else json.dumps(line) for line in lines]
    path.write_text("".join(f"{text}\n" for text in texts))
    return path


# ---- tasks ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("net", list(NETS))
def test_texts_get_the_classes_of_their_rows(net: str) -> None:
    data = data_of(ClassificationData, BuiltinLabels(about="news", train=12, val=4, test=0), net)
    task = task_of(Classification, data, net)
    texts = [example.text for example in data.examples("val")]
    found = task.classify(texts, batch_tokens=90)
    wanted = torch.cat([scores.softmax(-1) for _, scores in by_row(task, data, "val")])
    got = torch.tensor([list(one.probabilities.values()) for one in found])
    torch.testing.assert_close(got, wanted, atol=1e-5, rtol=1e-5)
    assert got.std(0).max() > 0.05
    assert [one.label for one in found] == [task.labels[i] for i in wanted.argmax(1).tolist()]
    assert list(found[0].probabilities) == task.labels
    assert task.classify([]) == []
    assert len(task.classify([""])) == 1


@pytest.mark.parametrize("net", ["bert", "gpt"])
def test_pairs_and_numbers(net: str, tmp_path: Path) -> None:
    lines = [f"one two{' three' * (i % 4)}\tfour{' five six' * (i % 3)}\t{i}.5" for i in range(9)]
    source = TsvLabels(train=str(write(tmp_path / "a.tsv", *lines)), label=3, second=2)
    source = TsvLabels(train=source.train, val=source.train, label=3, second=2)
    data = data_of(RegressionData, source, net, max_length=10, overlong="truncate")
    task = task_of(Regression, data, net)
    firsts, seconds = zip(*(line.split("\t")[:2] for line in lines), strict=True)
    told: list[tuple[int, int]] = []
    found = task.rate(firsts, seconds, told=lambda i, size: told.append((i, size)), batch_tokens=30)
    wanted = [scores.item() for _, scores in by_row(task, data, "val")]
    np.testing.assert_allclose(found, wanted, atol=1e-4)
    assert np.std(found) > 0.01
    sizes = [len(a.split()) + len(b.split()) + 3 for a, b in zip(firsts, seconds, strict=True)]
    assert told == [(i, size) for i, size in enumerate(sizes) if size > 10]
    assert 0 < len(told) < len(lines)
    with pytest.raises(InputError, match="text 4 has 11 tokens, more than the 10"):
        task.rate(["a"] * 3 + [" a" * 9], None)
    with pytest.raises(InputError, match="2 texts and 1 second"):
        task.rate(["a", "b"], ["c"])


@pytest.mark.parametrize("crf", [False, True])
def test_words_get_the_tags_of_their_rows(crf: bool, entities: Any) -> None:
    task = task_of(Tagging, entities, head=HeadConfig(crf=crf))
    examples = entities.examples("val")[:5]
    wanted: list[list[str]] = [[] for _ in examples]
    sure: list[list[float]] = [[] for _ in examples]
    rows = by_row(task, entities, "val", 5)
    assert len(rows) > len(examples)  # some come in pieces
    for batch, scores in rows:
        mask = batch.first_BW >= 0
        number, ids = int(batch.index_B), task.best(scores, mask)[0].tolist()
        wanted[number] += [task.labels[t] for t in ids]
        every = task.probabilities(scores, mask)[0]
        sure[number] += [every[i, t].item() for i, t in enumerate(ids)]
    found = task.tag_words([example.words for example in examples], batch_tokens=60)
    assert len({tag for its in wanted for tag in its}) > 3
    for its, names, values in zip(found, wanted, sure, strict=True):
        assert its.tags == tags.written(tags.entities(names), len(names), "iob2")
        np.testing.assert_allclose(its.probabilities, values, atol=1e-5)
    assert [len(its.tags) for its in task.tag_words([[], ["Oslo"], []])] == [0, 1, 0]
    assert task.tag_words([]) == []


def test_entities_stand_where_they_say(entities: Any) -> None:
    task = task_of(Tagging, entities)
    texts = [f"  {example.text}\t(so, they say)" for example in entities.examples("val")[:8]]
    texts += ["", " \t", "Ünï\u2028cödé 漢字 🙂 x"]
    found = task.tag(texts)
    assert len(found) == len(texts)
    assert sum(map(len, found)) > 8
    assert not found[-3]
    assert not found[-2]
    kinds = {"person", "place", "organisation", "date"}
    assert {e.type for its in found for e in its} <= set(task.kinds)
    assert len(task.kinds) == len(kinds)
    for text, its in zip(texts, found, strict=True):
        for entity, after in zip(its, [*its[1:], None], strict=False):
            assert text[entity.start : entity.end] == entity.text == entity.text.strip()
            assert after is None or entity.end <= after.start
            assert 0 < entity.probability <= 1


@pytest.mark.parametrize("must_answer", [True, False])
def test_answers_are_those_of_their_windows(must_answer: bool, tmp_path: Path) -> None:
    asked = [("Who met Ben?", 0), ("Where to?", 1), ("What city?", 2), ("Who read it?", 0)]
    paragraphs = [
        {"context": CONTEXTS[c], "qas": [{"id": q, "question": q, "answers": []}]} for q, c in asked
    ]
    file = write(tmp_path / "squad.json", {"data": [{"paragraphs": paragraphs}]})
    source = SquadFiles(train=str(file), val=str(file))
    data = data_of(AnswerData, source, max_length=19, stride=5)
    task = task_of(QuestionAnswering, data, max_words=4, must_answer=must_answer)
    wanted: dict[int, tuple[float, str]] = {}
    rows = by_row(task, data, "val")
    assert len(rows) > len(asked) + 3
    plain = task.found
    every = [plain(scores, batch.first_BW)[0] for batch, scores in rows]
    shift = sum(its.score for its in every) / len(every)  # so that no answer is best now and then
    task.found = lambda *given: [its._replace(score=its.score - shift) for its in plain(*given)]
    for i, (batch, scores) in enumerate(rows):
        its = task.found(scores, batch.first_BW)[0]
        number = data.window("val", i).row.example
        pair = its.score, data.answer("val", i, its.first, its.last)
        wanted[number] = max(pair, wanted.get(number, pair))
    texts = [CONTEXTS[c] for _, c in asked]
    found = task.answer([q for q, _ in asked], texts, stride=5, batch_tokens=60)
    for i, its in enumerate(found):
        score, text = wanted[i]
        assert its.score == pytest.approx(score, abs=1e-4)
        assert its.answer == (text if must_answer or score > 0 else "")
        assert texts[i][its.start : its.end] == its.answer
        assert len(its.answer.replace(".", " .").split()) <= 4
    assert any(its.answer for its in found)
    assert all(its.answer for its in found) == must_answer
    assert task.answer(["Who?"], [" "])[0] == ("", float("-inf"), 0, 0)
    with pytest.raises(InputError, match="question 1: the question has 40 tokens, which leaves no"):
        task.answer(["a " * 40], ["b"])


# ---- the command line ------------------------------------------------------------------------------


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
    model = checkpoints["news"]
    found = call("classify", model, columns, "--pairs", "--json", capsys=capsys)
    flags = ("--key=text", "--second=second", "--json")
    assert found == call("classify", model, records, *flags, capsys=capsys)
    assert [{k: v for k, v in json.loads(f).items() if k in ("text", "second")} for f in found] == (
        pairs
    )


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
