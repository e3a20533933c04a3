"""``lit-lm``: the verbs, and what each of them says about itself. Imports nothing heavy before it must."""

from __future__ import annotations

import argparse
import os
import sys
from collections.abc import Callable, Sequence

from lit_lm.errors import InputError
from lit_lm.startup import importing

TRAINING = ("fit", "validate", "test", "predict")

HELP = """\
usage: lit-lm VERB ...            lit-lm VERB --help for its options

Train and evaluate (Lightning's command line; YAML layers from left to right, flags last):
  fit         train:            lit-lm fit --config experiment/builtin_gpt
  validate    validation loss:  lit-lm validate --config ... --ckpt_path FILE
  test        all test metrics: lit-lm test --config ... --ckpt_path FILE
  predict     outputs for the predict split

Use a checkpoint (the tokenizer travels in it; text comes from a file or stdin):
  generate    continue texts:   echo "Once upon" | lit-lm generate FILE --temperature 0.8
  translate   one line in, one line out: lit-lm translate FILE input.txt
  fill-mask   fill gaps:        echo "She rode <mask> Oslo." | lit-lm fill-mask FILE
  embed       vectors of texts: lit-lm embed FILE input.txt --output vectors.npy

Weights from elsewhere and for elsewhere (safetensors, JSON; AllenNLP's HDF5):
  import      make a checkpoint: lit-lm import FOLDER FILE.ckpt
  export      for other programs: lit-lm export FILE.ckpt FOLDER

Compare and prepare:
  compare     run experiments at one budget and write a page: lit-lm compare compare/builtin
  score       BLEU, chrF, TER, ROUGE of text files: lit-lm score references.txt output.txt
  prepare     train the tokenizer and tokenise, ahead of time: lit-lm prepare --config ...
  describe    layers, parameters, FLOPs and memory: lit-lm describe model/gpt2_small
  configs     list the shipped configurations

A --config is a path or the name of a shipped configuration (lit-lm configs).
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        args: what would be typed after ``lit-lm``; ``sys.argv`` when None.

    Returns:
        The exit status: 0, or 2 for input that cannot be used, 1 for a comparison with failed members,
        130 when it was interrupted.
    """
    args = list(sys.argv[1:] if args is None else args)
    os.environ.setdefault(
        "JSONARGPARSE_DEPRECATION_WARNINGS", "off"
    )  # they are about Lightning's own calls
    if not args or args[0] in ("-h", "--help"):
        print(HELP, end="")
        return 0
    if args[0] == "--version":
        from lit_lm import __version__

        print(f"lit-lm {__version__}")
        return 0
    verb, rest = args[0], args[1:]
    try:
        if verb in TRAINING:
            with importing():
                from lit_lm.training import run_cli

            run_cli([verb, *rest])
            return 0
        if verb in VERBS:
            return VERBS[verb](rest)
        raise InputError(f"no verb {verb!r}: choose one of {', '.join((*TRAINING, *VERBS))}")
    except KeyboardInterrupt:
        return 130
    except Exception as error:
        cause = _input_error(error)
        if cause is None:
            raise
        print(f"lit-lm {verb}: error: {cause}", file=sys.stderr)
        return 2


def _input_error(error: BaseException | None) -> InputError | None:
    """The error that is about the user's input, also where a library has wrapped it in its own."""
    while error is not None and not isinstance(error, InputError):
        error = error.__cause__
    return error


def _parser(verb: str, description: str) -> argparse.ArgumentParser:
    return argparse.ArgumentParser(
        f"lit-lm {verb}",
        description=description,
        formatter_class=argparse.ArgumentDefaultsHelpFormatter,
    )


def _inference_parser(verb: str, description: str) -> argparse.ArgumentParser:
    parser = _parser(verb, description)
    parser.add_argument("checkpoint", help="a checkpoint of lit-lm fit")
    parser.add_argument(
        "file", nargs="?", default="-", help="text, one input a line; - for standard input"
    )
    parser.add_argument("--device", default="auto", help="cpu, cuda, cuda:1, mps, or auto")
    parser.add_argument("--batch_size", type=int, default=32, help="inputs computed together")
    return parser


def _json_flag(parser: argparse.ArgumentParser) -> None:
    parser.add_argument(
        "--json", action="store_true", help="print JSON lines with input and output"
    )


def _decoding_parser(verb: str, description: str) -> argparse.ArgumentParser:
    parser = _inference_parser(verb, description)
    _json_flag(parser)
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
    return parser


def _generate(args: Sequence[str]) -> int:
    parser = _decoding_parser("generate", "Continue each line of a text with a language model.")
    parser.add_argument(
        "--max_new_tokens", type=int, default=64, help="most tokens to add to a line"
    )
    options = parser.parse_args(args)
    with importing():
        from lit_lm import inference

    return inference.generate(options)


def _translate(args: Sequence[str]) -> int:
    parser = _decoding_parser(
        "translate", "Translate (or summarise) each line: one line in, one line out."
    )
    parser.add_argument(
        "--beam", type=int, default=None, help="beam size; the checkpoint's own when not given"
    )
    parser.add_argument(
        "--length_penalty", type=float, default=None, help="exponent; the checkpoint's own"
    )
    options = parser.parse_args(args)
    with importing():
        from lit_lm import inference

    return inference.translate(options)


def _fill_mask(args: Sequence[str]) -> int:
    parser = _inference_parser(
        "fill-mask", "Fill the gaps of each line, written <mask>, with a masked language model."
    )
    _json_flag(parser)
    parser.add_argument(
        "--top_k", type=int, default=5, help="fills to give for a gap (with --json)"
    )
    options = parser.parse_args(args)
    with importing():
        from lit_lm import inference

    return inference.fill_mask(options)


