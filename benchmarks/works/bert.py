"""A full pre-training step of BERT, beside transformers."""

from __future__ import annotations

import functools
from typing import Any

import torch
from torch import Tensor

from benchmarks import training
from benchmarks.harness import Entrant, Work
from lit_lm import BERTConfig, MaskedLM
from lit_lm.data.batches import BatchSize, MaskedBatch
from lit_lm.specs import DataSpec

LAYERS, HEADS, WIDTH, VOCAB = 6, 6, 384, 30_522
ROWS, LENGTH, HIDDEN = 16, 128, 19  # 15 % of 128
TOKENS = ROWS * LENGTH


def works() -> list[Work]:
    """Masked language modelling and next sentences, in single precision."""
    flops = 3 * task().net.row_flops(LENGTH, HIDDEN) / LENGTH
    return [
        Work(
            "bert",
            f"BERT, 6 layers of width 384, vocabulary 30,522, {ROWS} x {LENGTH} tokens, 15 % masked, next sentences, fp32",
            {"ours": ours, "transformers": transformers},
            bars={"transformers": 3.0},
            agree={"transformers": 1e-4},
            memory=True,
            memory_bars={"transformers": 0.6},
            flops=flops,
        )
    ]


@functools.cache
def task() -> MaskedLM:
    """Ours with fresh weights, without dropout."""
    torch.manual_seed(0)
    net = BERTConfig(num_layers=LAYERS, num_heads=HEADS, d_model=WIDTH, dropout=0.0)
    spec = DataSpec(vocab_size=VOCAB, max_length=LENGTH, next_sentence=True)
    return MaskedLM(net, spec, training.OPTIM)


def batch() -> MaskedBatch:
    """Full rows of two segments, equally many gaps in each: so one sum over one count is the mean of both losses."""
    generator = torch.Generator().manual_seed(1)
    ids = torch.randint(5, VOCAB, (ROWS, LENGTH), generator=generator)
    gaps = torch.rand(ROWS, LENGTH, generator=generator).argsort(1) < HIDDEN
    labels = ids.masked_fill(~gaps, -100)
    mask = torch.ones_like(gaps)
    segments = (torch.arange(LENGTH) >= LENGTH // 2).long().expand(ROWS, -1).contiguous()
    size = BatchSize(ROWS, TOKENS, TOKENS, 0, TOKENS, ROWS * HIDDEN)
    tensors = (ids.masked_fill(gaps, 4), labels, mask, segments, torch.arange(ROWS) % 2)
    return MaskedBatch(*(t.to(training.device()) for t in tensors), size)


def ours() -> Entrant:
    """Ours."""
    return training.ours(task().to(training.device()), [batch()], TOKENS)


def transformers() -> Entrant:
    """BertForPreTraining with our weights."""
    from transformers import BertConfig, BertForPreTraining

    from lit_lm.interop import bert, weights

    config = BertConfig(
        vocab_size=VOCAB,
        hidden_size=WIDTH,
        num_hidden_layers=LAYERS,
        num_attention_heads=HEADS,
        intermediate_size=4 * WIDTH,
        max_position_embeddings=LENGTH,
        hidden_dropout_prob=0.0,
        attention_probs_dropout_prob=0.0,
        layer_norm_eps=task().net.norm.eps,  # type: ignore[union-attr]
    )
    model = BertForPreTraining(config)
    layout = bert.layout(LAYERS, {bert.POOLER, bert.MLM, bert.NSP})
    model.load_state_dict(weights.dump(task().net, layout), strict=False)
    b = batch()

    def loss(_: Any) -> Tensor:
        return model(
            input_ids=b.ids_BL,
            attention_mask=b.mask_BL.long(),
            token_type_ids=b.segments_BL,
            labels=b.labels_BL,
            next_sentence_label=b.next_B,
        ).loss

    return training.peer(model.to(training.device()), loss, [None], TOKENS)
