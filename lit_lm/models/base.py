"""What every architecture is: a frozen dataclass of sizes whose ``build`` makes the network.

A new architecture is one file: a dataclass that inherits from one of the kinds below, and its network.
Nothing is registered; a configuration names the dataclass by its ``class_path``.
"""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar

import jsonargparse
from torch import Tensor, nn

from lit_lm.errors import InputError, check_counts, check_reals
from lit_lm.nn.layer import Layer
from lit_lm.specs import DataSpec, Form

MOST_LAYERS = 10_000
LEAST_EPS = 1e-30
_LAYER = re.compile(
    r"(?:(?:^|\.)(?:blocks|layers)\.|_l)(\d+)(?:\.|_reverse$|$)"
)  # nn.LSTM: weight_ih_l0_reverse
"""The most layers that a stack may have, and the least that a norm may add to a variance: 0 is none in single
precision.
"""


class Network(nn.Module, ABC):
    """A network that reads texts, most with an output layer over the vocabulary.

    Attributes:
        beyond_encoding: names of the parts that ``encode`` does not use.
        head: maps hidden vectors to logits. Losses apply it themselves, at the predicted positions only.
            One that ends in an ``nn.Linear`` may name it ``output``, behind its own ``hidden(h)``: see ``losses.last_map``.
        dim: width of the contextual vectors that ``encode`` gives.
        num_vectors: how many of them ``vectors`` gives of a token.
        max_length: most positions a row may have; None when there is no bound.
    """

    beyond_encoding: ClassVar[tuple[str, ...]] = ("head",)
    head: nn.Module
    dim: int
    num_vectors: int = 1
    max_length: int | None

    @abstractmethod
    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """A vector for each token in its context.

        Args:
            ids_BL: int64 token ids, padded on the right.
            mask_BL: bool, True at real tokens.
            segments_BL: int64 segments, for networks that tell them apart; all 0 when None.
            chars: for networks that read characters: int64 (U, W) characters of the distinct tokens, and
                int64 (B, L), which of them stands where.

        Returns:
            float (B, L, dim), meaningless at padding.
        """

    def vectors(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> list[Tensor]:
        """Vectors of each token at the depths that a task is meant to weigh (Peters et al. 2018, section 3.2): of most
        networks the last alone. Arguments and shapes as in :meth:`encode`.
        """
        return [self.encode(ids_BL, mask_BL, segments_BL=segments_BL, chars=chars)]

    def to_encoder(self) -> None:
        """Drops what ``encode`` does not use: no parameter of a fine-tuned network is without a gradient."""
        for name in self.beyond_encoding:
            if hasattr(self, name):
                delattr(self, name)

    def depth(self, name: str) -> int:
        """How far up a parameter is: 0 for embeddings and what stands before the layers, 1 for the first layer, and so
        on; what stands behind the last layer counts as that.

        Args:
            name: as ``named_parameters`` gives it.
        """
        found = _LAYER.search(name)
        if found is not None:
            return int(found[1]) + 1
        return self.depths - 1 if name.startswith(("stack.", "encoder.")) else 0

    @property
    def depths(self) -> int:
        """How many depths there are: the layers, and one for what stands before them."""
        found = [m for name, _ in self.named_parameters() if (m := _LAYER.search(name))]
        return 1 + max((int(m[1]) + 1 for m in found), default=0)

    def stacked(self) -> list[Layer]:
        """The layers that repeat in depth, from the first to the last; none of a network that is not made of them."""
        return [module for module in self.modules() if isinstance(module, Layer)]

    def recompute(self) -> None:
        """From now on layers keep only their inputs for the backward pass, and compute the rest again.

        Raises:
            InputError: there are no such layers.
        """
        layers = self.stacked()
        if not layers:
            raise InputError(
                f"activation_checkpointing: {type(self).__name__} is no stack of layers that could be computed again: "
                "leave it out, and take smaller batches with more of trainer.accumulate_grad_batches"
            )
        for layer in layers:
            layer.recompute = True

    def encode_flops(self, *lengths: float) -> float:
        """Forward FLOPs that ``encode`` takes of one row, counted as in :meth:`row_flops`, behind :meth:`to_encoder`. Of a
        network that says nothing else, those of its linear maps.

        Args:
            lengths: the row's tokens and, for networks that read characters, how many of them are distinct.
        """
        return lengths[0] * linear_flops(self)

    @abstractmethod
    def row_flops(self, *lengths: float) -> float:
        """Forward FLOPs of one row, a multiplication and an addition counted as two.

        Matrix products only, causal attention counted whole, no padding. Training takes three times as many.

        Args:
            lengths: the row's tokens: one number for text, source and target for pairs.
        """


class EncoderNetwork(Network):
    """One that only reads: it has no output layer, and no pre-training of its own."""

    beyond_encoding = ()

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        return self.encode_flops(*lengths)


class DecodingNetwork(Network):
    """A network that can also decode: what ``lit_lm.generation`` asks for."""

    @abstractmethod
    def step(self, ids: Tensor, state: Any, parents_BK: Tensor | None = None) -> tuple[Tensor, Any]:
        """See :class:`lit_lm.generation.Decoder`."""

    @abstractmethod
    def keep(self, state: Any, rows: Sequence[int]) -> Any:
        """See :class:`lit_lm.generation.Decoder`."""


class CausalNetwork(DecodingNetwork):
    """A left-to-right language model."""

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: a token's vector knows the tokens before it."""
        out: Tensor = self(ids_BL, mask_BL)
        return out

    @abstractmethod
    def forward(
        self, ids_BL: Tensor, mask_BL: Tensor | None = None, docs_BL: Tensor | None = None
    ) -> Tensor:
        """Hidden vectors, each of which has seen its own and earlier tokens only.

        Args:
            ids_BL: int64 token ids, padded on the right.
            mask_BL: bool, True at real tokens. A causal network needs it only if padding could be seen.
            docs_BL: int64, for rows packed of several documents: equal at the positions of one, which
                follow each other and see each other only. A network that lacks this argument is given
                rows of one text only.

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

    def alignment(
        self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor
    ) -> Tensor | None:
        """How much each target position reads of each source position, under teacher forcing: arguments as in
        :meth:`forward`. To be asked of a network in evaluation mode: in training dropout is at work.

        Returns:
            float (B, layers, heads, T, S): the weights of attention over the source, rows that sum to 1 over real
            source tokens, 0 at padding; None from a network that has no such attention.
        """
        return None


class MaskedNetwork(Network):
    """An encoder that fills gaps, and tells whether one segment follows another."""

    @abstractmethod
    def forward(self, ids_BL: Tensor, mask_BL: Tensor, segments_BL: Tensor) -> Tensor:
        """Hidden vectors, each of which has seen the whole row; arguments as in :meth:`encode`.

        Returns:
            float (B, L, D).
        """

    @abstractmethod
    def next_sentence(self, h_BLD: Tensor) -> Tensor:
        """Logits of "the second segment follows" and "it does not", float (B, 2)."""


class BidirectionalNetwork(Network):
    """Two language models over shared tokens, one from the left and one from the right."""

    @abstractmethod
    def forward(
        self,
        ids_BL: Tensor,
        next_BL: Tensor,
        mask_BL: Tensor,
        *,
        chars: tuple[Tensor, Tensor] | None = None,
        state: Any = None,
        docs_BL: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, Any]:
        """Hidden vectors of both directions.

        Args:
            ids_BL: int64 tokens, padded on the right.
            next_BL: int64, the token behind each of them.
            mask_BL: bool, True at real tokens.
            chars: characters, as in :meth:`encode`, of the L + 1 tokens of ``ids_BL`` with the last of
                ``next_BL`` behind them; of packed rows, of the 2 L tokens of ``ids_BL`` and ``next_BL``.
            state: what the left-to-right model remembers of the rows' earlier text; None for nothing.
            docs_BL: int64, for rows packed of several documents, as in :meth:`CausalNetwork.forward`: each
                direction starts anew in each of them.

        Returns:
            float (B, L, D): has read ``ids_BL`` up to a position, to predict ``next_BL`` there;
            float (B, L, D): has read ``next_BL`` from the end down to a position, to predict ``ids_BL``
            there; and the state behind the last token.
        """


@dataclass(frozen=True)
class Architecture(ABC):
    """Sizes of a network. Frozen; holds plain types only, so that it can stand in YAML and in a checkpoint.

    Attributes:
        paper_vocab_size: the vocabulary of the architecture's paper, which ``lit-lm describe`` assumes.
        paper_length: likewise the tokens of a row.
        form: how its encoder reads labelled texts.
    """

    paper_vocab_size: ClassVar[int] = 32_000
    paper_length: ClassVar[int] = 512
    form: ClassVar[Form] = "source"

    @abstractmethod
    def build(self, spec: DataSpec) -> Network:
        """Makes the network for data of this vocabulary and these lengths, with fresh weights."""


@dataclass(frozen=True)
class EncoderArchitecture(Architecture):
    """Builds an :class:`EncoderNetwork`."""

    @abstractmethod
    def build(self, spec: DataSpec) -> EncoderNetwork: ...


@dataclass(frozen=True)
class CausalArchitecture(Architecture):
    """Builds a :class:`CausalNetwork`."""

    form: ClassVar[Form] = "gpt"

    @abstractmethod
    def build(self, spec: DataSpec) -> CausalNetwork: ...


@dataclass(frozen=True)
class Seq2SeqArchitecture(Architecture):
    """Builds a :class:`Seq2SeqNetwork`."""

    @abstractmethod
    def build(self, spec: DataSpec) -> Seq2SeqNetwork: ...


@dataclass(frozen=True)
class MaskedArchitecture(Architecture):
    """Builds a :class:`MaskedNetwork`."""

    form: ClassVar[Form] = "bert"

    @abstractmethod
    def build(self, spec: DataSpec) -> MaskedNetwork: ...


@dataclass(frozen=True)
class BidirectionalArchitecture(Architecture):
    """Builds a :class:`BidirectionalNetwork`."""

    form: ClassVar[Form] = "elmo"

    @abstractmethod
    def build(self, spec: DataSpec) -> BidirectionalNetwork: ...


def check_transformer(config: Any) -> None:
    """Raises InputError if a size that all Transformers have is out of bounds: layers, heads, widths, dropout."""
    check_counts(config, "num_layers", most=MOST_LAYERS)
    check_counts(config, "num_heads", "d_model")
    check_counts(config, "d_ff", "max_length", optional=True)
    check_reals(config, "dropout", most=1, below=True)
    check_reals(config, "norm_eps", least=LEAST_EPS, most=1)


# A configuration may name any subclass, here and when a checkpoint is loaded from Python.
jsonargparse.set_parsing_settings(subclasses_enabled=[Architecture])


def linear_flops(module: nn.Module) -> int:
    """Forward FLOPs that the linear maps inside ``module`` take for one position."""
    linears = [m for m in module.modules() if isinstance(m, nn.Linear)]
    return sum(2 * m.in_features * m.out_features for m in linears)
