"""A language model as a translator: the source is the beginning of a text that it goes on with, behind the token that
starts a decoder (Radford et al. 2019, GPT-2, section 3.7, without training for it; Wang et al. 2021,
https://arxiv.org/abs/2106.13627, and Zhang et al. 2022, https://arxiv.org/abs/2202.00528, with).

Shape letters: B rows, S source positions, T target positions, L = S + T positions of the text, D width.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Any, ClassVar

import torch
from torch import Tensor, nn

from lit_lm.models.base import (
    CausalArchitecture,
    CausalNetwork,
    Seq2SeqArchitecture,
    Seq2SeqNetwork,
    linear_flops,
)
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class DecoderOnlyConfig(Seq2SeqArchitecture):
    """A decoder without an encoder: a causal network that is given sources as prefixes.

    Args:
        net: the causal network, such as ``GPTConfig``. Learned positions are for a source and a target in one row.
    """

    paper_vocab_size: ClassVar[int] = 32_000
    paper_length: ClassVar[int] = 256
    net: CausalArchitecture

    def build(self, spec: DataSpec) -> DecoderOnly:
        return DecoderOnly(self, spec)


class DecoderOnly(Seq2SeqNetwork):
    """The network of :class:`DecoderOnlyConfig`."""

    def __init__(self, config: DecoderOnlyConfig, spec: DataSpec) -> None:
        super().__init__()
        both = spec.max_length + spec.max_target_length
        self.net: CausalNetwork = config.net.build(replace(spec, max_length=both))
        self.dim, self.bos_id = self.net.dim, spec.bos_id
        most = self.net.max_length
        self.max_length = None if most is None else most // 2

    @property
    def head(self) -> nn.Module:  # type: ignore[override]
        """The causal network's."""
        return self.net.head

    def to_encoder(self) -> None:
        """See :class:`Network`."""
        self.net.to_encoder()

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: a token's vector knows the tokens before it."""
        return self.net.encode(ids_BL, mask_BL)

    def forward(self, src_ids_BS: Tensor, src_mask_BS: Tensor, tgt_ids_BT: Tensor) -> Tensor:
        """See :class:`Seq2SeqNetwork`. Targets stand directly behind their sources: no padding is between them."""
        S, T = src_ids_BS.size(1), tgt_ids_BT.size(1)
        lengths_B1 = src_mask_BS.sum(1, keepdim=True)
        at_BT = lengths_B1 + torch.arange(T, device=src_ids_BS.device)
        ids_BL = torch.cat((src_ids_BS, torch.zeros_like(tgt_ids_BT)), dim=1)
        ids_BL = ids_BL.scatter(1, at_BT, tgt_ids_BT)
        mask_BL = torch.arange(S + T, device=src_ids_BS.device) < lengths_B1 + T
        h_BLD = self.net(ids_BL, mask_BL)
        out: Tensor = h_BLD.gather(1, at_BT.unsqueeze(-1).expand(-1, -1, h_BLD.size(-1)))
        return out

    def start(self, src_ids_BS: Tensor, src_mask_BS: Tensor, capacity: int) -> tuple[Tensor, Any]:
        """See :class:`Seq2SeqNetwork`."""
        lengths_B = src_mask_BS.sum(1)
        last_B1 = torch.full_like(src_ids_BS[:, :1], self.bos_id)
        ids_BL = torch.cat((src_ids_BS, torch.zeros_like(last_B1)), dim=1)
        ids_BL = ids_BL.scatter(1, lengths_B.unsqueeze(1), last_B1)
        return self.net.start(ids_BL, lengths_B + 1, src_ids_BS.size(1) + capacity)

    def step(self, ids: Tensor, state: Any, parents_BK: Tensor | None = None) -> tuple[Tensor, Any]:
        """See :class:`DecodingNetwork`."""
        return self.net.step(ids, state, parents_BK)

    def keep(self, state: Any, rows: Sequence[int]) -> Any:
        """See :class:`DecodingNetwork`."""
        return self.net.keep(state, rows)

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`."""
        return self.net.encode_flops(lengths[0])

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; source and target length."""
        return self.net.encode_flops(sum(lengths)) + lengths[1] * linear_flops(self.head)
