"""The verbs that make many runs, and what each says about itself. Imports nothing heavy before it must."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import Any

from lit_lm.errors import InputError
from lit_lm.verbs import parser_of


def _parser(verb: str, description: str, config: str) -> ArgumentParser:
    """What verbs that make many runs share."""
    parser = parser_of(verb, description)
    parser.add_argument("config", help=config)
    parser.add_argument("--jobs", type=int, default=1, help="runs that are made at the same time")
    parser.add_argument(
        "--fresh", action="store_true", help="make all runs again, also finished ones"
    )
    parser.add_argument(
        "--executor",
        default=None,
        help="run them on a cluster: a YAML, or a name such as executor/slurm; default: this host",
    )
    return parser


def _options(options: Namespace) -> dict[str, Any]:
    return {"jobs": options.jobs, "fresh": options.fresh, "executor": options.executor}


def compare(args: Sequence[str]) -> int:
    """``lit-lm compare``."""
    parser = _parser(
        "compare",
        "Run experiments at one budget, each in its own process, and write a page.",
        "a comparison: a path or a name such as compare/builtin",
    )
    options = parser.parse_args(args)
    from lit_lm.compare import compare as run

    run(options.config, **_options(options))
    return 0


def dashboard(args: Sequence[str]) -> int:
    """``lit-lm dashboard``."""
    parser = parser_of(
        "dashboard",
        "Make a report of a comparison on W&B: its answer, curves, test metrics, samples.",
    )
    parser.add_argument("folder", help="the comparison's, such as runs/compare/builtin")
    parser.add_argument("--entity", default=None, help="W&B user or team; default: the login's own")
    parser.add_argument("--project", default="lit_lm", help="the W&B project of its runs")
    options = parser.parse_args(args)
    from lit_lm.dashboard import dashboard as report

    print(report(options.folder, entity=options.entity, project=options.project))
    return 0


def curve(args: Sequence[str]) -> int:
    """``lit-lm curve``."""
    parser = _parser(
        "curve",
        "Train encoders on few labels and on many, from scratch and from pre-trained weights; write a table and a plot.",
        "a curve: a path or a name such as curve/builtin",
    )
    options = parser.parse_args(args)
    from lit_lm.curve import curve as run

    run(options.config, **_options(options))
    return 0


def sweep(args: Sequence[str]) -> int:
    """``lit-lm sweep``."""
    parser = _parser(
        "sweep",
        "Run an experiment with many settings, by grid or at random; write a table and a page.",
        "a sweep: a path or a name such as sweep/builtin_gpt",
    )
    parser.add_argument(
        "--wandb", action="store_true", help="run nothing; print what `wandb sweep` takes"
    )
    parser.add_argument("--output", default=None, help="with --wandb: the file to write")
    options = parser.parse_args(args)
    if options.output is not None and not options.wandb:
        raise InputError("--output is for --wandb; a sweep that is run here has output_dir")
    from lit_lm.sweep import print_wandb_form
    from lit_lm.sweep import sweep as run

    if options.wandb:
        print_wandb_form(options.config, options.output)
        return 0
    run(options.config, **_options(options))
    return 0
