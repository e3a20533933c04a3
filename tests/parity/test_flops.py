"""FLOPs of every kind of network, as its task counts them, against torch's counter.

The counter sees a causal attention whole, as ours does, when it is made of plain products: hence the backend.
"""

from __future__ import annotations

import pytest
import torch
from torch import Tensor
from torch.nn.attention import SDPBackend, sdpa_kernel
from torch.utils.flop_counter import FlopCounterMode

from lit_lm.data.batches import (
    IGNORE,
    BatchSize,
    Characters,
    MaskedBatch,
    PairBatch,
    TextBatch,
)
from lit_lm.flops import TRAINING_FACTOR, cost
from lit_lm.models import BERTConfig, ELMoConfig, GPTConfig, RNNConfig, TransformerConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks import BidirectionalLM, CausalLM, MaskedLM, Task, Translation

pytestmark = pytest.mark.parity

B, L, S, V, W, U, GAPS = 2, 12, 9, 300, 10, 31, 4
SPEC = DataSpec(
    vocab_size=V, max_length=L, max_target_length=L, next_sentence=True, max_characters=W
)
WITHIN = 0.02


def ids(rows: int, length: int) -> Tensor:
    generator = torch.Generator().manual_seed(0)
    return torch.randint(5, V, (rows, length), generator=generator, device="cpu")


def masked(tokens_BL: Tensor) -> MaskedBatch:
    labels_BL = torch.full_like(tokens_BL, IGNORE)
    labels_BL[:, 2 : 2 + GAPS] = tokens_BL[:, 2 : 2 + GAPS]
    size = BatchSize(B, B * (L - 3), 0, B * 3, B * L, B * GAPS)
    real = torch.ones_like(tokens_BL, dtype=torch.bool)
    return MaskedBatch(
        tokens_BL, labels_BL, real, tokens_BL % 2, torch.zeros(B, dtype=torch.long), size
    )


def text(tokens_BL: Tensor) -> TextBatch:
    real = torch.ones_like(tokens_BL, dtype=torch.bool)
    chars = Characters(torch.ones(U, W, dtype=torch.long), ids(B, L + 1) % U)
    return TextBatch(tokens_BL, tokens_BL, real, BatchSize(B, B * L, 0, 0, B * L, B * L, U), chars)


def pair(tokens_BL: Tensor) -> PairBatch:
    src_BS = ids(B, S)
    size = BatchSize(B, B * L, 0, B * S, B * (L + S), B * L)
    real = torch.ones_like(src_BS, dtype=torch.bool)
    return PairBatch(src_BS, real, tokens_BL, tokens_BL, size, torch.arange(B))


TASKS = {
    "gpt": lambda: (CausalLM(GPTConfig(2, 4, 64, dropout=0.0), SPEC), text),
    "bert": lambda: (MaskedLM(BERTConfig(2, 4, 64, dropout=0.0), SPEC), masked),
    "elmo": lambda: (
        BidirectionalLM(ELMoConfig(8, [(1, 8), (3, 24)], d_model=32, d_cell=64), SPEC),
        text,
    ),
    "transformer": lambda: (
        Translation(TransformerConfig(2, 3, 4, 64, 160, dropout=0.0), SPEC),
        pair,
    ),
}


IN_PLACE = {torch.ops.aten.addmm_: lambda c, a, b, **_: 2 * a[0] * a[1] * b[1]}


@pytest.mark.parametrize("name", TASKS)
def test_a_tasks_loss(name: str) -> None:
    """Forward, and forward and backward, of the training loss: output layers at labelled positions only."""
    task, make = TASKS[name]()
    task.train()
    batch = make(ids(B, L))
    with sdpa_kernel(SDPBackend.MATH):
        with torch.no_grad(), FlopCounterMode(display=False) as counter:
            task.loss(batch)
        forward = counter.get_total_flops()
        # The loss takes some of the gradient on its way, with a product that torch does not count by itself.
        with FlopCounterMode(display=False, custom_mapping=IN_PLACE) as counter:
            task.loss(batch).total.backward()
    both = counter.get_total_flops()
    assert task.flops(batch.size) / TRAINING_FACTOR == pytest.approx(forward, rel=WITHIN)
    assert task.flops(batch.size) == pytest.approx(both, rel=WITHIN)
    check_cost(task, batch.size, forward, both)


def check_cost(task: Task, size: BatchSize, forward: int, both: int) -> None:
    """Where a row's last length is its number of predicted tokens, ``cost`` says the same for each of them."""
    if isinstance(task, CausalLM | Translation):
        found = cost(task.net, *task.row_lengths(size))
        assert found.forward_flops_per_token * size.tokens == pytest.approx(forward, rel=WITHIN)
        assert found.training_flops_per_token * size.tokens == pytest.approx(both, rel=WITHIN)


@pytest.mark.parametrize("cell", ["lstm", pytest.param("gru", marks=pytest.mark.slow)])
@pytest.mark.parametrize("attention", ["additive", "multiplicative"])
@pytest.mark.parametrize("input_feeding", [True, False])
def test_rnn(cell: str, attention: str, input_feeding: bool) -> None:
    """On the meta device, where a recurrent net is the products that it is made of."""
    config = RNNConfig(
        cell,
        2,
        3,
        d_model=40,
        d_hidden=64,
        attention=attention,
        input_feeding=input_feeding,
        dropout=0.0,
    )
    with torch.device("meta"):
        task = Translation(config, SPEC)
        batch = pair(torch.zeros(B, L, dtype=torch.long))
        batch = batch._replace(
            src_ids_BS=torch.zeros(B, S, dtype=torch.long),
            src_mask_BS=torch.ones(B, S, dtype=torch.bool),
        )
        with FlopCounterMode(display=False) as counter:
            logits = task.net.head(task.net(batch.src_ids_BS, batch.src_mask_BS, batch.tgt_ids_BT))
        forward = counter.get_total_flops()
        with FlopCounterMode(display=False) as counter:
            logits.sum().backward()
    both = forward + counter.get_total_flops()
    assert task.flops(batch.size) / TRAINING_FACTOR == pytest.approx(forward, rel=WITHIN)
    assert task.flops(batch.size) == pytest.approx(both, rel=WITHIN)
    check_cost(task, batch.size, forward, both)
