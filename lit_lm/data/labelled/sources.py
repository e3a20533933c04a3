"""Sources of labelled examples: tables, columns of tags, questions on texts, the built-in language.

They are held in memory: labels are few, or somebody would not need pre-training.
"""

# No postponed annotations here: see `sources.py`.
import json
import math
from abc import ABC
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, ClassVar, Literal, NamedTuple

from jsonargparse import set_parsing_settings

from lit_lm.data.builtin import LABELS, LEXICON, Document
from lit_lm.data.builtin.frames import Arrival
from lit_lm.data.files import expand, read_lines
from lit_lm.data.generated import _Generated
from lit_lm.data.labelled import tags
from lit_lm.data.labelled.contexts import joined
from lit_lm.data.sources import Lines, Source
from lit_lm.data.tables import Paths, _JsonLines, _Table, _Tsv
from lit_lm.data.text_files import LineFiles
from lit_lm.errors import InputError, check_counts
from lit_lm.json_lines import member, record_of, value_of


class Example(NamedTuple):
    """What somebody has labelled.

    Args:
        text: the text, or the first of two; of questions, the question.
        second: the second text; None for none.
        label: a class's name, a number, a tag for each word (IOB2), or the answers to a question.
        where: its file and line, or what else names it.
        words: of tags, the text's words; else none.
        sizes: of tags, how many words each sentence has, where several were joined; else none.
    """

    text: str
    second: str | None
    label: Any
    where: str
    words: tuple[str, ...] = ()
    sizes: tuple[int, ...] = ()


@dataclass(frozen=True)
class LabelledSource(Source[Example], ABC):
    """Labelled examples. Base class: choose a source by its `class_path`."""

    streams: ClassVar[tuple[str, ...]] = ()


@dataclass(frozen=True)
class ClassSource(LabelledSource, ABC):
    """Texts, or pairs of texts, each with a class or a number."""


@dataclass(frozen=True)
class TagSource(LabelledSource, ABC):
    """Sentences in words, each word with a tag."""


@dataclass(frozen=True)
class AnswerSource(LabelledSource, ABC):
    """Questions on texts, each with the answers that stand there."""


class _Records(_Table, ABC):
    """One example a line."""

    def lines(self, split: str) -> Iterator[Lines]:
        for path in expand(getattr(self, split)):
            for number, found in enumerate(self.records(path), 1):
                if found.item is not None:
                    text, label, *second = found.item
                    item = Example(text, second[0] if second else None, label, "")
                    found = found._replace(item=item._replace(where=f"{path}, line {number}"))
                yield found


@dataclass(frozen=True)
class TsvLabels(_Records, _Tsv, ClassSource):
    """Tab-separated files: a text or two in columns, and a class or a number in another.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        text: the text's column: its name (the first line is then a header), or its number from 1.
        label: the label's column, likewise.
        second: the second text's column, likewise; null for none.
    """

    text: int | str = 1
    label: int | str = 2
    second: int | str | None = None

    def wanted(self) -> list[Any]:
        return [self.text, self.label, *([] if self.second is None else [self.second])]


@dataclass(frozen=True)
class JsonLinesLabels(_Records, _JsonLines, ClassSource):
    """Files with one JSON object a line: a text or two in fields, and a class or a number in another.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        text: name of the field that holds the text; dots lead into nested objects.
        label: name of the label's field, likewise; it holds a text, a number, true or false.
        second: name of the second text's field; null for none.
    """

    text: str = "text"
    label: str = "label"
    second: str | None = None

    def wanted(self) -> list[Any]:
        return [self.text, self.label, *([] if self.second is None else [self.second])]

    def records(self, path: str) -> Iterator[Lines]:
        for number, line in enumerate(read_lines(path), start=1):
            if not line.strip():
                yield Lines(1, None, "blank")
                continue
            where = f"{path}, line {number}"
            record = record_of(line, where)
            text, _, *second = self.wanted()
            label = value_of(record, self.label, where)
            if isinstance(label, bool | int | float):
                label = json.dumps(label)
            else:
                label = member(record, self.label, where)
            cells = [member(record, text, where), label]
            yield Lines(1, [*cells, *(member(record, name, where) for name in second)])


