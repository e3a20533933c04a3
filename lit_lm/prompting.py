"""``lit-lm prompt``: classes for a stream of texts from a language model alone, behind solved examples or none."""

from __future__ import annotations

import json
from argparse import Namespace
from collections import Counter
from functools import partial
from typing import Any

from lit_lm.data.files import read_lines
from lit_lm.data.labelled.subsets import order
from lit_lm.errors import InputError
from lit_lm.inference import load
from lit_lm.json_lines import member, record_of
from lit_lm.piping import Item, item_of, pipe, with_found
from lit_lm.prompts import CONTENT_FREE, Prompter, Template, unescaped
from lit_lm.streams import one_line, opened
from lit_lm.tasks import CausalLM


def prompt(options: Namespace) -> int:
    """A class for each line, from a language model; see ``lit-lm prompt --help``."""
    words = labels_of(options.labels)
    template, separator = Template(unescaped(options.template)), unescaped(options.separator)
    if options.label is not None and options.key is None and options.examples is None:
        raise InputError(f"--label={options.label} is a field of JSON lines: give --key too")
    if options.json and options.key is not None and options.field == options.label:
        raise InputError(
            f"--field={options.field} is what --label={options.label} reads: write to another one, such as "
            "--field=predicted"
        )
    with opened(options.file) as stream:
        shots = _shots(options, template, words)
        task = load(options, CausalLM, "prompt")
        before = "".join(shot + separator for shot in shots)
        prompter = Prompter(
            task,
            words,
            options.normalize,
            before + template.fill(lambda name: CONTENT_FREE),
            options.batch_tokens,
        )
        right = Counter[bool]()
        work = partial(_prompt, options, template, before, prompter, right)
        pipe(stream, options, work, notes=lambda: _accuracy(right))
    return 0


def _prompt(
    options: Namespace,
    template: Template,
    before: str,
    prompter: Prompter,
    right: Counter[bool],
    first: int,
    lines: list[str],
) -> list[str]:
    items = [item_of(line, number, options) for number, line in enumerate(lines, first)]
    gold = None
    if options.label is not None and options.key is not None:
        gold = [_label(item, options.label, prompter.words) for item in items]
    prompts = [before + template.fill(partial(_value, item, options.key)) for item in items]
    found = prompter(prompts, [item.where for item in items])
    right.update(its.label == g for its, g in zip(found, gold or (), strict=gold is not None))
    if not options.json:
        return [one_line(its.label) for its in found]
    return [
        with_found(item, {options.field: its.label, "scores": its.scores}, options.field)
        for item, its in zip(items, found, strict=True)
    ]


def _value(item: Item, key: str | None, name: str) -> str:
    """A field of a line: {text} is the line, or of a record the field that --key names; others go by their names."""
    if name == "text":
        return item.text
    if key is None:
        raise InputError(
            f"--template asks for {{{name}}}, and lines of text have {{text}} only: give JSON lines (--key)"
        )
    return member(item.record, name, item.where)


def _label(item: Item, name: str, words: dict[str, str]) -> str:
    value = item.record.get(name)
    label = json.dumps(value) if isinstance(value, bool | int | float) else value
    label = label if isinstance(label, str) else member(item.record, name, item.where)
    if label not in words:
        raise InputError(
            f"{item.where}: {name} is {label!r}, which is none of the --labels {', '.join(words)}"
        )
    return label


def _accuracy(right: Counter[bool]) -> list[str]:
    count = right.total()
    return [f"accuracy {right[True] / count:.4f} ({right[True]:,} right)"] if count else []


def labels_of(text: str) -> dict[str, str]:
    """Classes and their words: ``name=words``, with commas between them; a space before the words belongs to them.

    Raises:
        InputError: there are fewer than two, or something is not so written.
    """
    out: dict[str, str] = {}
    for part in text.split(","):
        name, sign, words = part.partition("=")
        name = name.strip()
        if not sign or not name or not words.strip():
            raise InputError(
                f"--labels: {part!r} is not NAME=WORDS, as in 'negative= bad,positive= good'"
            )
        if name in out:
            raise InputError(f"--labels: {name} stands there twice")
        out[name] = unescaped(words)
    if len(out) < 2:
        raise InputError(f"--labels={text!r}: at least two are wanted, with a comma between them")
    return out


def _shots(options: Namespace, template: Template, words: dict[str, str]) -> list[str]:
    """Solved prompts, in the order in which they stand before each prompt."""
    if (options.examples is None) != (options.shots is None):
        raise InputError(
            "--examples is where solved examples come from, and --shots how many: give both, or none"
        )
    if options.examples is None:
        return []
    items = list(_examples(options.examples, options.key or "text"))
    if options.shots > len(items):
        raise InputError(
            f"--shots={options.shots} is more than the {len(items)} examples of {options.examples}"
        )
    labels = [_label(item, options.label or "label", words) for item in items]
    chosen = order(labels, options.seed)[: options.shots].tolist()
    return [
        template.fill(partial(_value, items[i], options.key or "text")) + words[labels[i]]
        for i in chosen
    ]


def _examples(path: str, key: str) -> list[Item]:
    """Labelled examples: JSON lines, or tab-separated values (.tsv) with names of columns in the first line."""
    header: list[str] | None = None
    out = []
    for number, line in enumerate(read_lines(path), 1):
        where = f"{path}, line {number}"
        if not line.strip():
            continue
        if path.endswith(".tsv"):
            cells = line.split("\t")
            if header is None:
                header = cells
                continue
            if len(cells) != len(header):
                raise InputError(
                    f"{where}: {len(cells)} columns, where the first line has {len(header)}: {line[:60]!r}"
                )
            record: dict[str, Any] = dict(zip(header, cells, strict=True))
        else:
            record = record_of(line, where)
        out.append(Item(member(record, key, where), record, where))
    return out
