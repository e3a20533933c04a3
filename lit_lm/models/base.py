"""What every architecture is: a frozen dataclass of sizes whose ``build`` makes the network.

A new architecture is one file: a dataclass that inherits from one of the kinds below, and its network.
Nothing is registered; a configuration names the dataclass by its ``class_path``.
"""

from __future__ import annotations

from abc import ABC, abstractmethod
from dataclasses import dataclass
from typing import Any

import jsonargparse
from torch import Tensor, nn

from lit_lm.specs import DataSpec


class Network(nn.Module, ABC):
    """A network with an output layer over the vocabulary.

    Attributes:
        head: maps hidden vectors to logits. Losses apply it themselves, at the predicted positions only.
        max_length: most positions a row may have; None when there is no bound.
    """

    head: nn.Linear
    max_length: int | None

    @abstractmethod
    def row_flops(self, *lengths: float) -> float:
        """Forward FLOPs of one row, a multiplication and an addition counted as two.

        Matrix products only, causal attention counted whole, no padding. Training takes three times as many.

        Args:
            lengths: the row's tokens: one number for text, source and target for pairs.
        """


class DecodingNetwork(Network):
    """A network that can also decode: what ``lit_lm.generation`` asks for."""

    @abstractmethod
    def step(self, ids_B: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Feeds one token a row (int64); gives logits of the next, float (B, V), and the new state."""

    @abstractmethod
    def reorder(self, state: Any, index_N: Tensor) -> Any:
        """The state of rows ``index_N`` (int64): a row may be taken several times, or left out."""


class CausalNetwork(DecodingNetwork):
    """A left-to-right language model."""

    @abstractmethod
    def forward(self, ids_BL: Tensor, mask_BL: Tensor | None = None) -> Tensor:
        """Hidden vectors, each of which has seen its own and earlier tokens only.

        Args:
            ids_BL: int64 token ids, padded on the right.
            mask_BL: bool, True at real tokens. A causal network needs it only if padding could be seen.

        Returns:
            float (B, L, D).
        """

    @abstractmethod
    def start(self, ids_BL: Tensor, lengths_B: Tensor, capacity: int) -> tuple[Tensor, Any]:
        """Reads prompts.

        Args:
            ids_BL: int64 prompts, at least one token each, padded on the right.
            lengths_B: int64 real tokens of each.
            capacity: most tokens a row will ever hold, prompt included.

        Returns:
            logits of the next token, float (B, V), and the state to go on from.
        """


class Seq2SeqNetwork(DecodingNetwork):
    """An encoder-decoder."""

    @abstractmethod
    def forward(self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor) -> Tensor:
        """Decoder's hidden vectors under teacher forcing.

        Args:
            src_ids_BS: int64 source ids.
            src_mask_BS: bool, True at real source tokens.
            tgt_ids_BT: int64 decoder inputs, padded on the right.

        Returns:
            float (B, T, D).
        """

    @abstractmethod
    def start(self, src_ids_BS: Tensor, src_mask_BS: Tensor, capacity: int) -> tuple[Tensor, Any]:
        """Encodes sources and feeds the decoder its first token.

        Args:
            src_ids_BS: int64 source ids.
            src_mask_BS: bool, True at real source tokens.
            capacity: most decoder inputs a row will ever hold.

        Returns:
            logits of the first target token, float (B, V), and the state to go on from.
        """


@dataclass(frozen=True)
class Architecture(ABC):
    """Sizes of a network. Frozen; holds plain types only, so that it can stand in YAML and in a checkpoint."""

    @abstractmethod
    def build(self, spec: DataSpec) -> Network:
        """Makes the network for data of this vocabulary and these lengths, with fresh weights."""


@dataclass(frozen=True)
class CausalArchitecture(Architecture):
    """Builds a :class:`CausalNetwork`."""

    @abstractmethod
    def build(self, spec: DataSpec) -> CausalNetwork: ...


@dataclass(frozen=True)
class Seq2SeqArchitecture(Architecture):
    """Builds a :class:`Seq2SeqNetwork`."""

    @abstractmethod
    def build(self, spec: DataSpec) -> Seq2SeqNetwork: ...


# A configuration may name any subclass, here and when a checkpoint is loaded from Python.
jsonargparse.set_parsing_settings(subclasses_enabled=[Architecture])


def linear_flops(module: nn.Module) -> int:
    """Forward FLOPs that the linear maps inside ``module`` take for one position."""
    return sum(2 * m.weight.numel() for m in module.modules() if isinstance(m, nn.Linear))