@dataclass(frozen=True)
class ConllTags(LineFiles, TagSource):
    """Files of columns (CoNLL): a word a line with its tag, a blank line between sentences. Lines that start with
    `-DOCSTART-` are no words.

    Args:
        train: file or files to train on, UTF-8.
        val: file or files to validate on; or use `holdout`.
        test: file or files to test on; `val` when not given.
        word: the word's column, from 1.
        tag: the tag's column, from 1, or from the end: -1 is the last.
        scheme: how tags are written: "iob1", "iob2" or "bioes"; "auto" finds out, for each split.
        context_words: read sentences of a document that follow each other as one, of at most so many words: each is then seen
            in its context (Devlin et al. 2019, section 5.3). Documents begin at `-DOCSTART-`, and each file does. 0 keeps
            sentences apart; a longer one is always read on its own.
    """

    train: Paths
    val: Paths | None = None
    test: Paths | None = None
    word: int = 1
    tag: int = -1
    scheme: Literal["auto", "iob1", "iob2", "bioes"] = "auto"
    context_words: int = 0

    def __post_init__(self) -> None:
        check_counts(self, "context_words", least=0)
        if self.word == 0 or self.tag == 0:
            raise InputError(
                f"ConllTags: word={self.word} and tag={self.tag} are columns: count from 1, or from -1 at the end."
            )
        super().__post_init__()

    def lines(self, split: str) -> Iterator[Lines]:
        for path in expand(getattr(self, split)):
            words: list[str] = []
            marks: list[str] = []
            begin, width, first = 0, 0, 0
            for number, line in enumerate(read_lines(path), start=1):
                columns = line.split()
                if not columns or columns[0] == "-DOCSTART-":
                    if words:
                        yield Lines(len(words), _sentence(words, marks, path, begin))
                        words, marks = [], []
                    yield Lines(1, None, "header" if columns else "blank")
                    continue
                begin = begin if words else number
                where = f"{path}, line {number}"
                words.append(_column(columns, self.word, where))
                marks.append(_column(columns, self.tag, where))
                if len(columns) == 1 and self.word != self.tag:
                    raise InputError(
                        f"{where}: one column only, {line[:60]!r}: a word and its tag are wanted, with white space "
                        "between them, as in 'Paris I-LOC'."
                    )
                if not width:
                    width, first = len(columns), number
                if len(columns) != width:
                    raise InputError(
                        f"{where}: {len(columns)} columns, {' '.join(columns)[:60]!r}, where line {first} has {width}: a word "
                        "without its tag? All words of a file must have the same columns."
                    )
            if words:
                yield Lines(len(words), _sentence(words, marks, path, begin))

    def read(self, split: str) -> Iterator[Example]:
        """Sentences, or what is joined of them, with their tags in IOB2."""
        found: list[Example] = []
        documents: list[int] = []
        headers = 0
        for its in self.lines(split):
            headers += its.reason == "header"
            if its.item is not None:
                found.append(its.item)
                documents.append(headers)
        for example in found:
            for offset, tag in enumerate(example.label):
                try:
                    tags.split(tag)
                except ValueError as error:
                    path, line = _place(example)
                    raise InputError(
                        f"{path}, line {line + offset}: {error}. Set data.source.tag to the tags' column, "
                        f"if it is not {self.tag}."
                    ) from None
        scheme = tags.detect([e.label for e in found]) if self.scheme == "auto" else self.scheme
        for i, example in enumerate(found):
            try:
                label = tuple(tags.convert(example.label, scheme, "iob2"))
            except ValueError as error:
                raise InputError(
                    f"{example.where}: not as {scheme} writes tags: {error}."
                ) from None
            found[i] = example._replace(label=label)
        sizes = [len(example.words) for example in found]
        places = [(_place(e)[0], n) for e, n in zip(found, documents, strict=True)]
        for row in joined(sizes, places, self.context_words):
            yield _joined([found[i] for i in row])


