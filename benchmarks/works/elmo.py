"""A full training step of an ELMo, beside its equations written plainly with torch's own LSTM."""

from __future__ import annotations

import functools
import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor, nn
from torch.nn import functional as F

from benchmarks import training
from benchmarks.harness import Entrant, Work
from lit_lm import BidirectionalLM, ELMoConfig
from lit_lm.data.batches import BatchSize, Characters, TextBatch
from lit_lm.models.elmo import BiLSTM, CharacterCNN, ELMo
from lit_lm.specs import NUM_CHARACTERS, DataSpec


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network and the batch."""

    width: int = 256
    cell: int = 1024
    vocab: int = 50_000
    rows: int = 16
    length: int = 24
    characters: int = 50
    sampled: int = 0

    @property
    def tokens(self) -> int:
        """Tokens of a batch; each is predicted from either side."""
        return self.rows * self.length


def works() -> list[Work]:
    """With the softmax over the whole vocabulary, and against a sample of it."""
    title = (
        "ELMo, 2 layers of cells of 1,024 and width 256, vocabulary 50,000, 16 x 24 tokens, fp32"
    )
    full, sampled = Sizes(), Sizes(sampled=1024)
    return [
        _work(
            "elmo", title, full, bars=dict.fromkeys(PEERS, 1.5), agree=dict.fromkeys(PEERS, 1e-5)
        ),
        _work(
            "elmo-sampled",
            "the same, ours against 1,024 samples, the others over the whole vocabulary",
            sampled,
            bars=dict.fromkeys(PEERS, 3.0),
            agree=dict.fromkeys(PEERS, 0.05),
        ),
    ]


def _work(name: str, title: str, sizes: Sizes, **settings: Any) -> Work:
    entrants: dict[str, Callable[[], Entrant]] = {"ours": functools.partial(ours, sizes)}
    entrants |= {peer: functools.partial(make, sizes) for peer, make in PEERS.items()}
    return Work(name, title, entrants, **settings)


def task(sizes: Sizes) -> BidirectionalLM:
    """Ours with fresh weights, without dropout and, as torch's LSTM has none, without clipping."""
    torch.manual_seed(0)
    net = ELMoConfig(
        d_model=sizes.width,
        d_cell=sizes.cell,
        num_highway=1,
        cell_clip=None,
        projection_clip=None,
        dropout=0.0,
    )
    spec = DataSpec(
        vocab_size=sizes.vocab, max_length=sizes.length, max_characters=sizes.characters
    )
    return BidirectionalLM(net, spec, training.OPTIM, sampled_softmax=sizes.sampled)


def text(sizes: Sizes) -> tuple[Tensor, Tensor]:
    """int64 (rows, length + 1) ids, log-uniform as words of a text by frequency; int64 (vocabulary, W) characters,
    3 to 14 of each word between its begin and end.
    """
    generator = torch.Generator().manual_seed(1)
    uniform = torch.rand(sizes.rows, sizes.length + 1, generator=generator)
    ids = (torch.exp(uniform * math.log(sizes.vocab + 1)) - 1).long().clamp(max=sizes.vocab - 1)
    table = torch.randint(1, NUM_CHARACTERS, (sizes.vocab, sizes.characters), generator=generator)
    lengths = torch.randint(5, 17, (sizes.vocab, 1), generator=generator)
    table = table.masked_fill(torch.arange(sizes.characters) >= lengths, 0)
    return ids.to(training.device()), table.to(training.device())


def ours(sizes: Sizes) -> Entrant:
    """Ours."""
    ids, table = text(sizes)
    distinct, words = ids.unique(return_inverse=True)
    n = sizes.tokens
    size = BatchSize(sizes.rows, n, n, 0, n, n, distinct=len(distinct))
    batch = TextBatch(
        ids[:, :-1].contiguous(),
        ids[:, 1:].contiguous(),
        torch.ones_like(ids[:, 1:], dtype=torch.bool),
        size,
        Characters(table[distinct], words),
    )
    return training.ours(task(sizes).to(ids.device), [batch], n)


