"""A training run to be planned, from the settings that ``lit-lm fit`` takes. Reads no text and makes no weights."""

from __future__ import annotations

import functools
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import torch

from lit_lm import configs, describe
from lit_lm.data import Data, Tokenizer
from lit_lm.errors import InputError
from lit_lm.footprint import Footprint, Precision, Work, measure
from lit_lm.full_rows import Lengths, drawn_out
from lit_lm.models import Architecture
from lit_lm.models.base import (
    BidirectionalArchitecture,
    CausalArchitecture,
    MaskedArchitecture,
    Seq2SeqArchitecture,
)
from lit_lm.planning.batches import Shape, batch
from lit_lm.planning.job import Job, sizes_of
from lit_lm.settings import arguments, parse_settings
from lit_lm.specs import DataSpec
from lit_lm.startup import located
from lit_lm.tasks import Task

_BYTES = 261  # ids of a byte tokenizer
_SHARDED = ("fullyshard", "fsdp", "model_parallel", "modelparallel")
_WHOLE = ("auto", "ddp", "single_device", "singledevice")


def experiment_job(config: str, flags: Sequence[str]) -> Job:
    """A training run.

    Args:
        config: an experiment, or a model, whose pre-training is then taken: name or path.
        flags: further flags, as ``lit-lm fit`` takes them.

    Raises:
        InputError: the settings are wrong, or their data or strategy cannot be planned for.
    """
    first = _pretraining(config) if configs.kind(config) == "model" else ["--config", config]
    settings = parse_settings([*first, *flags], "plan")
    model, trainer = settings["model"], settings["trainer"]
    precision = str(trainer["precision"])
    describe.check_precision(precision)
    kind: type[Task] = located(model["class_path"])
    shape = _shape(settings["data"])
    kwargs = arguments(kind, model["init_args"]) | {"spec": shape.spec}
    net: Architecture = kwargs["net"]

    def make(net: Architecture) -> Task:
        return kind(**(kwargs | {"net": net})).train()

    with torch.device("meta"):
        task = make(net)
        rows = _rows(settings["data"]["init_args"], shape)
        _, size = batch(shape, 1, shape.lengths)

    @functools.cache
    def kept(
        rows: int, precision: Precision, gpu: bool, lengths: Lengths = shape.lengths
    ) -> Footprint:
        def measured(net: Architecture, lengths: Lengths) -> Footprint:
            return measure(lambda: _work(make(net), shape, rows, lengths), precision, gpu=gpu)

        return drawn_out(net, shape.spec, lengths, measured)

    return Job(
        name=Path(config).stem if config.endswith(".yaml") else config,
        architecture=type(task.net).__name__,
        vocab_size=shape.spec.vocab_size,
        lengths=shape.lengths,
        sizes=sizes_of(task, task.net),
        tokens=size.tokens,
        flops=task.flops(size) / size.tokens,
        measure=kept,
        rows=rows,
        accumulate=trainer.get("accumulate_grad_batches") or 1,
        precision=precision,  # type: ignore[arg-type]
        optimizer=task.optim.optimizer,
        sharded=_is_sharded(trainer["strategy"]),
        checkpointing=bool(settings.get("activation_checkpointing")),
        devices=_devices(trainer),
        budget=_budget(settings),
    )


def _pretraining(config: str) -> list[str]:
    """Flags of a model's pre-training, at the sizes that ``lit-lm describe`` assumes."""
    net = configs.architecture(config)
    tasks: dict[type, tuple[str, list[str]]] = {
        CausalArchitecture: ("CausalLM", ["TextData", "BuiltinText", "length"]),
        MaskedArchitecture: ("MaskedLM", ["MaskedTextData", "BuiltinText", "max_length"]),
        BidirectionalArchitecture: ("BidirectionalLM", ["TextData", "BuiltinText", "length"]),
        Seq2SeqArchitecture: ("Translation", ["PairData", "BuiltinPairs", "max_length"]),
    }
    found = next((v for k, v in tasks.items() if isinstance(net, k)), None)
    if found is None:
        raise InputError(
            f"{config} is an encoder without a pre-training of its own: name an experiment with it"
        )
    task, (data, source, length) = found
    longest = getattr(net, "max_length", None) or net.paper_length
    flags = {
        "model": f"lit_lm.tasks.{task}",
        "model.init_args.net": configs.find(config),
        "data": f"lit_lm.data.{data}",
        "data.init_args.source": f"lit_lm.data.{source}",
        "data.init_args.tokenizer.vocab_size": net.paper_vocab_size,
        f"data.init_args.{length}": longest,
        "data.init_args.batch_size": 1,
    }
    if task == "BidirectionalLM":
        flags["data.init_args.characters"] = describe.CHARACTERS
    return [f"--{key}={value}" for key, value in flags.items()]


