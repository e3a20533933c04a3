"""``lit-lm``: the verbs, and what each of them says about itself. Imports nothing heavy before it must."""

from __future__ import annotations

import os
import sys
from argparse import ArgumentParser
from collections.abc import Callable, Sequence

from lit_lm import label_verbs, plan_verb, run_verbs, verbs
from lit_lm.errors import FailedRuns, InputError
from lit_lm.startup import import_from_here, importing
from lit_lm.verbs import parser_of

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
  translate   one line in, one line out: lit-lm translate FILE input.txt --output output.txt
  summarize   the same for documents: lit-lm summarize FILE documents.jsonl --key text
  fill-mask   fill gaps:        echo "She rode <mask> Oslo." | lit-lm fill-mask FILE
  embed       vectors of texts: lit-lm embed FILE input.txt --output vectors.npy
              or search them:   lit-lm embed FILE input.txt --search queries.txt
  classify    classes of texts: lit-lm classify FILE input.txt
  tag         named entities:   lit-lm tag FILE input.txt --json
  answer      questions on texts, as JSON lines: lit-lm answer FILE questions.jsonl
  prompt      classes from a language model, with few labels or none:
              lit-lm prompt FILE --template "{text} It was" --labels "bad= terrible,good= great"
  average     mean of weights:  lit-lm average A.ckpt B.ckpt --output MEAN.ckpt
  consolidate one file of a checkpoint in shards: lit-lm consolidate FOLDER FILE.ckpt

