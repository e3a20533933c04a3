"""``lit-lm translate`` and ``lit-lm summarize``: a stream of texts through a translator, one line in, one line out."""

from __future__ import annotations

import sys
import time
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from functools import partial

from lit_lm.errors import InputError
from lit_lm.inference import load, sampling_of
from lit_lm.json_lines import member, record_of
from lit_lm.progress import Advance, bar
from lit_lm.streams import (
    Output,
    decoded,
    json_line,
    name_of,
    one_line,
    opened,
    size_of,
    windows,
)
from lit_lm.tasks import Translation
from lit_lm.translator import Scored, Translator

_OVERLONG = {"split": "split", "truncate": "truncated"}


def translate(options: Namespace) -> int:
    """Puts each line of the input through a translator; see ``lit-lm translate --help``."""
    with (
        opened(options.file) as stream,
        Output(
            options.output, resume=options.resume, inputs=(options.file, options.checkpoint)
        ) as out,
    ):
        translator = _translator(options)
        begin = time.monotonic()
        size = size_of(stream)
        # Whoever writes into a pipe or a terminal may wait for an answer before going on.
        waiting = options.output is None and size is None
        seen = options.output is None and sys.stdout.isatty()
        with bar(size, shown=not (seen or stream.isatty())) as advance:
            lines, reused = _run(
                options, translator, out, windows(stream, waiting=waiting), advance
            )
    seconds = time.monotonic() - begin
    print(f"lit-lm {options.verb}: {_report(translator, lines, reused, seconds)}", file=sys.stderr)
    return 0


def _translator(options: Namespace) -> Translator:
    task = load(options, Translation, options.verb)
    given = {
        "size": options.beam,
        "length_penalty": options.length_penalty,
        "penalty": options.penalty,
    }
    changes = {key: value for key, value in given.items() if value is not None}
    sampling = sampling_of(options)
    if changes and sampling.temperature > 0:
        raise InputError(
            f"--temperature={sampling.temperature} draws outputs: --beam, --length_penalty and --penalty have no "
            "part in that. Drop them, or the temperature"
        )
    return Translator(
        task,
        name=name_of(options.file),
        beam=replace(task.beam, **changes),
        sampling=sampling if sampling.temperature > 0 else None,
        seed=options.seed,
        n_best=options.n_best,
        language=options.to,
        overlong=options.overlong,
        batch_tokens=options.batch_tokens,
    )


def _run(
    options: Namespace,
    translator: Translator,
    out: Output,
    found: Iterator[tuple[int, list[bytes]]],
    advance: Advance,
) -> tuple[int, int]:
    """Lines of the input, and how many of them had their outputs already."""
    count = reused = 0
    for first, lines in found:
        count += len(lines)
        if out.holds(len(lines)):
            reused = count
            advance(0, sum(map(len, lines)))
            continue
        texts = [_text(line, options, number) for number, line in enumerate(lines, first)]
        outputs = translator(texts, first, partial(_move, advance, lines))
        written = zip(texts, outputs, strict=True)
        out.write([_line(text, its, options) for text, its in written])
    out.finish(count)
    return count, reused


def _text(line: bytes, options: Namespace, number: int) -> str:
    text = decoded(line, name_of(options.file), number)
    if options.key is None:
        return text
    where = f"{name_of(options.file)}, line {number}"
    return member(record_of(text, where), options.key, where)


def _move(advance: Advance, lines: list[bytes], which: list[int]) -> None:
    advance(len(which), sum(len(lines[i]) for i in which))


def _line(source: str, outputs: list[Scored], options: Namespace) -> str:
    if not options.json and options.n_best == 1:
        return one_line(outputs[0].output)
    content = {"source": source, **outputs[0]._asdict()}
    if options.n_best > 1:
        content["outputs"] = [output._asdict() for output in outputs]
    return json_line(content)


def _report(translator: Translator, lines: int, reused: int, seconds: float) -> str:
    new = lines - reused
    parts = [f"{new:,} lines in {seconds:.1f} s, {new / max(seconds, 1e-9):,.1f} a second"]
    if reused:
        parts.append(f"the {reused:,} before them were there already")
    long, unfinished = translator.long, translator.unfinished
    if long.count:
        parts.append(
            f"{long.count:,} longer than {translator.limit:,} tokens {_OVERLONG[translator.overlong]} "
            f"(first: line {long.first:,})"
        )
    if unfinished.count:
        parts.append(
            f"{unfinished.count:,} outputs stopped at their length limit (first: line {unfinished.first:,})"
        )
    return "; ".join(parts)