def _work(task: Task, shape: Shape, rows: int, lengths: Lengths) -> Work:
    held = []  # a step holds its batch

    def loss() -> torch.Tensor:
        held.append(batch(shape, rows, lengths)[0])
        return task.loss(held[-1]).total

    def optimizer(module: torch.nn.Module) -> torch.optim.Optimizer:
        return task.optim.build(module, depth_of=task.depth_of)

    return Work(task, task.net, loss, optimizer)


def _shape(settings: Any) -> Shape:
    """What rows of a data module look like at most."""
    kind: type[Data] = located(settings["class_path"])
    init = settings["init_args"]
    length = init.get("length") or init.get("max_length")
    if length is None:
        raise InputError(
            f"data.class_path={settings['class_path']} has neither length nor max_length: how long its rows are at most "
            "cannot be told without data"
        )
    target = getattr(kind, "target", None)
    paired = kind.batch_type.__name__ == "PairBatch"
    spec = DataSpec(
        vocab_size=_vocabulary(init["tokenizer"]),
        max_length=length,
        max_target_length=length if paired else 0,
        next_sentence=bool(init.get("next_sentence")),
        consecutive=bool(init.get("consecutive")),
        max_characters=init.get("characters") or 0,
        form=init.get("form"),
        target=target,
        # Their names stand in the data; one more is a few numbers more in the head.
        labels={"class": ("0", "1"), "tags": ("O", "B-X", "I-X")}.get(str(target), ()),
    )
    masking = init.get("masking")
    hidden = 0.0 if masking is None else float(masking["probability"])
    return Shape(kind.batch_type, spec, hidden, packed=init.get("rows") == "packed")


def _vocabulary(tokenizer: Any) -> int:
    """As many ids as there may be."""
    if tokenizer.get("path"):
        return Tokenizer.load(tokenizer["path"]).vocab_size
    return _BYTES if tokenizer["kind"] == "byte" else int(tokenizer["vocab_size"])


def _rows(init: Any, shape: Shape) -> int:
    """Rows of a batch; of a budget of positions, as many full ones as it has room for."""
    if init.get("batch_size"):
        return int(init["batch_size"])
    if not init.get("batch_tokens"):
        raise InputError("data has neither batch_size nor batch_tokens: set one of them")
    return max(1, int(init["batch_tokens"]) // max(shape.lengths))


def _devices(trainer: Any) -> int:
    """Devices of all hosts; those that Lightning would look for count as one."""
    devices = trainer["devices"]
    if isinstance(devices, list | tuple):
        devices = len(devices)
    text = str(devices)
    if "," in text:  # their numbers
        text = str(len([part for part in text.split(",") if part.strip()]))
    return max(1, int(text) if text.isdigit() else 1) * int(trainer.get("num_nodes") or 1)


def _is_sharded(strategy: Any) -> bool:
    """Whether weights are sharded."""
    name = strategy if isinstance(strategy, str) else strategy["class_path"].rpartition(".")[2]
    if any(part in name.lower() for part in _SHARDED):
        return True
    if any(name.lower().startswith(part) for part in _WHOLE):
        return False
    raise InputError(
        f"trainer.strategy={name} cannot be planned: choose auto or ddp, or give --config trainer/fsdp or trainer/model_parallel"
    )


def _budget(settings: Any) -> tuple[str, float] | None:
    """Unit and amount of training, where the settings say so without the data's size."""
    budget = settings["budget"]
    if budget["amount"] is not None:
        return budget["unit"], float(budget["amount"])
    steps = settings["trainer"]["max_steps"]
    return ("steps", float(steps)) if steps is not None and steps > 0 else None