def _place(example: Example) -> tuple[str, int]:
    """File and line of a sentence."""
    path, _, line = example.where.rpartition(", line ")
    return path, int(line)


def _joined(row: list[Example]) -> Example:
    """Sentences as one."""
    return row[0]._replace(
        text=" ".join(e.text for e in row),
        label=tuple(tag for e in row for tag in e.label),
        words=tuple(word for e in row for word in e.words),
        sizes=tuple(len(e.words) for e in row),
    )


def _sentence(words: list[str], marks: list[str], path: str, begin: int) -> Example:
    return Example(" ".join(words), None, tuple(marks), f"{path}, line {begin}", words=tuple(words))


def _column(columns: list[str], number: int, where: str) -> str:
    at = number - 1 if number > 0 else number
    if not -len(columns) <= at < len(columns):
        raise InputError(
            f"{where}: no column {number}; there are {len(columns)}: {' '.join(columns)[:60]!r}."
        )
    return columns[at]


@dataclass(frozen=True)
class BuiltinLabels(_Generated, ClassSource):
    """Sentences of the built-in language with a class.

    Args:
        train: documents to train on.
        val: documents to validate on; they open with sentences that no training document opens with.
        test: documents to test on, likewise.
        seed: which of the endless sequences of documents.
        about: "topic": what the story is about, told from a sentence in which somebody brings something, such as a pony:
            two in each document; who knows which words belong together needs few labels. "news": whether an event is bad
            or good news, one in each document; no word alone tells.
    """

    about: Literal["topic", "news"] = "topic"

    def read(self, split: str) -> Iterator[Example]:
        for i, document in enumerate(self.documents(split)):
            where = f"document {i}"
            topic = _topic(document)
            for sentence in document.sentences:
                if self.about == "news" and sentence.label is not None:
                    yield Example(sentence.text, None, LABELS[sentence.label], where)
                if self.about == "topic" and isinstance(sentence.frame, Arrival):
                    yield Example(sentence.text, None, topic, where)


def _topic(document: Document) -> str:
    """What a story is about: the kind of its organisation, of two that stand for the same the first."""
    words = {
        word
        for entity in document.sentences[0].entities
        for word in document.sentences[0].words[entity.start : entity.end]
    }
    return next(t.organisations[0].lower() for t in LEXICON.topics if words & set(t.organisations))


@dataclass(frozen=True)
class BuiltinTags(_Generated, TagSource):
    """Sentences of the built-in language with their named persons, places, organisations and dates.

    Args:
        train: documents to train on; one has about ten sentences.
        val: documents to validate on; they open with sentences that no training document opens with.
        test: documents to test on, likewise.
        seed: which of the endless sequences of documents.
    """

    def read(self, split: str) -> Iterator[Example]:
        for i, document in enumerate(self.documents(split)):
            for sentence in document.sentences:
                spans = [tags.Span(kind, begin, end) for kind, begin, end in sentence.entities]
                label = tuple(tags.written(spans, len(sentence.words), "iob2"))
                yield Example(sentence.text, None, label, f"document {i}", sentence.words)


def number(example: Example) -> float:
    """An example's label as a number.

    Raises:
        InputError: it is none.
    """
    try:
        value = float(example.label)
    except ValueError:
        value = math.nan
    if not math.isfinite(value):
        raise InputError(
            f"{example.where}: label {example.label!r} is no number, as regression learns."
        )
    return value


set_parsing_settings(subclasses_enabled=[LabelledSource, ClassSource, TagSource, AnswerSource])
