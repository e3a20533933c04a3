"""Tests of tasks with labels count what the files say, and refuse files that say nothing, or something else."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import Trainer

from lit_lm import InputError
from lit_lm.data import (
    AnswerData,
    BuiltinLabels,
    BuiltinTags,
    ClassificationData,
    ConllTags,
    SquadFiles,
    TaggingData,
    TsvLabels,
)
from lit_lm.tasks import Classification, QuestionAnswering, Tagging
from tests import ranks, tiny
from tests.labelled import NETS, data_of, task_of, write


def trainer() -> Trainer:
    return Trainer(accelerator="cpu", logger=False, enable_checkpointing=False)


@pytest.mark.parametrize(
    ("context_words", "max_length", "world_size"),
    [(0, 60, 1), (0, 10, 1), (30, 60, 1), (30, 12, 1), (30, 12, 2)],
)
def test_entities_are_counted_by_sentence_however_rows_are_cut_or_joined(
    context_words: int, max_length: int, world_size: int, tmp_path: Path
) -> None:
    lines: list[str] = []
    sentences = []
    for example in BuiltinTags(train=2, val=1, test=1).read("train"):
        # It ends in an entity, and the next one may begin with one of the same kind.
        label = (*example.label[:-1], "B-PER")
        sentences.append(label)
        lines += [f"{w} {t}" for w, t in zip(example.words, label, strict=True)] + [""]
    path = write(tmp_path / "tags.txt", *lines)
    found = ranks.run(world_size, counted, str(path), context_words, max_length)
    true = sorted(tuple(its) for one in found for its in one[0])
    assert true == sorted(sentences)
    assert len({score for _, score in found}) == 1


def counted(world_size: int, path: str, context_words: int, max_length: int) -> Any:
    """The true tags that each sentence is compared with, and F1."""
    source = ConllTags(path, val=path, context_words=context_words)
    data = data_of(TaggingData, source, max_length=max_length)
    torch.manual_seed(0)
    task = Tagging(NETS["bert"], data.spec)
    seen: list[Any] = []
    update = task.entities["val"].update

    def spy(predicted: Any, true: Any) -> None:
        seen.extend(true)
        update(predicted, true)

    task.entities["val"].update = spy  # type: ignore[method-assign]
    made = tiny.trainer(Path(path).parent, **ranks.settings(world_size))
    (logged,) = made.validate(task, data, verbose=False)
    return seen, logged["val/f1"]


def test_pairs_are_no_single_texts(tmp_path: Path) -> None:
    data = data_of(ClassificationData, BuiltinLabels(about="news", train=12, val=4, test=0))
    task = task_of(Classification, data)
    rows = [f"a{' b' * i}\tc\t{label}" for i, label in enumerate(["bad", "good"] * 3)]
    path = str(write(tmp_path / "pairs.tsv", *rows))
    single, pairs = (
        data_of(ClassificationData, TsvLabels(train=path, val=path, label=3, second=second))
        for second in (None, 2)
    )
    assert trainer().test(task, single)
    with pytest.raises(InputError, match="pairs of texts, and this task was made for single"):
        trainer().test(task, pairs)


def test_questions_without_any_answer_are_no_test(tmp_path: Path) -> None:
    def asked(name: str, *answers: list[dict[str, Any]]) -> str:
        its = [{"id": str(i), "question": "q", "answers": a} for i, a in enumerate(answers)]
        paragraphs = [{"context": "a b", "qas": its}]
        return str(write(tmp_path / name, {"data": [{"paragraphs": paragraphs}]}))

    some, none = (
        asked("some.json", [{"text": "b", "answer_start": 2}], []),
        asked("none.json", [], []),
    )
    data = data_of(AnswerData, SquadFiles(train=some, val=some, test=none))
    task = QuestionAnswering(NETS["bert"], data.spec)
    task.tokenizer = data.tokenizer
    assert trainer().validate(task, data)
    with pytest.raises(InputError, match="test: none of the 2 questions has an answer"):
        trainer().test(task, data)
