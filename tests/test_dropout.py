"""Dropout on CPUs: what is dropped, what is left, and attention that drops weights."""

from __future__ import annotations

import math

import pytest
import torch
from torch import nn
from torch.nn import functional as F

from lit_lm.nn import attention
from lit_lm.nn.blocks import Block
from lit_lm.nn.dropout import Dropout, dropout


@pytest.mark.parametrize("rate", [0.1, 0.3, 0.5, 0.9])
def test_share_scale_and_gradient(rate):
    torch.manual_seed(0)
    x = torch.randn(400, 501, requires_grad=True)  # no multiple of the numbers of a draw
    y = dropout(x, rate)
    kept = y != 0
    n = x.numel()
    assert abs(kept.double().mean() - (1 - rate)) < 4 * math.sqrt(rate * (1 - rate) / n) + 1e-4
    torch.testing.assert_close(y[kept], (x / (1 - rate))[kept], rtol=1e-4, atol=1e-6)
    g = torch.randn_like(x)
    (dx,) = torch.autograd.grad(y, x, g)
    torch.testing.assert_close(dx, torch.where(kept, g / (1 - rate), 0.0), rtol=1e-4, atol=1e-6)


def test_elements_are_dropped_independently():
    torch.manual_seed(1)
    kept = (dropout(torch.ones(1 << 18), 0.3) != 0).double() - 0.7
    for lag in (1, 2, 3, 4, 5, 8, 64):  # the first three share draws
        correlation = (kept[:-lag] * kept[lag:]).mean() / (0.3 * 0.7)
        assert abs(correlation) < 5 / math.sqrt(len(kept)), lag
    by_place = kept.view(-1, 4).mean(0)
    assert by_place.abs().max() < 5 * math.sqrt(0.21 / (1 << 16))


def test_seed_decides():
    draws = []
    for seed in (0, 0, 1):
        torch.manual_seed(seed)
        draws.append(dropout(torch.ones(1000), 0.5))
    assert draws[0].equal(draws[1])
    assert not draws[0].equal(draws[2])


@pytest.mark.parametrize("dtype", [torch.float64, torch.float32, torch.bfloat16])
def test_keeps_the_type(dtype):
    x = torch.randn(8, 3, dtype=dtype, requires_grad=True)
    y = dropout(x, 0.5)
    assert y.dtype == dtype
    y.sum().backward()
    assert x.grad.dtype == dtype


def test_module_is_torchs_but_for_the_draws():
    layer = Dropout(0.4)
    assert isinstance(layer, nn.Dropout)
    x = torch.randn(50)
    assert layer.eval()(x) is x
    assert (layer.train()(x) == 0).any()
    assert Dropout(0.0).train()(x).equal(x)
    assert Dropout(1.0).train()(x).equal(torch.zeros(50))


@pytest.mark.parametrize("causal", [False, True])
def test_attention_that_drops_nothing_is_torchs(monkeypatch, causal):
    monkeypatch.setattr(attention, "dropout", lambda x, rate: x)
    q, k, v = (torch.randn(3, 2, 7, 4, dtype=torch.float64) for _ in "qkv")
    masks = [None] if causal else [None, torch.rand(3, 1, 1, 7) > 0.4, torch.rand(3, 1, 7, 7) > 0.4]
    for mask in masks:
        if mask is not None:
            mask[..., 0] = True
        found = attention._attend_and_drop(q, k, v, mask, causal, 0.5)
        right = F.scaled_dot_product_attention(q, k, v, attn_mask=mask, is_causal=causal)
        torch.testing.assert_close(found, right)


def test_attention_drops_weights_and_keeps_their_mean():
    torch.manual_seed(2)
    layer = attention.MultiHeadAttention(8, 2, dropout=0.3)
    x = torch.randn(1, 5, 8)
    mask = torch.tensor([True, True, True, False, False])[None, None, None]
    right = layer.eval()(x, mask)
    layer.train()
    with torch.no_grad():
        draws = torch.cat([layer(x.expand(500, -1, -1), mask) for _ in range(20)])
    assert draws.std(0).min() > 0.001
    error = draws.mean(0) - right[0]
    assert (error.abs() < 5 * draws.std(0) / math.sqrt(len(draws)) + 1e-4).all()


@pytest.mark.parametrize(("dropout", "weights"), [(0.5, None), (0.5, 0.0), (0.0, 0.5)])
def test_attention_weights_have_a_rate_of_their_own(dropout, weights):
    torch.manual_seed(3)
    block = Block(8, 2, 16, dropout=dropout, attention_dropout=weights, cross=True)
    x = torch.randn(4, 5, 8)
    mask = torch.ones(4, 1, 1, 5, dtype=torch.bool)
    cross = block.cross_attention

    def branches():
        return block.attention(x), cross.attend_memory(x, cross.memory(x), mask), block.dropout(x)

    right = [out.detach() for out in (block.eval() and branches())]
    drops = [
        not torch.equal(a, b) for a, b in zip((block.train() and branches()), right, strict=True)
    ]
    assert drops == [weights != 0.0, weights != 0.0, dropout > 0]