Weights from elsewhere and for elsewhere (safetensors, JSON; AllenNLP's HDF5):
  import      make a checkpoint: lit-lm import FOLDER FILE.ckpt
  export      for other programs: lit-lm export FILE.ckpt FOLDER

Compare and prepare:
  compare     run experiments at one budget and write a page: lit-lm compare compare/builtin
  curve       quality by number of labels, with and without pre-training: lit-lm curve curve/builtin
  dashboard   a comparison's report on W&B: lit-lm dashboard runs/compare/builtin
  sweep       many settings of one experiment, here or by W&B's agents: lit-lm sweep sweep/builtin_gpt
  score       BLEU, chrF, TER, ROUGE of text files: lit-lm score references.txt output.txt
  prepare     train the tokenizer and tokenise, ahead of time: lit-lm prepare --config ...
  describe    layers, parameters, FLOPs and memory: lit-lm describe model/gpt2_small
  plan        memory of a device, FLOPs and hours before training: lit-lm plan model/gpt3_175b --devices 1024
  configs     list the shipped configurations

A --config is a path or the name of a shipped configuration (lit-lm configs).
"""


def main(args: Sequence[str] | None = None) -> int:
    """Runs one verb.

    Args:
        args: what would be typed after ``lit-lm``; ``sys.argv`` when None.

    Returns:
        The exit status: 0, or 2 for input that cannot be used, 1 for a comparison, a curve or a sweep with failed runs,
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
    import_from_here()
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
    except FailedRuns as error:
        print(f"lit-lm {verb}: {error}", file=sys.stderr)
        return 1
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


def _import(args: Sequence[str]) -> int:
    parser = parser_of(
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
    parser = parser_of("export", "Write a checkpoint's weights and tokenizer for other programs.")
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


def _average(args: Sequence[str]) -> int:
    parser = parser_of(
        "average", "Average the weights of checkpoints, such as the last ones of a run."
    )
    parser.add_argument("checkpoints", nargs="+", help="checkpoints of one network")
    parser.add_argument("--output", required=True, help="the checkpoint to write (.ckpt)")
    options = parser.parse_args(args)
    with importing():
        from lit_lm import checkpoints
        from lit_lm.averaging import average

    if any(
        os.path.exists(p) and os.path.realpath(p) == os.path.realpath(options.output)
        for p in options.checkpoints
    ):
        raise InputError(f"--output {options.output} is one of the checkpoints: name another file")
    checkpoints.save(average(options.checkpoints), options.output)
    print(f"{options.output}: the mean of {len(options.checkpoints)} checkpoints")
    return 0


def _consolidate(args: Sequence[str]) -> int:
    parser = parser_of(
        "consolidate", "Make one file of a checkpoint in shards, the optimizer's state included."
    )
    parser.add_argument(
        "folder", help="a checkpoint that is a folder (trainer/model_parallel, fsdp)"
    )
    parser.add_argument("checkpoint", help="the checkpoint to write (.ckpt)")
    options = parser.parse_args(args)
    with importing():
        from lit_lm import checkpoints, shard_files

    if not shard_files.is_sharded(options.folder):
        raise InputError(
            f"{options.folder} is no checkpoint in shards: give a folder that holds {shard_files.META}"
        )
    if os.path.exists(options.checkpoint):
        raise InputError(f"{options.checkpoint} exists: name another file")
    content = checkpoints.load(options.folder)
    checkpoints.save(content, options.checkpoint)
    numbers = sum(weight.numel() for weight in content["state_dict"].values())
    print(f"{options.checkpoint}: step {content['global_step']}, {numbers:,} weights")
    return 0


def _prepare(args: Sequence[str]) -> int:
    parser = ArgumentParser(
        "lit-lm prepare",
        usage="lit-lm prepare --config ... [--to ADDRESS ...] [settings as for lit-lm fit]",
        description="Train the tokenizer and tokenise: into the cache of this machine, or with --to into shards.",
        add_help=False,
        allow_abbrev=False,
    )
    parser.add_argument(
        "--to", help="write shards into this folder: a path, or an address such as s3://bucket/name"
    )
    parser.add_argument(
        "--shards", type=int, help="how many for the training text; default: one for every 128 MiB"
    )
    parser.add_argument(
        "--shard", help="i/n: only every n-th shard from the i-th on, to share work among machines"
    )
    parser.add_argument("--jobs", type=int, help="processes that write shards; default: 1")
    parser.add_argument(
        "--sample", type=int, help="characters that the tokenizer is trained on; default: 2^27"
    )
    options, rest = parser.parse_known_args(list(args))
    if {"-h", "--help"} & set(rest):
        parser.print_help()
        print()
    given = {name: value for name, value in vars(options).items() if value is not None}
    to = given.pop("to", None)
    if given and to is None:
        raise InputError(
            f"--{next(iter(given))} is for shards: say where they go with --to ADDRESS"
        )
    with importing():
        from lit_lm.data import prepare_data
        from lit_lm.data.shards import verb
        from lit_lm.settings import parse_data
        from lit_lm.training import quieten

    quieten()
    data = parse_data(rest)
    if to is None:
        prepare_data(data)
    else:
        verb.prepare_shards(data, to, **given)
    return 0


def _describe(args: Sequence[str]) -> int:
    parser = parser_of(
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
    parser = parser_of(
        "score", "Score outputs in text files against references, a sentence a line."
    )
    from lit_lm import scoring

    scoring.add_arguments(parser)
    return scoring.run(parser.parse_intermixed_args(args))  # flags may stand between files


def _configs(args: Sequence[str]) -> int:
    parser_of("configs", "List the shipped configurations by name.").parse_args(args)
    from lit_lm import configs

    print(*configs.names(), sep="\n")
    return 0


VERBS: dict[str, Callable[[Sequence[str]], int]] = {
    "generate": verbs.generate,
    "translate": verbs.translate,
    "summarize": verbs.summarize,
    "fill-mask": verbs.fill_mask,
    "embed": verbs.embed,
    "classify": label_verbs.classify,
    "tag": label_verbs.tag,
    "answer": label_verbs.answer,
    "prompt": label_verbs.prompt,
    "import": _import,
    "export": _export,
    "average": _average,
    "consolidate": _consolidate,
    "compare": run_verbs.compare,
    "dashboard": run_verbs.dashboard,
    "curve": run_verbs.curve,
    "sweep": run_verbs.sweep,
    "prepare": _prepare,
    "describe": _describe,
    "plan": plan_verb.plan,
    "score": _score,
    "configs": _configs,
}


def console() -> None:
    """Entry point of the ``lit-lm`` command."""
    try:
        status = main()
        sys.stdout.flush()
    except BrokenPipeError:
        # Whoever read what is printed has left, such as head. What is in the buffer has nowhere to go.
        os.dup2(os.open(os.devnull, os.O_WRONLY), sys.stdout.fileno())
        status = 141
    sys.exit(status)
