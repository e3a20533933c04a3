"""Questions on texts in SQuAD's form."""

# No postponed annotations here: see `lit_lm.data.sources`.
import json
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, NamedTuple

from lit_lm.data.files import expand, hash_files, read_text
from lit_lm.data.labelled.sources import AnswerSource, Example
from lit_lm.data.sources import SPLITS
from lit_lm.data.tables import Paths
from lit_lm.errors import InputError


class Answer(NamedTuple):
    """An answer in a text: what it is, and its first character there."""

    text: str
    start: int


@dataclass(frozen=True)
class SquadFiles(AnswerSource):
    """Questions in SQuAD's JSON (Rajpurkar et al. 2016, https://aclanthology.org/D16-1264; 2.0: 2018,
    https://aclanthology.org/P18-2124, where some have no answer).

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
    """

    train: Paths
    val: Paths | None = None
    test: Paths | None = None

    def given(self) -> tuple[str, ...]:
        return tuple(split for split in SPLITS if getattr(self, split))

    def content(self, split: str) -> str:
        return hash_files(expand(getattr(self, split)))

    def read(self, split: str) -> Iterator[Example]:
        for path in expand(getattr(self, split)):
            try:
                raw = json.loads(read_text(path))
            except json.JSONDecodeError as error:
                raise InputError(f"{path}, line {error.lineno}: not JSON ({error.msg}).") from None
            try:
                yield from _questions(raw, path)
            except (AttributeError, KeyError, TypeError) as error:
                raise InputError(
                    f"{path}: not in SQuAD's form (data, paragraphs, context, qas, question, answers with text and "
                    f"answer_start): {type(error).__name__} {error}."
                ) from None


def _questions(raw: Any, path: str) -> Iterator[Example]:
    for article in raw["data"]:
        for paragraph in article["paragraphs"]:
            context = paragraph["context"]
            for asked in paragraph["qas"]:
                where = f"{path}, question {asked['id']}"
                answers = tuple(Answer(a["text"], a["answer_start"]) for a in asked["answers"])
                for answer in answers:
                    if not context.startswith(answer.text, answer.start) or not answer.text:
                        raise InputError(
                            f"{where}: the answer {answer.text!r} does not stand at character {answer.start} of its text."
                        )
                yield Example(asked["question"], context, answers, where)
