"""ELMo: a language model in each direction over characters (Peters et al. 2018, https://arxiv.org/abs/1802.05365).

Shape letters: B rows, L positions, U distinct tokens, W characters of a token, D width of a direction's
vectors, C width of a cell, V vocabulary. A leading 2 is the direction: from the left, from the right.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, ClassVar, Literal

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from lit_lm.errors import MOST, InputError, check_counts, check_reals
from lit_lm.models.base import (
    MOST_LAYERS,
    BidirectionalArchitecture,
    BidirectionalNetwork,
    linear_flops,
)
from lit_lm.nn.content import has_content
from lit_lm.nn.dropout import Dropout
from lit_lm.nn.layer import Layer
from lit_lm.nn.lstm import LSTMWeights, lstms
from lit_lm.nn.positions import document_starts
from lit_lm.specs import NUM_CHARACTERS, DataSpec

State = list[tuple[Tensor, Tensor]]
"""For each layer, what both directions remember: their outputs (2, B, D) and their cells (2, B, C)."""


@dataclass(frozen=True)
class ELMoConfig(BidirectionalArchitecture):
    """Sizes of an ELMo; the defaults are the original's (section 3.4; Jozefowicz et al. 2016).

    Args:
        char_dim: width of a character's vector.
        filters: (width, number) of the convolutions over characters.
        num_highway: highway layers over their outputs (Srivastava et al. 2015).
        char_activation: "relu", or "tanh" of smaller models.
        d_model: width of tokens and of each direction's outputs.
        d_cell: width of an LSTM's cell, which is projected to ``d_model`` (Sak et al. 2014).
        num_layers: LSTM layers of each direction; from the second on with a residual connection.
        cell_clip: most that a cell may hold; None for no bound.
        projection_clip: most that an output may be; None for no bound.
        dropout: dropout on the inputs of layers and on the last one's outputs.
    """

    paper_vocab_size: ClassVar[int] = 793_471
    paper_length: ClassVar[int] = 20
    char_dim: int = 16
    filters: Sequence[tuple[int, int]] = (
        (1, 32),
        (2, 32),
        (3, 64),
        (4, 128),
        (5, 256),
        (6, 512),
        (7, 1024),
    )
    num_highway: int = 2
    char_activation: Literal["relu", "tanh"] = "relu"
    d_model: int = 512
    d_cell: int = 4096
    num_layers: int = 2
    cell_clip: float | None = 3.0
    projection_clip: float | None = 3.0
    dropout: float = 0.1

    def __post_init__(self) -> None:
        check_counts(self, "num_layers", most=MOST_LAYERS)
        check_counts(self, "num_highway", least=0, most=MOST_LAYERS)
        check_counts(self, "char_dim", "d_model", "d_cell")
        check_reals(self, "cell_clip", "projection_clip", above=True, optional=True)
        check_reals(self, "dropout", most=1, below=True)
        if not self.filters or not all(1 <= n <= MOST for pair in self.filters for n in pair):
            raise InputError(
                f"ELMoConfig: filters={list(self.filters)} must be pairs of a width and a number, such as "
                f"[[1, 32], [2, 64]], each at least 1 and at most {MOST:,}"
            )

    def build(self, spec: DataSpec) -> ELMo:
        if spec.max_characters < max(width for width, _ in self.filters):
            raise InputError(
                f"ELMo reads characters, and convolves up to {max(w for w, _ in self.filters)} of them; the "
                f"data gives {spec.max_characters} of each token: set data.characters, for example to 50"
            )
        return ELMo(self, spec)


class CharacterCNN(nn.Module):
    """Tokens from their characters: convolutions, the largest value of each over the token, highways
    and a projection (Kim et al. 2016; Jozefowicz et al. 2016).

    Args:
        config: the sizes.
    """

    def __init__(self, config: ELMoConfig) -> None:
        super().__init__()
        c = config
        size = sum(number for _, number in c.filters)
        self.activation = c.char_activation
        self.embedding = nn.Embedding(NUM_CHARACTERS, c.char_dim, padding_idx=0)
        self.filters = [(width, 2 * c.char_dim * width * n) for width, n in c.filters]
        self.convolutions = nn.ModuleList(nn.Conv1d(c.char_dim, n, w) for w, n in c.filters)
        highways = [nn.Linear(size, 2 * size) for _ in range(c.num_highway)]
        self.highways = nn.ModuleList(highways)
        self.projection = nn.Linear(size, c.d_model)
        for highway in highways:
            nn.init.normal_(highway.weight, std=size**-0.5)
            nn.init.zeros_(highway.bias)
            highway.bias.data[size:] = 1.0  # starts by carrying its input on

    def forward(self, chars_UW: Tensor) -> Tensor:
        """int64 (U, W) to float (U, D)."""
        convolutions: Any = self.convolutions
        act = F.relu if self.activation == "relu" else torch.tanh
        x, used = self.embedding(chars_UW), _longest(chars_UW)
        h = torch.cat([act(_largest(x, conv, used)) for conv in convolutions], dim=-1)
        for highway in self.highways:
            new, gate = highway(h).chunk(2, dim=-1)
            carry = gate.sigmoid()
            h = carry * h + (1 - carry) * F.relu(new)
        out: Tensor = self.projection(h)
        return out

    def flops(self, W: int) -> int:
        """Forward FLOPs of one token of ``W`` characters."""
        convolutions = sum(flops * (W - width + 1) for width, flops in self.filters)
        return convolutions + linear_flops(self)


class BiLSTM(Layer):
    """One layer of two independent LSTMs with projection and clipping, computed together.

    Args:
        config: the sizes.
    """

    def __init__(self, config: ELMoConfig) -> None:
        super().__init__()
        c = config
        self.cell_clip, self.projection_clip = c.cell_clip, c.projection_clip
        inputs = [nn.Linear(c.d_model, 4 * c.d_cell) for _ in range(2)]
        self.inputs = nn.ModuleList(inputs)
        self.recurrent = nn.ModuleList(
            nn.Linear(c.d_model, 4 * c.d_cell, bias=False) for _ in range(2)
        )
        self.projections = nn.ModuleList(
            nn.Linear(c.d_cell, c.d_model, bias=False) for _ in range(2)
        )
        for linear in inputs:
            nn.init.zeros_(linear.bias)
            linear.bias.data[c.d_cell : 2 * c.d_cell] = 1.0  # remember at first (forget gates)

    def forward(
        self,
        x_2BLD: Tensor,
        state: tuple[Tensor, Tensor] | None = None,
        anew_2BL: Tensor | None = None,
    ) -> tuple[Tensor, tuple[Tensor, Tensor]]:
        """Runs along the rows.

        Args:
            x_2BLD: float inputs; the second direction's rows already turned round.
            state: float (2, B, D) outputs and (2, B, C) cells to go on from; zeros when None.
            anew_2BL: bool, True where all that was read before is forgotten; nowhere when None.

        Returns:
            float (2, B, L, D) and the states at every position, (2, B, L, D) and (2, B, L, C).
        """
        modules: Any = zip(self.inputs, self.recurrent, self.projections, strict=True)
        weights = [
            LSTMWeights(x.weight, x.bias, h.weight, project.weight) for x, h, project in modules
        ]
        out_2BLD, cells_2BLC = lstms(
            x_2BLD,
            weights,
            state,
            anew_2BL,
            cell_clip=self.cell_clip,
            projection_clip=self.projection_clip,
        )
        return out_2BLD, (out_2BLD, cells_2BLC)


class ELMo(BidirectionalNetwork):
    """The network of :class:`ELMoConfig`: both directions share tokens and output layer."""

    head: nn.Linear

    def __init__(self, config: ELMoConfig, spec: DataSpec) -> None:
        super().__init__()
        self.dim, self.max_length = 2 * config.d_model, None
        self.num_vectors = 1 + config.num_layers
        self.max_characters = spec.max_characters
        self.tokens = CharacterCNN(config)
        self.layers = nn.ModuleList(BiLSTM(config) for _ in range(config.num_layers))
        self.dropout = Dropout(config.dropout)
        self.head = nn.Linear(config.d_model, spec.vocab_size)
        nn.init.normal_(self.head.weight, std=config.d_model**-0.5)
        nn.init.zeros_(self.head.bias)

    def forward(
        self,
        ids_BL: Tensor,
        next_BL: Tensor,
        mask_BL: Tensor,
        *,
        chars: tuple[Tensor, Tensor] | None = None,
        state: State | None = None,
        docs_BL: Tensor | None = None,
    ) -> tuple[Tensor, Tensor, State]:
        """See :class:`BidirectionalNetwork`."""
        x_BLD = self._embed(chars)
        turn_BL = _turn(mask_BL)
        L, anew_2BL = mask_BL.size(1), None
        if docs_BL is not None:
            turned_BL = docs_BL.gather(1, turn_BL)
            anew_2BL = torch.stack((document_starts(docs_BL), document_starts(turned_BL)))
        both = torch.stack((x_BLD[:, :L], _gather(x_BLD[:, -L:], turn_BL)))
        out, new = self._run(both, mask_BL, state, anew_2BL)
        forward, backward = self.dropout(out[-1])
        return forward, _gather(backward, turn_BL), [_from_left(*layer) for layer in new]

    def encode_layers(
        self, mask_BL: Tensor, chars: tuple[Tensor, Tensor], state: State | None = None
    ) -> tuple[list[Tensor], State]:
        """Vectors of tokens at each depth, which a scalar mix weighs (section 3.2).

        Args:
            mask_BL: bool, True at real tokens.
            chars: characters, as in :meth:`Network.encode`.
            state: what both directions remember of the rows they read before, as AllenNLP's ELMo carries
                it from batch to batch; None for nothing.

        Returns:
            The token layer (twice, side by side) and each LSTM layer (both directions side by side),
            float (B, L, 2 D) each; and the state behind the rows' ends.
        """
        x_BLD = self._embed(chars)
        turn_BL = _turn(mask_BL)
        layers = [torch.cat((x_BLD, x_BLD), dim=-1)]
        out, new = self._run(torch.stack((x_BLD, _gather(x_BLD, turn_BL))), mask_BL, state)
        layers += [torch.cat((f, _gather(b, turn_BL)), dim=-1) for f, b in out]
        return layers, new

    def encode(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> Tensor:
        """See :class:`Network`: the mean of all layers, where a scalar mix starts."""
        assert chars is not None
        return torch.stack(self.encode_layers(mask_BL, chars)[0]).mean(0)

    def vectors(
        self,
        ids_BL: Tensor,
        mask_BL: Tensor,
        *,
        segments_BL: Tensor | None = None,
        chars: tuple[Tensor, Tensor] | None = None,
    ) -> list[Tensor]:
        """See :class:`Network`: the token layer and each LSTM layer."""
        assert chars is not None
        return self.encode_layers(mask_BL, chars)[0]

    def encode_flops(self, *lengths: float) -> float:
        """See :class:`Network`; all tokens are distinct if nothing else is said."""
        L, distinct = (*lengths, lengths[0])[:2]
        return L * linear_flops(self.layers) + distinct * self.tokens.flops(self.max_characters)

    def row_flops(self, *lengths: float) -> float:
        """See :class:`Network`; the row's tokens, and how many of them are distinct (all if not given)."""
        return self.encode_flops(*lengths) + lengths[0] * 2 * linear_flops(self.head)

    def _embed(self, chars: tuple[Tensor, Tensor] | None) -> Tensor:
        assert chars is not None, "ELMo reads characters"
        chars_UW, words_BL = chars
        return F.embedding(words_BL, self.tokens(chars_UW))

    def _run(
        self,
        x_2BLD: Tensor,
        mask_BL: Tensor,
        state: State | None,
        anew_2BL: Tensor | None = None,
    ) -> tuple[list[Tensor], State]:
        """Outputs (2, B, L, D) of each layer, and both directions' state behind each row."""
        last_B = mask_BL.sum(1) - 1
        rows = torch.arange(len(last_B), device=last_B.device)
        outputs: list[Tensor] = []
        new: State = []
        layers: Any = self.layers
        for k, layer in enumerate(layers):
            out, (h, cell) = layer.run(self.dropout(x_2BLD), state[k] if state else None, anew_2BL)
            new.append((h[:, rows, last_B].detach(), cell[:, rows, last_B].detach()))
            x_2BLD = out if k == 0 else out + x_2BLD
            outputs.append(x_2BLD)
        return outputs, new


