"""A pre-training step of any kind of network over full rows, made from the network alone: what a bare model's configuration
can be planned by. The losses are those of ``lit_lm.tasks``, to which tests hold them.
"""

from __future__ import annotations

import dataclasses
import math
from collections.abc import Callable
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.footprint import Footprint, Precision, Work, measure
from lit_lm.losses import cross_entropy, widen
from lit_lm.models import Architecture
from lit_lm.models.base import (
    BidirectionalNetwork,
    CausalNetwork,
    EncoderNetwork,
    MaskedNetwork,
    Network,
)
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec

Lengths = tuple[int, ...]
HIDDEN = 0.15
"""Share of a masked row that is predicted (Devlin et al. 2019)."""


def footprint(
    net: Architecture,
    spec: DataSpec,
    lengths: Lengths,
    rows: int = 1,
    precision: Precision = "32-true",
    optim: OptimConfig | None = None,
    *,
    gpu: bool = True,
) -> Footprint:
    """What a step of pre-training keeps in memory.

    Args:
        net: the architecture.
        spec: what it is built for.
        lengths: tokens of a row; source and target for pairs.
        rows: rows of the batch.
        precision: as Lightning's Trainer takes it.
        optim: the optimizer; AdamW by default.
        gpu: see :func:`lit_lm.footprint.measure`.
    """

    def measured(net: Architecture, lengths: Lengths) -> Footprint:
        def make() -> Work:
            network = net.build(spec)
            loss = _loss(network, lengths, rows)
            return Work(network, network, loss, (optim or OptimConfig()).build)

        return measure(make, precision, gpu=gpu)

    return drawn_out(net, spec, lengths, measured)


def drawn_out(
    net: Architecture,
    spec: DataSpec,
    lengths: Lengths,
    measured: Callable[[Architecture, Lengths], Footprint],
) -> Footprint:
    """A footprint of an architecture: of a deep one from that of few layers, if all are alike, and of a recurrent one over
    long rows, which takes a step for each token, from that over short ones.

    Args:
        net: the architecture.
        spec: what it is built for.
        lengths: tokens of a row; source and target for pairs.
        measured: measures an architecture over rows of some lengths.
    """
    with torch.device("meta"):
        network = _of_depth(net, 1).build(spec)
    steps = any(isinstance(module, nn.RNNBase) for module in network.modules())
    return _by_length(
        lengths, lambda lengths: _by_depth(net, lambda net: measured(net, lengths)), steps
    )


_DEEP = 12
"""More layers than this are drawn out."""
_FEW, _MORE = 6, 12
"""Tokens of the short rows that longer ones are drawn out from."""


def _by_length(
    lengths: Lengths, measured: Callable[[Lengths], Footprint], steps: bool, done: Lengths = ()
) -> Footprint:
    """What a recurrent net keeps grows by the same with every token of either side; with attention by more where the
    other side is longer.
    """
    if not steps:
        return measured(lengths)
    if len(done) == len(lengths):
        return measured(done)
    length = lengths[len(done)]
    if length <= 2 * _MORE:
        return _by_length(lengths, measured, steps, (*done, length))
    few, more = (_by_length(lengths, measured, steps, (*done, n)) for n in (_FEW, _MORE))
    return few.drawn_out(more, (length - _FEW) / (_MORE - _FEW))


def _by_depth(net: Architecture, measured: Callable[[Architecture], Footprint]) -> Footprint:
    depth: Any = getattr(net, "num_layers", 1)
    if depth > _DEEP and getattr(net, "num_decoder_layers", None) is None:
        few, more, most = (measured(_of_depth(net, n)) for n in (1, 2, 3))
        if few.drawn_out(more, 2) == most:
            return few.drawn_out(more, depth - 1)
    return measured(net)


def _of_depth(net: Architecture, depth: int) -> Architecture:
    return dataclasses.replace(net, num_layers=depth) if hasattr(net, "num_layers") else net  # type: ignore[call-arg]


def _loss(network: Network, lengths: Lengths, rows: int) -> Callable[[], Tensor]:
    """The forward pass over full rows."""
    B, L = rows, lengths[-1]

    def causal() -> Tensor:
        ids_BL = _ids(B, L)
        return _cross_entropy(network, network(ids_BL, _full(ids_BL)), B * L)

    def masked() -> Tensor:
        ids_BL = _ids(B, L)
        h_BLD = network(ids_BL, _full(ids_BL), _ids(B, L))
        gaps = max(1, round(HIDDEN * L))
        total = _cross_entropy(network, h_BLD, B * gaps)
        assert isinstance(network, MaskedNetwork)
        logits_B2 = widen(network.next_sentence(h_BLD))
        next_B = F.cross_entropy(logits_B2, _ids(B), reduction="none")
        return total + (next_B * gaps).sum()

    def both() -> Tensor:
        ids_BL, next_BL = _ids(B, L), _ids(B, L)
        characters = int(getattr(network, "max_characters", 1))
        head: Any = network.head
        words = distinct(head.out_features, B * (L + 1))
        chars = (_ids(words, characters), _ids(B, L + 1))
        forward, backward, _ = network(ids_BL, next_BL, _full(ids_BL), chars=chars)
        return sum(_cross_entropy(network, h, B * L) for h in (forward, backward))  # type: ignore[return-value]

    def pairs() -> Tensor:
        src_BS, tgt_BT = _ids(B, lengths[0]), _ids(B, L)
        return _cross_entropy(network, network(src_BS, _full(src_BS), tgt_BT), B * L)

    def encoded() -> Tensor:
        ids_BL = _ids(B, L)
        return network.encode(ids_BL, _full(ids_BL)).float().square().sum()

    kinds = {
        CausalNetwork: causal,
        MaskedNetwork: masked,
        BidirectionalNetwork: both,
        EncoderNetwork: encoded,
    }
    return next((loss for kind, loss in kinds.items() if isinstance(network, kind)), pairs)


def distinct(vocab_size: int, tokens: int) -> int:
    """How many different ones are among tokens of text, if the vocabulary is in order of frequency and that falls as in
    Zipf's law: what networks over characters read.
    """
    share = np.log1p(1 / np.arange(1, vocab_size + 1)) / math.log(vocab_size + 1)
    return max(1, round(float(-np.expm1(tokens * np.log1p(-share)).sum())))


def _cross_entropy(network: Network, h_BLD: Tensor, count: int) -> Tensor:
    labels_BL = torch.full(h_BLD.shape[:-1], -100)
    labels_BL.view(-1)[:count] = 0
    return cross_entropy(h_BLD, network.head, labels_BL, count=count).total


def _ids(*shape: int) -> Tensor:
    return torch.zeros(*shape, dtype=torch.long)


def _full(ids_BL: Tensor) -> Tensor:
    return torch.ones(ids_BL.shape, dtype=torch.bool)
