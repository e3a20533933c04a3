"""A full training step of a translation Transformer, beside transformers: the same pairs, batched two ways."""

from __future__ import annotations

import functools
from typing import Any

import numpy as np
import torch
from torch import Tensor

from benchmarks import training
from benchmarks.harness import Entrant, Work
from benchmarks.works.beam import HEADS, LAYERS, VOCAB, WIDTH, marian
from lit_lm import TransformerConfig, Translation
from lit_lm.data.batches import BatchSize, PairBatch
from lit_lm.data.samplers import plan_batches
from lit_lm.specs import DataSpec

PAIRS, AT_RANDOM = 512, 64
BATCH_TOKENS = 1280  # source and target positions: about 64 pairs of their mean length


def works() -> list[Work]:
    """Batches as ours makes them against random ones, and the same batches on both sides."""
    about = f"{LAYERS} + {LAYERS} layers of width {WIDTH}, vocabulary {VOCAB:,}, fp32"
    flops = 3 * sum(task().net.row_flops(s, t) for s, t in lengths().tolist()) / targets()
    return [
        Work(
            "translation",
            f"Translation, {about}; pairs of multi30k's lengths, transformers in random batches of {AT_RANDOM}",
            {"ours": ours, "transformers": functools.partial(transformers, at_random=True)},
            bars={"transformers": 3.0},
            unit="target tokens",
            rounds=5,
            flops=flops,
        ),
        Work(
            "translation-same",
            "the same, transformers in our batches",
            {"ours": ours, "transformers": functools.partial(transformers, at_random=False)},
            bars={"transformers": 1.2},
            unit="target tokens",
            agree={"transformers": 1e-4},
            rounds=5,
            flops=flops,
        ),
    ]


@functools.cache
def lengths() -> Tensor:
    """int64 (pairs, 2): source and target tokens, log-normal as those of multi30k's English and German."""
    draw = np.random.default_rng(0)
    source = draw.normal(2.61, 0.276, PAIRS)
    target = source - 0.044 + draw.normal(0.0, 0.157, PAIRS)
    return torch.from_numpy(np.exp(np.stack((source, target), 1)).round().astype(np.int64))


def targets() -> int:
    """Predicted tokens of all pairs."""
    return int(lengths()[:, 1].sum())


@functools.cache
def task() -> Translation:
    """Ours with fresh weights, without dropout and label smoothing."""
    torch.manual_seed(0)
    config = TransformerConfig(
        num_layers=LAYERS, num_heads=HEADS, d_model=WIDTH, d_ff=1024, dropout=0.0
    )
    spec = DataSpec(vocab_size=VOCAB, max_length=64, max_target_length=64)
    return Translation(config, spec, training.OPTIM, label_smoothing=0.0)


@functools.cache
def batches(at_random: bool) -> list[PairBatch]:
    """All pairs, each batch padded to its longest."""
    rule: dict[str, Any] = (
        {"batch_size": AT_RANDOM} if at_random else {"batch_tokens": BATCH_TOKENS}
    )
    sizes = lengths().sum(1).numpy()
    return [batch(rows) for rows in plan_batches(sizes, shuffle=True, seed=0, epoch=0, **rule)]


def batch(rows: Any) -> PairBatch:
    """These pairs."""
    spec = DataSpec()
    size = lengths()[torch.as_tensor(rows)]
    sides = []
    for n, seed in ((size[:, :1], 1), (size[:, 1:], 2)):
        at = torch.arange(int(n.max()))
        generator = torch.Generator().manual_seed(seed)
        ids = torch.randint(5, VOCAB, (len(n), len(at)), generator=generator)
        ids = ids.masked_fill(at == n - 1, spec.eos_id).masked_fill(at >= n, spec.pad_id)
        sides.append((ids, at < n))
    (src, src_mask), (tgt, tgt_mask) = sides
    labels = tgt.masked_fill(~tgt_mask, -100)
    inputs = torch.cat((torch.full_like(tgt[:, :1], spec.bos_id), tgt[:, :-1]), dim=1)
    count = int(tgt_mask.sum())
    about = BatchSize(
        len(rows), count, count, int(src_mask.sum()), src.numel() + tgt.numel(), count
    )
    tensors = (src, src_mask, inputs, labels)
    return PairBatch(*(t.to(training.device()) for t in tensors), about, torch.as_tensor(rows))


def ours() -> Entrant:
    """Ours over its own batches: of similar lengths, with a budget of tokens."""
    return training.ours(task().to(training.device()), batches(False), targets())


def transformers(at_random: bool) -> Entrant:
    """MarianMTModel with our weights."""
    model = marian(task())

    def loss(b: PairBatch) -> Tensor:
        return model(
            input_ids=b.src_ids_BS,
            attention_mask=b.src_mask_BS.long(),
            decoder_input_ids=b.tgt_ids_BT,
            labels=b.labels_BT,
        ).loss

    return training.peer(model, loss, batches(at_random), targets())
