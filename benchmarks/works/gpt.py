"""A full training step of a GPT, beside transformers, litgpt and x-transformers."""

from __future__ import annotations

import functools
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F

from benchmarks import training
from benchmarks.harness import Entrant, Work
from lit_lm import CausalLM, GPTConfig
from lit_lm.data.batches import BatchSize, TextBatch
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class Sizes:
    """Sizes of the network and the batch."""

    layers: int = 6
    heads: int = 6
    width: int = 384
    vocab: int = 8192
    rows: int = 8
    length: int = 256
    dtype: torch.dtype = torch.float32

    @property
    def tokens(self) -> int:
        """Predicted tokens of a batch."""
        return self.rows * self.length


def works() -> list[Work]:
    """GPT in single precision, in bfloat16, and with a large vocabulary."""
    small, half = Sizes(), Sizes(dtype=torch.bfloat16)
    large = Sizes(vocab=50_257)
    loose = {
        "litgpt": 0.02,
        "x-transformers": 0.02,
    }  # weights of their own: losses of a fresh network
    return [
        _work(
            "gpt",
            "GPT, 6 layers of width 384, vocabulary 8,192, 8 x 256 tokens, fp32",
            small,
            bars={"transformers": 1.8, "litgpt": 1.6},
            agree={"transformers": 1e-4} | loose,
        ),
        _work(
            "gpt-bf16",
            "the same under bf16 autocast",
            half,
            bars=dict.fromkeys(PEERS, 1.05),
            missing=training.missing(torch.bfloat16),
            agree={"transformers": 5e-3} | loose,
        ),
        _work(
            "gpt-50k",
            "GPT with a vocabulary of 50,257, fp32",
            large,
            bars={"transformers": 1.5},
            agree={"transformers": 1e-4} | loose,
            memory=True,
            memory_bars={"transformers": 0.5},
        ),
        _work(
            "gpt2-gpu",
            "GPT-2 124M, 16 x 1,024 tokens, bf16, on a GPU (bar on an H200: 470,000 tokens a second)",
            Sizes(12, 12, 768, 50_257, 16, 1024, torch.bfloat16),
            agree={"transformers": 5e-3},
            memory=True,
            missing="" if torch.cuda.is_available() else "there is no GPU",
        ),
    ]


def _work(name: str, title: str, sizes: Sizes, **settings: Any) -> Work:
    entrants: dict[str, Callable[[], Entrant]] = {"ours": functools.partial(ours, sizes)}
    entrants |= {peer: functools.partial(make, sizes) for peer, make in PEERS.items()}
    with torch.device("meta"):
        flops = 3 * task(sizes).net.row_flops(sizes.length) / sizes.length
    return Work(name, title, entrants, flops=flops, dtype=sizes.dtype, **settings)


def task(sizes: Sizes) -> CausalLM:
    """Ours with fresh weights, without dropout."""
    torch.manual_seed(0)
    net = GPTConfig(
        num_layers=sizes.layers, num_heads=sizes.heads, d_model=sizes.width, dropout=0.0
    )
    spec = DataSpec(vocab_size=sizes.vocab, max_length=sizes.length)
    return CausalLM(net, spec, training.OPTIM)


def tokens(sizes: Sizes) -> Tensor:
    """int64 (rows, length + 1), the same for everyone."""
    generator = torch.Generator().manual_seed(1)
    shape = (sizes.rows, sizes.length + 1)
    return torch.randint(5, sizes.vocab, shape, generator=generator).to(training.device())


def ours(sizes: Sizes) -> Entrant:
    """Ours."""
    ids = tokens(sizes)
    size = BatchSize(sizes.rows, sizes.tokens, sizes.tokens, 0, sizes.tokens, sizes.tokens)
    mask = torch.ones_like(ids[:, 1:], dtype=torch.bool)
    batch = TextBatch(ids[:, :-1].contiguous(), ids[:, 1:].contiguous(), mask, size)
    own = task(sizes).to(training.device())
    return training.ours(own, [batch], sizes.tokens, sizes.dtype)


def transformers(sizes: Sizes) -> Entrant:
    """GPT2LMHeadModel with our weights."""
    model, ids = gpt2_model(sizes, task(sizes)), tokens(sizes)
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def loss(batch: Any) -> Tensor:
        return model(inputs, shift_labels=labels, labels=labels, use_cache=False).loss

    return training.peer(model.to(ids.device), loss, [None], sizes.tokens, sizes.dtype)


def gpt2_model(sizes: Sizes, own: CausalLM) -> Any:
    """transformers' GPT2LMHeadModel with the weights of ours, without dropout."""
    from transformers import GPT2Config, GPT2LMHeadModel

    from lit_lm.interop import gpt2, weights

    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=sizes.vocab,
            n_positions=sizes.length,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            resid_pdrop=0.0,
            embd_pdrop=0.0,
            attn_pdrop=0.0,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    state = weights.dump(own.net, gpt2.layout(sizes.layers, head=False))
    model.load_state_dict(state, strict=False)
    model.tie_weights()
    return model


def litgpt_model(sizes: Sizes) -> Any:
    """litgpt's GPT: rotary positions, biases and layer norms as in Pythia."""
    from litgpt.config import Config
    from litgpt.model import GPT

    torch.manual_seed(0)
    config = Config(
        block_size=sizes.length,
        vocab_size=sizes.vocab,
        padded_vocab_size=sizes.vocab,
        n_layer=sizes.layers,
        n_head=sizes.heads,
        n_embd=sizes.width,
        rotary_percentage=0.25,
        parallel_residual=False,
        bias=True,
        norm_class_name="LayerNorm",
        mlp_class_name="GptNeoxMLP",
        intermediate_size=4 * sizes.width,
        gelu_approximate="tanh",
    )
    model = GPT(config)
    model.apply(_small)
    model.lm_head.weight = model.transformer.wte.weight
    return model


def litgpt(sizes: Sizes) -> Entrant:
    """litgpt."""
    from litgpt.utils import chunked_cross_entropy

    model, ids = litgpt_model(sizes), tokens(sizes)
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def loss(batch: Any) -> Tensor:
        return chunked_cross_entropy(model(inputs), labels, chunk_size=0)

    return training.peer(model.to(ids.device), loss, [None], sizes.tokens, sizes.dtype)


def _small(module: torch.nn.Module) -> None:
    if isinstance(module, torch.nn.Linear | torch.nn.Embedding):
        torch.nn.init.normal_(module.weight, std=0.02)


def x_transformers_model(sizes: Sizes) -> Any:
    """x-transformers' decoder with its flash attention, which is torch's."""
    from x_transformers import Decoder, TransformerWrapper

    torch.manual_seed(0)
    model = TransformerWrapper(
        num_tokens=sizes.vocab,
        max_seq_len=sizes.length,
        tie_embedding=True,
        attn_layers=Decoder(
            dim=sizes.width,
            depth=sizes.layers,
            heads=sizes.heads,
            attn_dim_head=sizes.width // sizes.heads,
            attn_flash=True,
        ),
    )
    model.apply(_small)
    return model


def x_transformers(sizes: Sizes) -> Entrant:
    """x-transformers."""
    model, ids = x_transformers_model(sizes), tokens(sizes)
    inputs, labels = ids[:, :-1].contiguous(), ids[:, 1:].contiguous()

    def loss(batch: Any) -> Tensor:
        logits = model(inputs)
        return F.cross_entropy(logits.flatten(0, 1), labels.flatten())

    return training.peer(model.to(ids.device), loss, [None], sizes.tokens, sizes.dtype)


PEERS = {"transformers": transformers, "litgpt": litgpt, "x-transformers": x_transformers}