def _embed(args: Sequence[str]) -> int:
    parser = _inference_parser(
        "embed", "Vectors of each line from any model's encoder: JSON lines, or one array."
    )
    parser.add_argument(
        "--pooling",
        choices=("mean", "tokens"),
        default="mean",
        help="the mean of a line's token vectors, or a vector for each token",
    )
    parser.add_argument(
        "--output", default=None, help="write an array to this .npy file (only with mean pooling)"
    )
    options = parser.parse_args(args)
    with importing():
        from lit_lm import inference

    return inference.embed(options)


def _import(args: Sequence[str]) -> int:
    parser = _parser(
        "import",
        "Make a checkpoint of weights in the layout of Hugging Face's BERT or GPT-2, torch.nn.Transformer "
        "or AllenNLP's ELMo.",
    )
    parser.add_argument(
        "folder", help="holds config.json and safetensors, or options.json and HDF5"
    )
    parser.add_argument("checkpoint", help="the checkpoint to write (.ckpt)")
    parser.add_argument(
        "--tokenizer", default=None, help="a tokenizer's file or folder, if it is elsewhere"
    )
    options = parser.parse_args(args)
    with importing():
        from lit_lm import interop
        from lit_lm.training import quieten

    quieten()
    task = interop.read(options.folder, options.tokenizer)
    interop.save_checkpoint(task, options.checkpoint)
    numbers = sum(p.numel() for p in task.net.parameters())
    print(f"{options.checkpoint}: {type(task.net).__name__} of {numbers:,} parameters")
    if task.fresh:
        print(f"not in the files, so fresh: {', '.join(task.fresh)}")
    return 0


def _export(args: Sequence[str]) -> int:
    parser = _parser("export", "Write a checkpoint's weights and tokenizer for other programs.")
    parser.add_argument("checkpoint", help="a checkpoint of lit-lm fit")
    parser.add_argument("folder", help="the folder to write")
    parser.add_argument(
        "--layout",
        default=None,
        help="bert, gpt2, torch_transformer or ctranslate2; without it the architecture's own",
    )
    options = parser.parse_args(args)
    with importing():
        from lit_lm import interop
        from lit_lm.training import load_task, quieten

    quieten()
    layout = interop.write(load_task(options.checkpoint), options.folder, options.layout)
    print(f"{options.folder}: in the layout {layout}")
    return 0


def _compare(args: Sequence[str]) -> int:
    parser = _parser(
        "compare", "Run experiments at one budget, each in its own process, and write a page."
    )
    parser.add_argument("config", help="a comparison: a path or a name such as compare/builtin")
    parser.add_argument("--jobs", type=int, default=1, help="members that run at the same time")
    parser.add_argument(
        "--fresh", action="store_true", help="run all members again, also finished ones"
    )
    options = parser.parse_args(args)
    from lit_lm.compare import MembersFailed, compare

    try:
        compare(options.config, jobs=options.jobs, fresh=options.fresh)
    except MembersFailed as error:
        print(f"lit-lm compare: {error}", file=sys.stderr)
        return 1
    return 0


def _prepare(args: Sequence[str]) -> int:
    with importing():
        from lit_lm.data import prepare_data
        from lit_lm.training import parse_data, quieten

    quieten()
    prepare_data(parse_data(args))
    return 0


def _describe(args: Sequence[str]) -> int:
    parser = _parser(
        "describe",
        "Layers, parameters, FLOPs and training memory of a configuration; nothing is built in memory.",
    )
    parser.add_argument(
        "config", help="a model or an experiment: a path, or a name (lit-lm configs)"
    )
    parser.add_argument(
        "--vocab_size",
        type=int,
        help="token ids; default: the data's, or the architecture's paper's",
    )
    parser.add_argument("--length", type=int, help="tokens of a row; default: likewise")
    parser.add_argument("--target_length", type=int, help="of a target; default: --length")
    parser.add_argument("--batch_size", type=int, default=1, help="rows of a training step")
    parser.add_argument(
        "--precision", default="32-true", help="32-true, 16-mixed, bf16-mixed or bf16-true"
    )
    parser.add_argument("--optimizer", choices=("adamw", "adam", "muon"), default="adamw", help=" ")
    parser.add_argument("--json", action="store_true", help="print one JSON object")
    options = vars(parser.parse_args(args))
    as_json = options.pop("json")
    import json
    from dataclasses import asdict

    with importing():
        from lit_lm.describe import describe, table

    found = describe(options.pop("config"), **options)
    if as_json:
        print(json.dumps(asdict(found)))
    else:
        print(table(found, *(options[k] for k in ("batch_size", "precision", "optimizer"))))
    return 0


def _score(args: Sequence[str]) -> int:
    parser = _parser("score", "Score outputs in text files against references, a sentence a line.")
    from lit_lm import scoring

    scoring.add_arguments(parser)
    return scoring.run(parser.parse_intermixed_args(args))  # flags may stand between files


def _configs(args: Sequence[str]) -> int:
    _parser("configs", "List the shipped configurations by name.").parse_args(args)
    from lit_lm import configs

    print(*configs.names(), sep="\n")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "generate": _generate,
    "translate": _translate,
    "fill-mask": _fill_mask,
    "embed": _embed,
    "import": _import,
    "export": _export,
    "compare": _compare,
    "prepare": _prepare,
    "describe": _describe,
    "score": _score,
    "configs": _configs,
}


def console() -> None:
    """Entry point of the ``lit-lm`` command."""
    sys.exit(main())
