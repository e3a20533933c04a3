"""The verbs that give texts labels, and what each says about itself. Imports nothing heavy before it must."""

from __future__ import annotations

import argparse
from collections.abc import Sequence

from lit_lm.startup import importing
from lit_lm.verbs import add_json, add_key, checkpoint_parser, count, parsed


def classify(args: Sequence[str]) -> int:
    """``lit-lm classify``."""
    parser = _label_parser(
        "classify",
        "The class of each line, or the number, with a checkpoint of Classification or Regression: one line in, one "
        "line out.",
    )
    parser.add_argument(
        "--pairs", action="store_true", help="lines are two texts with a tab between them"
    )
    add_key(parser)
    parser.add_argument(
        "--second",
        metavar="NAME",
        default=None,
        help="with --key: the field of the second text",
    )
    parser.add_argument(
        "--overlong",
        choices=("truncate", "error"),
        default="error",
        help="texts longer than the rows of the training data: read the beginning (of two texts, the longer one loses its "
        "end first), or stop",
    )
    add_json(parser)
    _add_field(parser)
    return _run_labels(parser, args)


def tag(args: Sequence[str]) -> int:
    """``lit-lm tag``."""
    parser = _label_parser(
        "tag",
        "The entities of each line, as TYPE: WORDS with tabs between them, with a checkpoint of Tagging: one line in, "
        "one line out.",
    )
    parser.add_argument(
        "--format",
        choices=("text", "conll"),
        default="text",
        help="texts, or columns: a word a line in the first column, a blank line between sentences; tags then come out as a "
        "last column",
    )
    parser.add_argument(
        "--scheme",
        choices=("iob1", "iob2", "bioes"),
        default=None,
        help="how tags of columns are written; iob2 when not given",
    )
    add_key(parser)
    add_json(parser)
    return _run_labels(parser, args)


def answer(args: Sequence[str]) -> int:
    """``lit-lm answer``."""
    parser = _label_parser(
        "answer",
        "Answers to questions, with a checkpoint of QuestionAnswering: JSON lines with the fields question and context in, "
        "the same with answer, score, start and end out.",
    )
    parser.add_argument(
        "--stride", type=count, default=128, help="tokens between the windows of a long context"
    )
    parser.set_defaults(key="question")
    return _run_labels(parser, args)


def prompt(args: Sequence[str]) -> int:
    """``lit-lm prompt``."""
    parser = _label_parser(
        "prompt",
        "Classify each line with a language model that was not trained for it: the class whose words are likeliest behind "
        "a prompt. One line in, one line out.",
    )
    parser.add_argument(
        "--template",
        required=True,
        help="the prompt, with fields in braces: {text} is the line, or the field of --key; \\n is a line end",
    )
    parser.add_argument(
        "--labels",
        required=True,
        help="classes and their words, such as 'negative= bad,positive= good'; the space belongs to the words",
    )
    add_key(parser)
    parser.add_argument(
        "--label",
        metavar="NAME",
        default=None,
        help="the field of the true class: in JSON lines, for accuracy, and in --examples (there `label` when not given)",
    )
    parser.add_argument(
        "--normalize",
        choices=("none", "tokens", "prior"),
        default="none",
        help="compare log-likelihoods of words, those divided by the number of tokens, or those less what they are when the "
        "prompt's text is N/A",
    )
    parser.add_argument(
        "--examples",
        metavar="FILE",
        default=None,
        help="solved examples: JSON lines, or .tsv with names of columns in its first line",
    )
    parser.add_argument(
        "--shots", type=count, default=None, help="examples to put before each prompt"
    )
    parser.add_argument("--seed", type=int, default=0, help="of the draw of examples")
    parser.add_argument(
        "--separator", default="\\n\\n", help="what stands between examples; \\n is a line end"
    )
    add_json(parser)
    _add_field(parser)
    options = parsed(parser, args)
    with importing():
        from lit_lm import prompting

    return prompting.prompt(options)


def _label_parser(verb: str, description: str) -> argparse.ArgumentParser:
    parser = checkpoint_parser(verb, description)
    parser.add_argument(
        "--batch_tokens",
        type=count,
        default=4096,
        help="most tokens computed together, padding included",
    )
    return parser


def _run_labels(parser: argparse.ArgumentParser, args: Sequence[str]) -> int:
    options = parsed(parser, args)
    with importing():
        from lit_lm import labelling

    return int(getattr(labelling, options.verb)(options))


def _add_field(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--field", metavar="NAME", default="label", help="of JSON lines: where the label goes"
    )
