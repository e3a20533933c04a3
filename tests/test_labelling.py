"""Classes, tags and answers of texts alone: what data modules read is what they give."""

from __future__ import annotations

from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_lm import InputError
from lit_lm.data import (
    AnswerData,
    BuiltinLabels,
    BuiltinTags,
    ClassificationData,
    ConllTags,
    RegressionData,
    SquadFiles,
    TaggingData,
    TsvLabels,
)
from lit_lm.data.labelled import tags
from lit_lm.nn.heads import HeadConfig
from lit_lm.tasks import Classification, QuestionAnswering, Regression, Tagging
from tests.labelled import CONTEXTS, NETS, data_of, task_of, write


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
    with pytest.raises(InputError, match="trained on single texts: give no second ones"):
        task.classify(["a"], ["b"])


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
    with pytest.raises(InputError, match="text 4 has 12 tokens, more than the 10"):
        task.rate(["a"] * 3 + [" a" * 8], ["b"] * 4)
    with pytest.raises(InputError, match="trained on pairs of texts: give the second ones too"):
        task.rate(["a"])
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
        number, begin = entities.piece("val", int(batch.index_B))
        assert begin == len(wanted[number])
        ids = task.best(scores, mask)[0].tolist()
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


def test_sentences_are_read_in_the_context_that_those_of_training_had(tmp_path: Path) -> None:
    its = BuiltinTags(train=30, val=1, test=1)
    lines = ["-DOCSTART- O", ""]
    sentences, documents = [], []
    for i, example in enumerate(its.read("train")):
        lines += [f"{w} {t}" for w, t in zip(example.words, example.label, strict=True)] + [""]
        sentences.append(example.words)
        documents.append(i // 10)
        lines += ["-DOCSTART- O", ""] if i % 10 == 9 else []
    path = str(write(tmp_path / "tags.txt", *lines))
    alone, together = (
        data_of(TaggingData, ConllTags(path, val=path, context_words=most)) for most in (0, 30)
    )
    task = task_of(Tagging, together)
    found = task.tag_words(sentences, documents)
    wanted = iter(
        task.labels[t]
        for batch, scores in by_row(task, together, "val", len(sentences))
        for t in task.best(scores, batch.first_BW >= 0)[0].tolist()
    )
    for one, words in zip(found, sentences, strict=True):
        names = list(islice(wanted, len(words)))
        assert one.tags == tags.written(tags.entities(names), len(words), "iob2")
    assert next(wanted, None) is None
    # On its own a sentence has other tags: the network sees its neighbours.
    assert found != task.tag_words(sentences)
    task = task_of(Tagging, alone)
    assert task.tag_words(sentences, documents) == task.tag_words(sentences)


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
