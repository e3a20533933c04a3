"""``lit-lm plan``, and what it says about itself. Imports nothing heavy before it must."""

from __future__ import annotations

import json
from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from typing import TYPE_CHECKING

from lit_lm.errors import InputError
from lit_lm.startup import importing
from lit_lm.verbs import parser_of

if TYPE_CHECKING:
    from lit_lm.planning.job import Job

_EPILOG = """All other flags are those of lit-lm fit: further --config layers, and dotted keys such as
--trainer.precision=bf16-mixed or --data.init_args.batch_size=8. A bare model without such flags is planned at the sizes that
lit-lm describe assumes."""
# What is short for which setting of an experiment.
_SHORT = {
    "precision": "trainer.precision",
    "batch_size": "data.init_args.batch_size",
    "vocab_size": "data.init_args.tokenizer.vocab_size",
    "optimizer": "model.init_args.optim.optimizer",
}
_OF_MODELS = ("vocab_size", "length", "target_length", "batch_size", "precision", "optimizer")


def plan(args: Sequence[str]) -> int:
    """``lit-lm plan``."""
    options, flags = parser().parse_known_args(args)
    with importing():
        from lit_lm import planning
        from lit_lm.planning.report import as_dict

    made = planning.plan(
        _job(options, flags),
        device_name=options.device,
        devices=options.devices,
        memory=options.memory,
        tokens=options.tokens,
        **({} if options.mfu is None else {"mfu": options.mfu}),
    )
    print(json.dumps(as_dict(made)) if options.json else planning.table(made))
    return 0


def parser() -> ArgumentParser:
    """Its own flags; all others are those of ``lit-lm fit``."""
    parser = parser_of(
        "plan",
        "What training takes before it is started: memory of a device by strategy, FLOPs, hours, and what would make it fit.",
    )
    parser.epilog, parser.allow_abbrev = _EPILOG, False
    add = parser.add_argument
    add("config", help="an experiment or a model: a path, or a name (lit-lm configs)")
    add("--devices", type=int, help="how many; default: trainer.devices x trainer.num_nodes")
    add("--device", default="h100", help="of which kind; cpu is this machine's")
    add("--memory", type=float, help="gigabytes of a device; default: its data sheet's")
    add("--mfu", type=float, help="share of the device's peak that is reached; default: 0.4")
    add("--tokens", type=float, help="to train on, such as 300e9; default: the settings'")
    add("--json", action="store_true", help="print one JSON object")
    add("--precision", help="short for --trainer.precision")
    add("--batch_size", type=int, help="rows of a device's batch")
    add("--optimizer", choices=("adamw", "adam", "muon"), help="default: the settings', or adamw")
    add("--vocab_size", type=int, help="token ids; default: the data's, or the paper's")
    add("--length", type=int, help="tokens of a row, of a bare model; default: the paper's")
    add("--target_length", type=int, help="of a target, likewise; default: --length")
    return parser


def _job(options: Namespace, flags: list[str]) -> Job:
    from lit_lm import configs

    given = {key: getattr(options, key) for key in _OF_MODELS if getattr(options, key) is not None}
    kind = configs.kind(options.config)
    if kind == "layer" and not any(
        flag.startswith(("--config", "-c", "--model")) for flag in flags
    ):
        raise InputError(
            f"{options.config} describes no network: name a model or an experiment (lit-lm configs)"
        )
    if kind == "model" and not flags:
        with importing():
            from lit_lm.planning.job import model_job
        return model_job(options.config, **given)
    with importing():
        from lit_lm.planning.settings import experiment_job
        from lit_lm.training import quieten

    quieten()
    for key in ("length", "target_length"):
        if key in given:
            raise InputError(
                f"--{key} is for a bare model without other flags: give --data.init_args.length or .max_length"
            )
    short = [f"--{_SHORT[key]}={value}" for key, value in given.items()]
    if "batch_size" in given:
        short.append("--data.init_args.batch_tokens=null")
    return experiment_job(options.config, [*flags, *short])
