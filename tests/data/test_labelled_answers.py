"""Questions with answers that are parts of a text: windows, answers of many words, and what is refused."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from lit_lm import (
    AnswerData,
    InputError,
)
from lit_lm.data import (
    SquadFiles,
)
from lit_lm.data.labelled import answers
from tests.data.labelled import FORMS, WORDS, write


def squad(folder: Path, context: str, answer: str, question: str = "which one?") -> str:
    start = context.find(answer)
    asked = {"id": "q1", "question": question, "answers": [{"text": answer, "answer_start": start}]}
    none = {"id": "q2", "question": question, "answers": []}
    content = {"data": [{"title": "t", "paragraphs": [{"context": context, "qas": [asked, none]}]}]}
    return write(folder, json.dumps(content), "squad.json")


def asked(path: str, **settings: Any) -> AnswerData:
    settings = {"form": "bert", "batch_size": 2, "max_length": 24, "stride": 6, **settings}
    return AnswerData(SquadFiles(train=path, val=path), WORDS, **settings)


@pytest.mark.parametrize("form", FORMS)
def test_every_word_of_a_text_is_in_a_window_and_the_answer_where_it_stands(
    tmp_path: Path, form: Any
) -> None:
    context = " ".join(f"w{i}," for i in range(40)) + ' then (in "1999") it ended.'
    data = asked(squad(tmp_path, context, "1999"), form=form)
    rows = data.rows("val")
    seen = set()
    found = []
    for i in range(len(rows)):
        row, words = data.window("val", i)
        seen |= set(words[1:]) if row.example == 0 else set()
        assert row.first is not None
        assert len(row.first) == len(words) == len(set(row.first.tolist()))
        assert len(row.ids) <= 24
        assert row.first[0] == (len(row.ids) - 1 if form in ("gpt", "source") else 0)
        if row.label[0]:
            found.append((row.example, data.answer("val", i, *row.label.tolist())))
    assert seen == set(answers.words_of(context))
    assert set(found) == {(0, "1999")}
    assert "2 questions in" in data.unused("val")


def test_answers_of_many_words_are_cut_out_of_the_text(tmp_path: Path) -> None:
    context = "It was  the very-best thing; it cost $3.50 then."
    for answer in ("very-best thing", "$3.50", "It", "then."):
        data = asked(squad(tmp_path, context, answer), max_length=40)
        row = data.rows("val")[0]
        assert data.answer("val", 0, *row.label.tolist()) == answer
        assert data.rows("val")[1].label.tolist() == [0, 0]


def test_bad_questions_are_refused(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"question q1: the answer 'zz' does not stand at character"
    ):
        asked(squad(tmp_path, "a b", "zz")).rows("train")
    with pytest.raises(InputError, match=r"the question has 22 tokens, which leaves -1"):
        asked(squad(tmp_path, "a b", "a", question="x " * 22)).rows("train")
    with pytest.raises(InputError, match=r"not in SQuAD's form .*KeyError 'data'"):
        asked(write(tmp_path, "{}", "bad.json")).rows("train")
    with pytest.raises(InputError, match=r"bad.json, line 1: not JSON"):
        asked(write(tmp_path, "{", "bad.json")).rows("train")