def _longest(chars_UW: Tensor) -> int:
    """How many characters the longest of the tokens has; all there is room for where asking would be dear."""
    if chars_UW.device.type != "cpu" or not has_content(chars_UW):
        return chars_UW.size(1)
    at_W = torch.arange(1, chars_UW.size(1) + 1)
    return int(((chars_UW != 0).any(0) * at_W).max())


def _largest(x_UWE: Tensor, conv: nn.Conv1d, longest: int) -> Tensor:
    """A convolution's largest outputs over each token, float (U, outputs).

    Behind the longest token all windows are filling and the same: one of them is enough. A product over windows is
    quicker than ``conv1d``, forward and back.
    """
    width = conv.kernel_size[0]
    windows = x_UWE[:, : longest + width].unfold(1, width, 1).transpose(2, 3).flatten(2)
    outputs = F.linear(windows, conv.weight.transpose(1, 2).flatten(1))
    assert conv.bias is not None
    return outputs.max(1).values + conv.bias


def _from_left(*state_2B: Tensor) -> tuple[Tensor, Tensor]:
    """A layer's state with the right-to-left model's part empty: it has read nothing of what comes next."""
    h_2BD, cell_2BC = (torch.stack((s[0], torch.zeros_like(s[0]))) for s in state_2B)
    return h_2BD, cell_2BC


def _turn(mask_BL: Tensor) -> Tensor:
    """int64 (B, L): where to read so that each row's real tokens stand in reverse order, padding in place."""
    at_L = torch.arange(mask_BL.size(1), device=mask_BL.device)
    return torch.where(mask_BL, mask_BL.sum(1, keepdim=True) - 1 - at_L, at_L)


def _gather(x_BLD: Tensor, index_BL: Tensor) -> Tensor:
    return x_BLD.gather(1, index_BL.unsqueeze(-1).expand(-1, -1, x_BLD.size(-1)))
