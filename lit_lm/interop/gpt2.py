"""Hugging Face's layout of GPT-2: ``GPT2Model`` and ``GPT2LMHeadModel``.

Its linear maps are kept turned round, and query, key and value as one.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

from lit_lm.data import Tokenizer
from lit_lm.interop import hugging_face as hf
from lit_lm.interop import settings, weights
from lit_lm.interop.weights import CONFIG, WEIGHTS, Weight, linear
from lit_lm.models.gpt import GPT, GPTConfig
from lit_lm.tasks import CausalLM, Task

HEAD = "lm_head.weight"
_FIXED = {
    "scale_attn_weights": True,
    "scale_attn_by_inverse_layer_idx": False,
    "add_cross_attention": False,
}
_DROPOUT = ("resid_pdrop", "embd_pdrop", "attn_pdrop")
# Causal masks that older files hold beside the weights.
_BUFFER = re.compile(r"\.attn\.(masked_)?bias$")


def layout(num_layers: int, *, head: bool, prefix: str = "transformer.") -> list[Weight]:
    """Which tensor holds which of our parameters.

    Args:
        num_layers: blocks.
        head: whether there is an output layer of its own.
        prefix: what all other names start with.
    """
    out = [
        Weight(f"{prefix}wte.weight", ("embedding.weight",)),
        Weight(f"{prefix}wpe.weight", ("positions.table.weight",)),
    ]
    for i in range(num_layers):
        there, ours = f"{prefix}h.{i}.", f"stack.blocks.{i}."
        qkv = tuple(f"{ours}attention.{name}" for name in "qkv")
        out += [
            *linear(f"{there}ln_1", f"{ours}norm_attention"),
            *linear(f"{there}attn.c_attn", *qkv, transposed=True),
            *linear(f"{there}attn.c_proj", f"{ours}attention.out", transposed=True),
            *linear(f"{there}ln_2", f"{ours}norm_feed_forward"),
            *linear(f"{there}mlp.c_fc", f"{ours}feed_forward.up", transposed=True),
            *linear(f"{there}mlp.c_proj", f"{ours}feed_forward.down", transposed=True),
        ]
    out += linear(f"{prefix}ln_f", "stack.norm")
    return out + ([Weight(HEAD, ("head.weight",))] if head else [])


def read(folder: Path, tokenizer: Callable[[], Tokenizer]) -> CausalLM:
    """A task with the weights of ``GPT2Model`` or ``GPT2LMHeadModel``.

    Raises:
        InputError: the configuration asks for what `GPT` cannot be, or the weights do not fit it.
    """
    config, tensors = weights.read(folder)
    tensors = {name: t for name, t in tensors.items() if not _BUFFER.search(name)}
    prefix = "transformer." if any(name.startswith("transformer.") for name in tensors) else ""
    file = folder / CONFIG
    net = _sizes(config, file)
    t = tokenizer()
    vocab_size = settings.count(config, "vocab_size", file)
    hf.check_vocabulary(t, vocab_size, file)
    task = CausalLM(net, t.spec(net.max_length or 0, vocab_size=vocab_size))
    own_head = not net.tie_embeddings and HEAD in tensors
    fresh = () if net.tie_embeddings or own_head else ("head.weight",)
    copies = {HEAD: f"{prefix}wte.weight"} if net.tie_embeddings else {}
    kept = layout(net.num_layers, head=own_head, prefix=prefix)
    weights.load(task.net, kept, tensors, folder / WEIGHTS, copies=copies, fresh=fresh)
    task.tokenizer, task.fresh = t, fresh
    return task


def write(task: Task, folder: Path) -> None:
    """Writes the layout of ``GPT2LMHeadModel``; of ``GPT2Model`` if the output layer is fresh.

    Raises:
        InputError: the layout cannot express the network; nothing is written.
    """
    net_config = settings.architecture(task, GPTConfig)
    settings.require(
        net_config, "Hugging Face's GPT-2", norm_first=[True], positions=["learned"], bias=[True]
    )
    tokenizer = task.require_tokenizer()
    net = task.net
    assert isinstance(net, GPT)
    fresh = "head.weight" in task.fresh
    length = net.positions.table.num_embeddings
    config = {
        "architectures": ["GPT2Model" if fresh else "GPT2LMHeadModel"],
        "model_type": "gpt2",
        "vocab_size": net.embedding.num_embeddings,
        "n_positions": length,
        "n_embd": net.dim,
        "n_layer": net_config.num_layers,
        "n_head": net_config.num_heads,
        "n_inner": net_config.d_ff,
        "activation_function": hf.activation_name(net_config.activation),
        **dict.fromkeys(_DROPOUT, net_config.dropout),
        "layer_norm_epsilon": net_config.norm_eps,
        "initializer_range": net_config.init_std,
        "tie_word_embeddings": net_config.tie_embeddings,
        # A text starts behind the end of another, here as there.
        "bos_token_id": tokenizer.eos_id,
        "eos_token_id": tokenizer.eos_id,
        "pad_token_id": tokenizer.pad_id,
        **_FIXED,
    }
    kept = layout(
        net_config.num_layers,
        head=not net_config.tie_embeddings and not fresh,
        prefix="" if fresh else "transformer.",
    )
    weights.write(folder, config, weights.dump(net, kept))
    t = tokenizer
    special = {"pad": t.pad_id, "bos": t.eos_id, "eos": t.eos_id, "unk": t.unk_id}
    hf.write_tokenizer(tokenizer, folder, special, length)


def _sizes(config: dict[str, Any], file: Path) -> GPTConfig:
    settings.expect(config, _FIXED, file)
    d_model, heads = settings.widths(config, "n_embd", "n_head", file)
    return GPTConfig(
        num_layers=settings.count(config, "n_layer", file),
        num_heads=heads,
        d_model=d_model,
        d_ff=None if config.get("n_inner") is None else settings.count(config, "n_inner", file),
        dropout=hf.dropout(config, _DROPOUT, file),
        activation=hf.activation(config, "activation_function", "gelu_new", file),
        tie_embeddings=settings.setting(config, "tie_word_embeddings", bool, file, True),
        max_length=settings.count(config, "n_positions", file),
        init_std=settings.number(config, "initializer_range", 0.02, file),
        norm_eps=settings.number(config, "layer_norm_epsilon", 1e-5, file),
    )
