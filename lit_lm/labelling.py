"""``lit-lm classify``, ``tag`` and ``answer``: labels for a stream of texts, one line in, one line out."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterable, Iterator
from functools import partial
from typing import Any

from lit_lm.data.labelled import tags
from lit_lm.errors import InputError
from lit_lm.inference import load
from lit_lm.json_lines import member
from lit_lm.piping import Item, Window, item_of, pipe, with_found
from lit_lm.streams import name_of, one_line, opened
from lit_lm.tasks import Adaptation, Classification, QuestionAnswering, Regression, Tagging
from lit_lm.translator import Tally

_MOST = 100_000
"""Words of a sentence in columns: a file without blank lines is no such file."""


def classify(options: Namespace) -> int:
    """A class, or a number, for each line; see ``lit-lm classify --help``."""
    if options.second is not None and options.key is None:
        raise InputError(
            f"--second={options.second} is a field of JSON lines: name the first text's too (--key), or use --pairs "
            "for two columns"
        )
    if options.pairs and options.key is not None:
        raise InputError("--pairs are columns of text lines: with --key, name the field (--second)")
    with opened(options.file) as stream:
        task = load(options, (Classification, Regression), "classify")
        long = Tally()
        work = partial(_classify, options, task, long)
        pipe(stream, options, work, notes=lambda: _notes(long, task.limit))
    return 0


def _classify(
    options: Namespace,
    task: Adaptation,
    long: Tally,
    first: int,
    lines: list[str],
) -> list[str]:
    items = [item_of(line, number, options) for number, line in enumerate(lines, first)]
    seconds = None
    if options.pairs:
        items, seconds = _columns(items)
    elif options.second is not None:
        seconds = [member(item.record, options.second, item.where) for item in items]

    def told(i: int, size: int) -> None:
        if options.overlong == "error":
            raise InputError(
                f"{items[i].where} has {size:,} tokens, more than the {task.limit:,} that this checkpoint's rows have: "
                f"read only its beginning (--overlong=truncate), or leave it out. It starts: {items[i].text[:60]!r}"
            )
        long.add(first + i)

    texts, settings = [item.text for item in items], {"batch_tokens": options.batch_tokens}
    if isinstance(task, Regression):
        numbers = task.rate(texts, seconds, told=told, **settings)
        found: list[tuple[str, dict[str, Any]]] = [
            (f"{n:.6g}", {options.field: n}) for n in numbers
        ]
    else:
        assert isinstance(task, Classification)
        classes = task.classify(texts, seconds, told=told, **settings)
        found = [
            (one_line(c.label), {options.field: c.label, "probabilities": c.probabilities})
            for c in classes
        ]
    return [
        with_found(item, its, options.field) if options.json else plain
        for item, (plain, its) in zip(items, found, strict=True)
    ]


def _columns(items: list[Item]) -> tuple[list[Item], list[str]]:
    """Lines of two columns as first texts and second ones."""
    out, seconds = [], []
    for item in items:
        columns = item.text.split("\t")
        if len(columns) != 2:
            raise InputError(
                f"{item.where} has {len(columns)} columns, where --pairs wants two texts with a tab between them: "
                f"{item.text[:60]!r}"
            )
        text, second = columns
        out.append(item._replace(text=text, record={"text": text, "second": second}))
        seconds.append(second)
    return out, seconds


def _notes(long: Tally, limit: int) -> list[str]:
    return (
        [f"{long.count:,} longer than {limit:,} tokens truncated (first: line {long.first:,})"]
        if long.count
        else []
    )


def tag(options: Namespace) -> int:
    """The entities of each line; see ``lit-lm tag --help``."""
    columns = options.format == "conll"
    if columns and (options.json or options.key is not None):
        raise InputError("--format=conll has columns in and out: drop --json and --key")
    if options.scheme is not None and not columns:
        raise InputError(
            f"--scheme={options.scheme} is how tags are written: it wants --format=conll"
        )
    with opened(options.file) as stream:
        task = load(options, Tagging, "tag")
        if columns:
            grouped = partial(_sentences, options)
            pipe(stream, options, partial(_tag_columns, options, task), grouped=grouped)
        else:
            pipe(stream, options, partial(_tag, options, task))
    return 0


def _tag(options: Namespace, task: Tagging, first: int, lines: list[str]) -> list[str]:
    items = [item_of(line, number, options) for number, line in enumerate(lines, first)]
    found = task.tag([item.text for item in items], batch_tokens=options.batch_tokens)
    if options.json:
        return [
            with_found(item, {"entities": [entity._asdict() for entity in entities]})
            for item, entities in zip(items, found, strict=True)
        ]
    return [
        "\t".join(f"{entity.type}: {' '.join(entity.text.split())}" for entity in entities)
        for entities in found
    ]


def _sentences(options: Namespace, found: Iterable[Window]) -> Iterator[Window]:
    """Windows that end where sentences do."""
    first, held = 1, list[bytes]()
    for number, lines in found:
        blank = next((i for i in reversed(range(len(lines))) if not lines[i].strip()), None)
        if blank is None:
            held += lines
        else:
            yield first, held + lines[: blank + 1]
            first, held = number + blank + 1, lines[blank + 1 :]
        if len(held) > _MOST:
            raise InputError(
                f"{name_of(options.file)}: no blank line in the {len(held):,} from line {first:,} on: --format=conll wants "
                "a word a line, and a blank line between sentences"
            )
    if held:
        yield first, held


def _tag_columns(options: Namespace, task: Tagging, first: int, lines: list[str]) -> list[str]:
    words = [next(iter(line.split()), "") for line in lines]
    inside = [word not in ("", "-DOCSTART-") for word in words]
    sentences: list[list[str]] = []
    documents: list[int] = []
    headers = 0
    for i, word in enumerate(words):
        headers += word == "-DOCSTART-"
        if inside[i] and (i == 0 or not inside[i - 1]):
            sentences.append([])
            documents.append(headers)
        if inside[i]:
            sentences[-1].append(word)
    found = iter(
        name
        for its in task.tag_words(sentences, documents, batch_tokens=options.batch_tokens)
        for name in tags.convert(its.tags, "iob2", options.scheme or "iob2")
    )
    return [
        f"{line.rstrip()}{_gap(line)}{next(found) if is_word else 'O'}" if word else ""
        for line, word, is_word in zip(lines, words, inside, strict=True)
    ]


def _gap(line: str) -> str:
    return "\t" if "\t" in line.strip() else " "


def answer(options: Namespace) -> int:
    """The answer to each line's question; see ``lit-lm answer --help``."""
    with opened(options.file) as stream:
        task = load(options, QuestionAnswering, "answer")
        pipe(stream, options, partial(_answer, options, task))
    return 0


def _answer(options: Namespace, task: QuestionAnswering, first: int, lines: list[str]) -> list[str]:
    items = [item_of(line, number, options) for number, line in enumerate(lines, first)]
    found = task.answer(
        [item.text for item in items],
        [member(item.record, "context", item.where) for item in items],
        stride=options.stride,
        names=[item.where for item in items],
        batch_tokens=options.batch_tokens,
    )
    finite = [
        its._asdict() | {"score": its.score if its.score > float("-inf") else None} for its in found
    ]
    return [with_found(item, its) for item, its in zip(items, finite, strict=True)]
