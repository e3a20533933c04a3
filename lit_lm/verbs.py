"""The verbs that use a checkpoint, and what each says about itself. Imports nothing heavy before it must."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lit_lm.startup import importing

_FORMS = """\
Text outputs are a line each; what ends a line inside an output becomes a space. JSON lines
(--json, or --n_best above 1) hold {"source": TEXT, "output": BEST, "score": NUMBER} and, with
--n_best above 1, "outputs": [{"output": TEXT, "score": NUMBER}, ...], best first. Scores are
log-probabilities in nats, of a beam search divided by the length penalty; of a line in parts
their sum.

A run that was stopped goes on with --resume and the same other options; what comes out equals
what a run without a stop writes. A source's tokens count its end, and its tag with --to.
"""


def parser_of(verb: str, description: str) -> argparse.ArgumentParser:
    """A parser that shows defaults."""
    return argparse.ArgumentParser(
        f"lit-lm {verb}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def generate(args: Sequence[str]) -> int:
    """``lit-lm generate``."""
    parser = checkpoint_parser("generate", "Continue each line of a text with a language model.")
    _add_batch_size(parser)
    add_json(parser)
    _add_sampling(parser)
    parser.add_argument(
        "--max_new_tokens", type=int, default=64, help="most tokens to add to a line"
    )
    parser.add_argument(
        "--beam", type=int, help="search for the likeliest continuation with a beam of this size"
    )
    parser.add_argument(
        "--length_penalty", type=float, help="of the beam: exponent of the length; 1 when not given"
    )
    options = parser.parse_intermixed_args(args)  # flags may stand between files
    with importing():
        from lit_lm import inference

    return inference.generate(options)


def translate(args: Sequence[str]) -> int:
    """``lit-lm translate``."""
    parser = _pair_parser(
        "translate",
        "Translate each line: one line in, one line out, in order, for files of any length.",
        overlong="split",
    )
    parser.add_argument(
        "--to",
        metavar="LANGUAGE",
        default=None,
        help="puts the tag <2LANGUAGE> before each source, for models trained with such tags",
    )
    return _run_pairs(parser, args)


def summarize(args: Sequence[str]) -> int:
    """``lit-lm summarize``."""
    parser = _pair_parser(
        "summarize",
        "Summarise each line with a translation checkpoint that was trained on summaries: one line in, one line "
        "out. Documents that hold line ends come as JSON lines (--key).",
        overlong="error",
    )
    parser.set_defaults(to=None)
    return _run_pairs(parser, args)


def fill_mask(args: Sequence[str]) -> int:
    """``lit-lm fill-mask``."""
    parser = checkpoint_parser(
        "fill-mask", "Fill the gaps of each line, written <mask>, with a masked language model."
    )
    _add_batch_size(parser)
    add_json(parser)
    parser.add_argument(
        "--top_k", type=int, default=5, help="fills to give for a gap (with --json)"
    )
    options = parser.parse_intermixed_args(args)  # flags may stand between files
    with importing():
        from lit_lm import inference

    return inference.fill_mask(options)


def embed(args: Sequence[str]) -> int:
    """``lit-lm embed``."""
    parser = checkpoint_parser(
        "embed", "Vectors of each line from any model's encoder: JSON lines, or one array."
    )
    _add_batch_size(parser)
    parser.add_argument(
        "--pooling",
        choices=("mean", "tokens"),
        default="mean",
        help="the mean of a line's token vectors, or a vector for each token",
    )
    parser.add_argument(
        "--output", default=None, help="write an array to this .npy file (only with mean pooling)"
    )
    parser.add_argument(
        "--search",
        metavar="QUERIES",
        default=None,
        help="instead find the lines that are most like each line of this file, by the cosine of mean vectors; those of "
        "all lines are held in memory. Prints number of the query, rank, similarity and line, with tabs between them",
    )
    parser.add_argument("--top_k", type=count, default=5, help="lines to find for a query")
    parser.add_argument(
        "--json", action="store_true", help="print what was found as JSON, an object a query"
    )
    options = parser.parse_intermixed_args(args)  # flags may stand between files
    with importing():
        from lit_lm import inference, searching

    return inference.embed(options) if options.search is None else searching.search(options)


def checkpoint_parser(verb: str, description: str) -> argparse.ArgumentParser:
    """A parser for a verb that takes a checkpoint and lines."""
    parser = parser_of(verb, description)
    parser.add_argument("checkpoint", help="a checkpoint of lit-lm fit")
    parser.add_argument(
        "file", nargs="?", default="-", help="text, one input a line; - for standard input"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto")
    return parser


def parsed(parser: argparse.ArgumentParser, args: Sequence[str]) -> argparse.Namespace:
    """What was typed, with the verb's name."""
    options = parser.parse_intermixed_args(args)  # flags may stand between files
    options.verb = parser.prog.removeprefix("lit-lm ")
    return options


