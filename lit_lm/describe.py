"""What an architecture is and costs, without building it in memory: layers, parameters, FLOPs, training memory."""

from __future__ import annotations

import dataclasses
from collections import Counter
from dataclasses import dataclass
from pathlib import Path
from typing import Literal, NamedTuple

import torch
from torch import nn

from lit_lm import configs
from lit_lm.errors import InputError
from lit_lm.flops import TRAINING_FACTOR, Cost, cost
from lit_lm.footprint import PRECISIONS, Precision
from lit_lm.full_rows import HIDDEN, footprint
from lit_lm.models import Architecture
from lit_lm.models.base import MaskedNetwork, Network, Seq2SeqNetwork
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec

CHARACTERS = 50  # of a token, as AllenNLP's ELMo reads them


class Part(NamedTuple):
    """A direct child of the network: its name, what it is made of, its parameters."""

    name: str
    layers: str
    parameters: int


@dataclass(frozen=True)
class Memory:
    """Bytes that a training step holds at its peak.

    Args:
        weights: the parameters.
        gradients: one for each.
        optimizer: its state.
        activations: what forward pass and loss keep for the backward pass, autocast's copies of weights included.
    """

    weights: int
    gradients: int
    optimizer: int
    activations: int

    @property
    def total(self) -> int:
        """All of it."""
        return self.weights + self.gradients + self.optimizer + self.activations


class Outline(NamedTuple):
    """A configuration's architecture, what it is built for, its network without content, and its cost.

    Args:
        name: the configuration's.
        net: the architecture.
        spec: vocabulary and lengths.
        network: on the meta device.
        lengths: tokens of a row; source and target for pairs.
        cost: parameters and FLOPs per predicted token, at these lengths.
    """

    name: str
    net: Architecture
    spec: DataSpec
    network: Network
    lengths: tuple[int, ...]
    cost: Cost


@dataclass(frozen=True)
class Description:
    """What :func:`describe` finds.

    Args:
        name: the configuration's.
        architecture: class of the network.
        vocab_size: the vocabulary it was built for.
        lengths: tokens of a row; source and target for pairs.
        parts: the network's direct children.
        cost: parameters and FLOPs per predicted token, at these lengths.
        memory: of a training step.
    """

    name: str
    architecture: str
    vocab_size: int
    lengths: tuple[int, ...]
    parts: tuple[Part, ...]
    cost: Cost
    memory: Memory


def describe(
    config: str,
    *,
    vocab_size: int | None = None,
    length: int | None = None,
    target_length: int | None = None,
    batch_size: int = 1,
    precision: Precision = "32-true",
    optimizer: Literal["adamw", "adam", "muon"] = "adamw",
) -> Description:
    """Describes a model configuration, or the model of an experiment.

    Args:
        config: name or path. Of an experiment, the vocabulary and the lengths are the most that its data
            settings allow; of a model, those of the architecture's paper.
        vocab_size: token ids; None for the above.
        length: tokens of a row, of the source for pairs; None for the above.
        target_length: tokens of a target; None for as many as ``length``.
        batch_size: rows of a training step.
        precision: as Lightning's Trainer takes it.
        optimizer: as ``OptimConfig`` takes it.

    Raises:
        InputError: no such configuration, or a number that is not positive.
    """
    found = outline(config, vocab_size, length, target_length)
    check_rows(batch_size)
    check_precision(precision)
    optim = OptimConfig(optimizer=optimizer)
    kept = footprint(found.net, found.spec, found.lengths, batch_size, precision, optim)
    return Description(
        name=found.name,
        architecture=type(found.network).__name__,
        vocab_size=found.spec.vocab_size,
        lengths=found.lengths,
        parts=_parts(found.network),
        cost=found.cost,
        memory=Memory(kept.weights, kept.gradients, kept.optimizer, kept.kept),
    )


def outline(
    config: str,
    vocab_size: int | None = None,
    length: int | None = None,
    target_length: int | None = None,
) -> Outline:
    """What :func:`describe` says but for memory; arguments and errors as there."""
    net, found_vocab, found_length = _read(config)
    vocab_size = found_vocab if vocab_size is None else vocab_size
    length = found_length if length is None else length
    target_length = length if target_length is None else target_length
    given = {"vocab_size": vocab_size, "length": length, "target_length": target_length}
    for name, value in given.items():
        if value < 1:
            raise InputError(f"{name}={value} must be at least 1")
    spec = DataSpec(
        vocab_size=vocab_size,
        max_length=length,
        max_target_length=target_length,
        next_sentence=True,
        max_characters=CHARACTERS,
    )
    with torch.device("meta"):
        network = net.build(spec)
    pairs = isinstance(network, Seq2SeqNetwork)
    lengths = (length, target_length) if pairs else (length,)
    if network.max_length is not None and length > network.max_length:
        raise InputError(
            f"length={length} is more than the {network.max_length} positions of {config}"
        )
    flops_lengths: tuple[float, ...] = lengths
    if isinstance(network, MaskedNetwork):
        flops_lengths = (length, HIDDEN * length)
    forward = network.row_flops(*flops_lengths) / lengths[-1]
    found = dataclasses.replace(
        cost(network, *lengths),
        forward_flops_per_token=forward,
        training_flops_per_token=TRAINING_FACTOR * forward,
    )
    name = Path(config).stem if config.endswith(".yaml") else config
    return Outline(name, net, spec, network, lengths, found)


