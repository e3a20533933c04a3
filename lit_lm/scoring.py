"""``lit-lm score``: text files against references, one sentence a line, with signatures, intervals and p-values.

Knows no model and no tokenizer of ours: any system's outputs can be scored, also published ones.
"""

from __future__ import annotations

import argparse
import json
import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, field
from pathlib import Path
from typing import Any

from sacrebleu.metrics.base import Metric
from sacrebleu.significance import PairedTest

from lit_lm import scores
from lit_lm.errors import InputError
from lit_lm.json_lines import member, record_of
from lit_lm.streams import decoded, opened

Systems = Sequence[tuple[str, Sequence[str]]]
"""Names and outputs."""


@dataclass(frozen=True)
class Value:
    """One score of one system.

    Args:
        score: of the sentences as they are.
        interval: half of the 95 % confidence interval over bootstrap samples; None for a lone system.
        p: probability of a difference from the first system as large as this by chance; None for the first one.
    """

    score: float
    interval: float | None = None
    p: float | None = None


@dataclass(frozen=True)
class Scored:
    """A system's scores by their names, and its BLEU by source length."""

    system: str
    scores: dict[str, Value]
    bleu_by_length: dict[str, float] = field(default_factory=dict)


@dataclass(frozen=True)
class Report:
    """What was found.

    Args:
        sentences: how many were scored.
        signatures: how each score was made.
        lengths: sentences of each bucket of source lengths; empty without sources.
        systems: in the order given.
    """

    sentences: int
    signatures: dict[str, str]
    lengths: dict[str, int]
    systems: list[Scored]


def evaluate(
    references: Sequence[str],
    systems: Systems,
    metrics: Mapping[str, Metric],
    *,
    sources: Sequence[str] | None = None,
    samples: int = 1000,
    seed: int = 12345,
) -> Report:
    """Scores systems; of two or more, each is tested against the first by paired bootstrap resampling (Koehn 2004,
    https://aclanthology.org/W04-3250), as sacrebleu does it.

    Args:
        references: one a sentence.
        systems: names and outputs, as many as references.
        metrics: from :func:`lit_lm.scores.metrics`.
        sources: for BLEU by source length.
        samples: bootstrap samples.
        seed: of the samples, at least 1.
    """
    values: list[dict[str, Value]]
    if len(systems) == 1:
        signatures = scores.signatures(dict(metrics))
        outputs = systems[0][1]
        values = [
            {
                name: Value(metric.corpus_score(outputs, [references]).score)
                for name, metric in metrics.items()
            }
        ]
    else:
        signatures, values = _paired(references, systems, metrics, samples, seed)
    lengths: dict[str, int] = {}
    by_length: list[dict[str, float]] = [{} for _ in systems]
    if sources is not None:
        buckets = [scores.length_bucket(source) for source in sources]
        lengths = {name: buckets.count(i) for i, name in enumerate(scores.LENGTHS) if i in buckets}
        for found, (_, outputs) in zip(by_length, systems, strict=True):
            rows = scores.statistics(metrics["bleu"], outputs, references)
            for name in lengths:
                picked = [b == scores.LENGTHS.index(name) for b in buckets]
                found[name] = scores.score(metrics["bleu"], rows[picked].sum(0).tolist())
    named = [
        Scored(name, value, found)
        for (name, _), value, found in zip(systems, values, by_length, strict=True)
    ]
    return Report(len(references), signatures, lengths, named)


def _paired(
    references: Sequence[str],
    systems: Systems,
    metrics: Mapping[str, Metric],
    samples: int,
    seed: int,
) -> tuple[dict[str, str], list[dict[str, Value]]]:
    """Signatures, and the values of each system."""
    before = os.environ.get("SACREBLEU_SEED")
    os.environ["SACREBLEU_SEED"] = str(seed)  # the one way in
    try:
        test = PairedTest(list(systems), metrics, [references], "bs", samples)
    finally:
        if before is None:
            del os.environ["SACREBLEU_SEED"]
        else:
            os.environ["SACREBLEU_SEED"] = before
    signatures, results = test()
    # Both are in the order of the metrics, but under sacrebleu's names; the first column holds the systems' names.
    columns = dict(zip(metrics, list(results.values())[1:], strict=True))
    values = [
        {name: _value(column[i], column[0]) for name, column in columns.items()}
        for i in range(len(systems))
    ]
    formatted = [signature.format() for signature in signatures.values()]
    return dict(zip(metrics, formatted, strict=True)), values


def _value(result: Any, first: Any) -> Value:
    """sacrebleu's result in plain numbers. To no difference at all it gives the least p that there is: that is 1."""
    p = None if result.p_value is None else float(result.p_value)
    if p is not None and result.score == first.score:
        p = 1.0
    return Value(float(result.score), float(result.ci), p)


# ---- baselines for summaries of dialogues --------------------------------------------------------


def lead(dialogue: str, count: int) -> str:
    """The first turns of a dialogue, a turn a line, side by side."""
    return " ".join(_turns(dialogue)[:count])


def longest(dialogue: str, count: int) -> str:
    """The turns with the most characters, in the order of the dialogue."""
    turns = _turns(dialogue)
    picked = sorted(range(len(turns)), key=lambda i: -len(turns[i]))[:count]
    return " ".join(turns[i] for i in sorted(picked))


def _turns(dialogue: str) -> list[str]:
    return [turn.strip() for turn in dialogue.split("\n") if turn.strip()]


