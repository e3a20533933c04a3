"""Tiny translation tasks for comparisons: every parameter random, biases and norms too."""

from __future__ import annotations

import torch
from torch import nn

from lit_lm import Translation
from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.models import TransformerConfig
from lit_lm.models.base import Seq2SeqArchitecture
from lit_lm.specs import DataSpec

TOKENIZER = Tokenizer.train(TokenizerConfig("word"), ["a b c d e f g h"])
SPEC = DataSpec(vocab_size=TOKENIZER.vocab_size, max_length=12, max_target_length=14)

POST = TransformerConfig(
    num_layers=2,
    num_decoder_layers=3,
    num_heads=2,
    d_model=16,
    d_ff=24,
    dropout=0.0,
    norm_first=False,
    final_norm=False,
)


def make_task(config: Seq2SeqArchitecture, seed: int = 0) -> Translation:
    """A task in evaluation, with a tokenizer. Its outputs may have half of a source's tokens, plus 10."""
    torch.manual_seed(seed)
    task = Translation(config, SPEC, length_factor=0.5).eval()
    for name, p in task.net.named_parameters():
        is_gain = "norm" in name and name.endswith("weight")
        scale = 1.6 * p.size(-1) ** -0.5 if p.dim() > 1 else 0.5
        nn.init.normal_(p, float(is_gain), scale)
    task.tokenizer = TOKENIZER
    return task


def lean_to_eos(task: Translation, strength: float = 6.0) -> None:
    """Moves what the decoder ends in, so that outputs end now and then."""
    last = task.net.decoder.norm
    if not isinstance(last, nn.LayerNorm):
        block = task.net.decoder.blocks[-1]
        last = block.feed_forward.down if block.norm_first else block.norm_feed_forward
    eos = task.net.head.weight[SPEC.eos_id].detach()
    last.bias.data += strength * eos / eos.square().sum()