_MOST_ROWS = 1 << 24


def check_rows(batch_size: int) -> None:
    """Raises InputError unless a batch can have so many rows."""
    if not 1 <= batch_size <= _MOST_ROWS:
        raise InputError(f"batch_size={batch_size} must be from 1 to {_MOST_ROWS:,}")


def check_precision(precision: str) -> None:
    """Raises InputError unless training can be in this precision."""
    if precision not in PRECISIONS:
        raise InputError(f"precision={precision!r}: choose one of {', '.join(PRECISIONS)}")


def _read(config: str) -> tuple[Architecture, int, int]:
    """The architecture that a file describes or names, a vocabulary size and a length."""
    path = configs.find(config)
    configs.check(path)
    content = configs.parse(configs.read(path), path)
    if "model" not in content:
        net = configs.architecture(config)
        return net, net.paper_vocab_size, getattr(net, "max_length", None) or net.paper_length
    try:
        reference = content["model"]["init_args"]["net"]
        data = content["data"]
        if isinstance(data, str):
            data = configs.parse(configs.read(path.parent / data), path.parent / data)
        settings = data["init_args"]
    except (KeyError, TypeError, OSError) as error:
        raise InputError(
            f"{path} is neither a model nor an experiment with model.init_args.net and data: {error}"
        ) from error
    if isinstance(reference, str):
        net = configs.architecture(str(path.parent / reference))
    else:
        net = configs.architecture(config, reference)
    vocab_size = (settings.get("tokenizer") or {}).get("vocab_size", net.paper_vocab_size)
    length = settings.get("max_length") or settings.get("length") or net.paper_length
    return net, vocab_size, length


def _parts(network: Network) -> tuple[Part, ...]:
    seen: set[int] = set()
    out = []
    for name, child in network.named_children():
        own = {id(p): p.numel() for p in child.parameters() if id(p) not in seen}
        seen |= own.keys()
        lists = [m for m in child.modules() if isinstance(m, nn.ModuleList) and len(m)]
        if lists:
            kinds = Counter(type(m).__name__ for m in lists[0])
            layers = ", ".join(f"{count} x {kind}" for kind, count in kinds.items())
        else:
            layers = type(child).__name__
        if own or lists:
            out.append(Part(name, layers, sum(own.values())))
        elif list(child.parameters()):
            out.append(Part(name, f"{layers}, shared", 0))
    return tuple(out)


def table(found: Description, batch_size: int, precision: str, optimizer: str) -> str:
    """A description for people to read."""
    rows = [(part.name, part.layers, f"{part.parameters:,}") for part in found.parts]
    widths = [max(len(row[i]) for row in rows) for i in range(3)]
    lines = [f"{found.name}: {found.architecture}, vocabulary of {found.vocab_size:,}", ""]
    lines += [
        f"  {name:<{widths[0]}}  {layers:<{widths[1]}}  {count:>{widths[2]}}"
        for name, layers, count in rows
    ]
    c, m = found.cost, found.memory
    at = " + ".join(str(n) for n in found.lengths)
    lines += [
        "",
        f"parameters            {c.parameters:,} ({c.parameters - c.embedding_parameters:,} without embeddings)",
        f"FLOPs per token       {c.forward_flops_per_token:.3g} forward, {c.training_flops_per_token:.3g} in "
        f"training, in rows of {at} tokens",
        f"memory to train       {_size(m.total)}: {batch_size} rows of {at} tokens, {precision}, {optimizer}",
        f"  weights             {_size(m.weights)}",
        f"  gradients           {_size(m.gradients)}",
        f"  optimizer           {_size(m.optimizer)}",
        f"  activations         {_size(m.activations)}",
        "Not counted: buffers of kernels, of DDP and of the allocator; attention is taken as fused.",
    ]
    return "\n".join(lines)


def _size(count: int) -> str:
    size = float(count)
    for unit in ("B", "KiB", "MiB"):
        if size < 1024:
            return f"{size:.4g} {unit}"
        size /= 1024
    return f"{size:,.2f} GiB"