# ---- the command line ----------------------------------------------------------------------------


def add_arguments(parser: argparse.ArgumentParser) -> None:
    """The arguments of ``lit-lm score``."""
    add = parser.add_argument
    add(
        "references",
        help="text, one a line; here and elsewhere FILE.jsonl:FIELD takes a field of JSON lines",
    )
    add("systems", nargs="*", help="outputs, one a line; the first is what the others are tested against")  # fmt: skip
    add("--lowercase", action="store_true", help="BLEU and chrF of lower-cased texts")
    add("--moses", metavar="LANG", help="also BLEU over lower-cased Moses tokens of this language")
    add("--rouge", action="store_true", help="also ROUGE-1, -2 and -L: for summaries")
    add("--source", metavar="FILE", help="sources: also BLEU by their length in words")
    add("--dialogues", metavar="FILE", help="FILE.jsonl:FIELD: score lead-3 and longest-3 of these, too")  # fmt: skip
    add("--samples", type=int, default=1000, help="bootstrap samples, with two or more systems")
    add("--seed", type=int, default=12345, help="of the samples")
    add("--json", action="store_true", help="print one JSON object")


def run(options: argparse.Namespace) -> int:
    """Scores files; see ``lit-lm score --help``.

    Raises:
        InputError: a file cannot be read, is empty, or has another number of lines than the references.
    """
    for name in ("samples", "seed"):
        if not 1 <= getattr(options, name) < 1 << 32:
            raise InputError(f"--{name} {getattr(options, name)} must be at least 1, below 2^32")
    references = read(options.references)

    def matching(path: str) -> list[str]:
        lines = read(path)
        if len(lines) != len(references):
            raise InputError(
                f"{options.references} has {len(references):,} lines and {path} has {len(lines):,}: line N is scored "
                "against line N, so both need equally many"
            )
        return lines

    systems = [(path, matching(path)) for path in options.systems]
    if options.dialogues is not None:
        dialogues = matching(options.dialogues)
        systems += [
            ("lead-3", [lead(text, 3) for text in dialogues]),
            ("longest-3", [longest(text, 3) for text in dialogues]),
        ]
    if not systems:
        raise InputError("nothing to score: name a file of outputs, or --dialogues")
    found = evaluate(
        references,
        systems,
        scores.metrics(lowercase=options.lowercase, moses=options.moses, rouge=options.rouge),
        sources=None if options.source is None else matching(options.source),
        samples=options.samples,
        seed=options.seed,
    )
    print(json.dumps(asdict(found), ensure_ascii=False) if options.json else table(found))
    return 0


def read(path: str) -> list[str]:
    """Lines of a UTF-8 file, or of ``FILE.jsonl:FIELD`` that field of each.

    Raises:
        InputError: there is no such file, it is empty, a line is not UTF-8 or no JSON object with that text, or no
            field of a file of JSON lines is named.
    """
    records = re.fullmatch(r"(.+\.jsonl):([^:/\\]+)", path)
    file = records[1] if records else path
    if records is None and path.endswith(".jsonl"):
        raise InputError(f"{path}: which field of it? Name it, as in {path}:summary")
    file = str(Path(file).expanduser())
    with opened(file) as stream:
        lines = [decoded(line, file, number) for number, line in enumerate(stream, 1)]
    if not any(line.strip() for line in lines):
        raise InputError(f"{file} is empty: a sentence a line is wanted")
    if records is None:
        return lines
    found = []
    for number, line in enumerate(lines, 1):
        where = f"{file}, line {number}"
        found.append(member(record_of(line, where), records[2], where))
    return found


# ---- for people to read --------------------------------------------------------------------------


def table(found: Report) -> str:
    """A report for people to read."""
    names = list(found.signatures)
    rows = [["system", *(_label(name) for name in names)]]
    rows += [[s.system, *(_cell(s.scores[name]) for name in names)] for s in found.systems]
    lines = [f"{found.sentences:,} sentences", "", *_columns(rows)]
    if len(found.systems) > 1:
        lines += [
            "",
            f"± is half of the 95 % confidence interval; p is of a difference from {found.systems[0].system} by chance "
            "(paired bootstrap resampling)",
        ]
    if found.lengths:
        counts = [f"{_words(name)} ({count:,})" for name, count in found.lengths.items()]
        rows = [["BLEU by source words (sentences)", *counts]]
        rows += [
            [s.system, *(f"{s.bleu_by_length[name]:.2f}" for name in found.lengths)]
            for s in found.systems
        ]
        lines += ["", *_columns(rows)]
    signatures = [[_label(name), text] for name, text in found.signatures.items()]
    return "\n".join([*lines, "", *_columns(signatures)])


def _label(name: str) -> str:
    return {"bleu_moses": "BLEU moses", "chrf": "chrF"}.get(name) or name.replace(
        "rouge", "rouge-"
    ).upper()


def _words(bucket: str) -> str:
    return bucket.replace("_up", "+").replace("_", "-")


def _cell(value: Value) -> str:
    interval = "" if value.interval is None else f" ± {value.interval:.2f}"
    return f"{value.score:.2f}{interval}" + ("" if value.p is None else f" p={value.p:.4f}")


def _columns(rows: list[list[str]]) -> list[str]:
    widths = [max(map(len, column)) for column in zip(*rows, strict=True)]
    return [
        "  ".join(cell.ljust(width) for cell, width in zip(row, widths, strict=True)).rstrip()
        for row in rows
    ]