def _pair_parser(verb: str, description: str, *, overlong: str) -> argparse.ArgumentParser:
    """What translation and summarisation share; they differ in what becomes of long sources."""
    parser = checkpoint_parser(verb, description)
    parser.epilog = _FORMS
    parser.formatter_class = _Forms
    add_key(parser)
    parser.add_argument("--output", default=None, help="write to this new file")
    parser.add_argument(
        "--resume", action="store_true", help="go on where --output ends; a new file starts anew"
    )
    add_json(parser)
    parser.add_argument("--n_best", type=count, default=1, help="outputs of a line, as JSON lines")
    parser.add_argument(
        "--overlong",
        choices=("split", "truncate", "error"),
        default=overlong,
        help="sources longer than the rows of the training data: take them in parts (cut at sentence ends, else "
        "at spaces, else between tokens), read only the beginning, or stop",
    )
    parser.add_argument(
        "--batch_tokens",
        type=count,
        default=4096,
        help="most source tokens computed together, padding included; shorter sources than 16 count as 16",
    )
    parser.add_argument(
        "--beam", type=int, default=None, help="beam size; the checkpoint's own when not given"
    )
    parser.add_argument(
        "--length_penalty", type=float, default=None, help="exponent; the checkpoint's own"
    )
    parser.add_argument(
        "--penalty",
        choices=("gnmt", "plain"),
        default=None,
        help="divide by ((5 + length) / 6)^exponent or by length^exponent; the checkpoint's own",
    )
    _add_sampling(parser)
    return parser


def _run_pairs(parser: argparse.ArgumentParser, args: Sequence[str]) -> int:
    options = parsed(parser, args)
    with importing():
        from lit_lm import translating

    return translating.translate(options)


def _add_batch_size(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--batch_size", type=count, default=32, help="inputs computed together")


def add_json(parser: argparse.ArgumentParser) -> None:
    """JSON lines out."""
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines with input and output"
    )


def add_key(parser: argparse.ArgumentParser) -> None:
    """JSON lines in."""
    parser.add_argument(
        "--key",
        metavar="NAME",
        default=None,
        help="lines are JSON objects, and the text is this field, which may hold line ends",
    )


def _add_sampling(parser: argparse.ArgumentParser) -> None:
    parser.add_argument("--seed", type=int, default=0, help="of sampling")
    parser.add_argument(
        "--temperature", type=float, default=0.0, help="0 takes the most likely token"
    )
    parser.add_argument(
        "--top_k", type=int, default=0, help="draw from the k most likely tokens; 0 for all"
    )
    parser.add_argument(
        "--top_p", type=float, default=1.0, help="draw from the most likely tokens of this mass"
    )


def count(text: str) -> int:
    """A whole number from 1 on, from an option."""
    number = int(text)
    if number < 1:
        raise argparse.ArgumentTypeError(f"{number} must be at least 1")
    return number


class _Forms(argparse.ArgumentDefaultsHelpFormatter, argparse.RawDescriptionHelpFormatter):
    """Shows defaults, and keeps the lines of what stands below the options."""
