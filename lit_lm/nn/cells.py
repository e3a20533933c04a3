"""One step of recurrent layers, as ``nn.LSTM`` and ``nn.GRU`` take it, for decoders that go through a text step by step.

Shape letters: B rows, D width of inputs, H hidden width, G width of all gates (4H in an LSTM, 3H in a GRU).
"""

from __future__ import annotations

from typing import NamedTuple

import torch
from torch import Tensor
from torch.nn import functional as F


class LayerWeights(NamedTuple):
    """Weights of one recurrent layer, in the order and the gate order of ``nn.LSTM`` and ``nn.GRU``."""

    input_GD: Tensor
    hidden_GH: Tensor
    input_bias_G: Tensor
    hidden_bias_G: Tensor


def lstm_cell(
    inputs_BG: Tensor, h_BH: Tensor, c_BH: Tensor, layer: LayerWeights
) -> tuple[Tensor, Tensor]:
    """New hidden and cell state, as ``nn.LSTM`` has them; ``inputs_BG`` holds the input's bias."""
    gates_BG = inputs_BG + F.linear(h_BH, layer.hidden_GH, layer.hidden_bias_G)
    i, f, g, o = gates_BG.chunk(4, dim=1)
    c_BH = f.sigmoid() * c_BH + i.sigmoid() * g.tanh()
    return o.sigmoid() * c_BH.tanh(), c_BH


def gru_cell(inputs_BG: Tensor, h_BH: Tensor, layer: LayerWeights) -> Tensor:
    """New hidden state, as ``nn.GRU`` has it; ``inputs_BG`` holds the input's bias."""
    inputs_r, inputs_z, inputs_n = inputs_BG.chunk(3, dim=1)
    past_r, past_z, past_n = F.linear(h_BH, layer.hidden_GH, layer.hidden_bias_G).chunk(3, dim=1)
    r, z = torch.sigmoid(inputs_r + past_r), torch.sigmoid(inputs_z + past_z)
    n = torch.tanh(inputs_n + r * past_n)
    return n + z * (h_BH - n)