class Plain(nn.Module):
    """ELMo's equations with ``nn.LSTM`` once for each direction of each layer, with an ELMo's weights."""

    def __init__(self, net: ELMo) -> None:
        super().__init__()
        self.tokens = PlainCharacters(net.tokens)
        self.layers = nn.ModuleList(
            nn.ModuleList(_lstm(layer, direction) for direction in range(2)) for layer in net.layers
        )
        self.head = nn.Linear(net.head.in_features, net.head.out_features)
        self.head.load_state_dict(net.head.state_dict())

    def forward(self, ids: Tensor, chars: Tensor, words: Tensor | None) -> Tensor:
        """The mean of both directions' losses; ``words`` says where each of ``chars`` stands, all in a row when None."""
        x = self.tokens(chars.view(-1, chars.size(-1)))
        x = x.view(*ids.shape, -1) if words is None else F.embedding(words, x)
        forward = self._direction(x[:, :-1], 0)
        backward = self._direction(x[:, 1:].flip(1), 1).flip(1)
        losses = [
            F.cross_entropy(self.head(h).flatten(0, 1), labels.flatten())
            for h, labels in ((forward, ids[:, 1:]), (backward, ids[:, :-1]))
        ]
        return (losses[0] + losses[1]) / 2

    def _direction(self, x: Tensor, direction: int) -> Tensor:
        for k, both in enumerate(self.layers):
            out = both[direction](x)[0]
            x = out if k == 0 else out + x
        return x


class PlainCharacters(nn.Module):
    """The convolutions over characters."""

    def __init__(self, own: CharacterCNN) -> None:
        super().__init__()
        self.embedding = nn.Embedding(NUM_CHARACTERS, own.embedding.embedding_dim, padding_idx=0)
        self.convolutions = nn.ModuleList(
            nn.Conv1d(c.in_channels, c.out_channels, c.kernel_size) for c in own.convolutions
        )
        self.highways = nn.ModuleList(
            nn.Linear(h.in_features, h.out_features) for h in own.highways
        )
        self.projection = nn.Linear(own.projection.in_features, own.projection.out_features)
        self.load_state_dict(own.state_dict())

    def forward(self, chars: Tensor) -> Tensor:
        """int64 (N, W) to float (N, D)."""
        x = self.embedding(chars).transpose(1, 2)
        h = torch.cat([F.relu(conv(x).max(dim=-1)[0]) for conv in self.convolutions], dim=-1)
        for highway in self.highways:
            new, gate = highway(h).chunk(2, dim=-1)
            gate = torch.sigmoid(gate)
            h = gate * h + (1 - gate) * F.relu(new)
        return self.projection(h)


def _lstm(layer: BiLSTM, direction: int) -> nn.LSTM:
    inputs, recurrent = layer.inputs[direction], layer.recurrent[direction]
    projection = layer.projections[direction]
    own = nn.LSTM(
        inputs.in_features,
        projection.in_features,
        batch_first=True,
        proj_size=projection.out_features,
    )
    own.load_state_dict(
        {
            "weight_ih_l0": inputs.weight,
            "bias_ih_l0": inputs.bias,
            "weight_hh_l0": recurrent.weight,
            "bias_hh_l0": torch.zeros_like(inputs.bias),
            "weight_hr_l0": projection.weight,
        }
    )
    return own


def plain(sizes: Sizes, distinct: bool) -> Entrant:
    """The plain network; it reads the characters of every position, or of every distinct word once."""
    ids, table = text(sizes)
    kept, words = ids.unique(return_inverse=True)
    chars, where = (table[kept], words) if distinct else (table[ids], None)
    module = Plain(task(sizes).net).to(ids.device)  # type: ignore[arg-type]

    def loss(batch: Any) -> Tensor:
        return module(ids, chars, where)

    return training.peer(module, loss, [None], sizes.tokens)


PEERS = {
    "nn.LSTM": functools.partial(plain, distinct=False),
    "nn.LSTM, characters of distinct words": functools.partial(plain, distinct=True),
}
