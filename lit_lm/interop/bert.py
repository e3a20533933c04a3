"""Hugging Face's layout of BERT: ``BertModel`` and the heads of its pre-training.

A file may hold the encoder alone or with any of pooler, masked-LM head and next-sentence head. What it
lacks is made anew and named in ``Task.fresh``; what is fresh is not written.
"""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

from torch import Tensor

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop import hugging_face as hf
from lit_lm.interop import settings, weights
from lit_lm.interop.weights import CONFIG, WEIGHTS, Weight, linear
from lit_lm.models.bert import BERT, BERTConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks import MaskedLM, Task

MLM, NSP, POOLER = "cls.predictions.", "cls.seq_relationship.", "pooler."
_FIXED = {
    "position_embedding_type": "absolute",
    "type_vocab_size": 2,
    "is_decoder": False,
    "add_cross_attention": False,
    "tie_word_embeddings": True,
}
_DROPOUT = ("hidden_dropout_prob", "attention_probs_dropout_prob")
_ARCHITECTURES = {
    (True, True): "BertForPreTraining",
    (True, False): "BertForMaskedLM",
    (False, True): "BertForNextSentencePrediction",
    (False, False): "BertModel",
}


def layout(num_layers: int, parts: set[str], prefix: str = "bert.") -> list[Weight]:
    """Which tensor holds which of our parameters.

    Args:
        num_layers: blocks.
        parts: those of `POOLER`, `MLM` and `NSP` that there are.
        prefix: what the encoder's names start with.
    """
    there = f"{prefix}embeddings."
    out = [
        Weight(f"{there}word_embeddings.weight", ("embedding.weight",)),
        Weight(f"{there}position_embeddings.weight", ("positions.table.weight",)),
        Weight(f"{there}token_type_embeddings.weight", ("segments.weight",)),
        *linear(f"{there}LayerNorm", "norm"),
    ]
    for i in range(num_layers):
        there, ours = f"{prefix}encoder.layer.{i}.", f"stack.blocks.{i}."
        out += [
            *linear(f"{there}attention.self.query", f"{ours}attention.q"),
            *linear(f"{there}attention.self.key", f"{ours}attention.k"),
            *linear(f"{there}attention.self.value", f"{ours}attention.v"),
            *linear(f"{there}attention.output.dense", f"{ours}attention.out"),
            *linear(f"{there}attention.output.LayerNorm", f"{ours}norm_attention"),
            *linear(f"{there}intermediate.dense", f"{ours}feed_forward.up"),
            *linear(f"{there}output.dense", f"{ours}feed_forward.down"),
            *linear(f"{there}output.LayerNorm", f"{ours}norm_feed_forward"),
        ]
    if POOLER in parts:
        out += linear(f"{prefix}pooler.dense", "pooler")
    if MLM in parts:
        out += [
            *linear(f"{MLM}transform.dense", "head.dense"),
            *linear(f"{MLM}transform.LayerNorm", "head.norm"),
            Weight(f"{MLM}bias", ("head.output.bias",)),
        ]
    if NSP in parts:
        out += linear(NSP.removesuffix("."), "next_head")
    return out


def read(folder: Path, tokenizer: Callable[[], Tokenizer]) -> MaskedLM:
    """A task with the weights of ``BertModel``, ``BertForMaskedLM``, ``BertForNextSentencePrediction`` or
    ``BertForPreTraining``. Rows have two segments if there is a pooler.

    Raises:
        InputError: the configuration asks for what `BERT` cannot be, or the weights do not fit it.
    """
    config, tensors = weights.read(folder)
    tensors = _usual_names(tensors)
    prefix = "bert." if any(name.startswith("bert.") for name in tensors) else ""
    starts = {POOLER: prefix + POOLER, MLM: MLM, NSP: NSP}
    parts = {part for part, start in starts.items() if any(n.startswith(start) for n in tensors)}
    if NSP in parts:
        parts.add(POOLER)
    net = _sizes(config, folder / CONFIG, parts)
    found = tokenizer()
    spec = _spec(found, config, folder / CONFIG, POOLER in parts)
    task = MaskedLM(net, spec)
    kept = layout(net.num_layers, parts, prefix)
    held = {ours for weight in kept for ours in weight.ours}
    fresh = tuple(name for name, _ in task.net.named_parameters() if name not in held)
    copies = {
        f"{MLM}decoder.weight": f"{prefix}embeddings.word_embeddings.weight",
        f"{MLM}decoder.bias": f"{MLM}bias",
    }
    weights.load(task.net, kept, tensors, folder / WEIGHTS, copies=copies, fresh=fresh)
    task.tokenizer, task.fresh = found, fresh
    return task


def write(task: Task, folder: Path) -> None:
    """Writes the layout of the class that has just the parts of the network that are not fresh.

    ``BertModel`` and ``BertForMaskedLM`` differ in whether they have a pooler, which the file then has too many
    or too few of if the network is not like theirs; ``transformers`` says so, and reads the rest.

    Raises:
        InputError: the layout cannot express the network; nothing is written.
    """
    net_config = settings.architecture(task, BERTConfig)
    tokenizer = task.require_tokenizer()
    net = task.net
    assert isinstance(net, BERT)
    there = {name for name, _ in net.named_parameters()} - set(task.fresh)
    ours = {POOLER: "pooler.weight", MLM: "head.dense.weight", NSP: "next_head.weight"}
    parts = {part for part, name in ours.items() if name in there}
    settings.require(net_config, "Hugging Face's BERT", norm_first=[False], positions=["learned"])
    if MLM in parts:
        # One setting there is the activation of the blocks and of the head; ours is GELU in the head.
        settings.require(
            net_config, "Hugging Face's BERT with a masked-LM head", activation=["gelu"]
        )
    kind = _ARCHITECTURES[MLM in parts, NSP in parts]
    prefix = "" if kind == "BertModel" else "bert."
    length = net.positions.table.num_embeddings
    config = {
        "architectures": [kind],
        "model_type": "bert",
        "vocab_size": net.embedding.num_embeddings,
        "hidden_size": net.dim,
        "num_hidden_layers": net_config.num_layers,
        "num_attention_heads": net_config.num_heads,
        "intermediate_size": net_config.d_ff or 4 * net.dim,
        "hidden_act": hf.activation_name(net_config.activation),
        **dict.fromkeys(_DROPOUT, net_config.dropout),
        "max_position_embeddings": length,
        "initializer_range": net_config.init_std,
        "layer_norm_eps": net_config.norm_eps,
        "pad_token_id": tokenizer.pad_id,
        **_FIXED,
    }
    weights.write(folder, config, weights.dump(net, layout(net_config.num_layers, parts, prefix)))
    t = tokenizer
    special = {
        "pad": t.pad_id,
        "cls": t.bos_id,
        "sep": t.eos_id,
        "unk": t.unk_id,
        "mask": t.mask_id,
    }
    hf.write_tokenizer(tokenizer, folder, special, length)


def _usual_names(tensors: dict[str, Tensor]) -> dict[str, Tensor]:
    """Tensors under the names of today: TensorFlow had gamma and beta; buffers are no weights."""
    out = {}
    for name, tensor in tensors.items():
        name = name.replace("LayerNorm.gamma", "LayerNorm.weight")
        name = name.replace("LayerNorm.beta", "LayerNorm.bias")
        if not name.endswith("embeddings.position_ids"):
            out[name] = tensor
    if f"{MLM}bias" not in out and f"{MLM}decoder.bias" in out:
        out[f"{MLM}bias"] = out.pop(f"{MLM}decoder.bias")
    return out


def _sizes(config: dict[str, Any], file: Path, parts: set[str]) -> BERTConfig:
    settings.expect(config, _FIXED, file)
    activation = hf.activation(config, "hidden_act", "gelu", file)
    if MLM in parts and activation != "gelu":
        raise InputError(
            f"{file}: hidden_act is {config['hidden_act']!r}; with a masked-LM head only 'gelu' can be read: "
            "that of this network is GELU"
        )
    d_model, heads = settings.widths(config, "hidden_size", "num_attention_heads", file)
    return BERTConfig(
        num_layers=settings.count(config, "num_hidden_layers", file),
        num_heads=heads,
        d_model=d_model,
        d_ff=settings.count(config, "intermediate_size", file),
        dropout=hf.dropout(config, _DROPOUT, file),
        activation=activation,
        max_length=settings.count(config, "max_position_embeddings", file),
        init_std=settings.number(config, "initializer_range", 0.02, file),
        norm_eps=settings.number(config, "layer_norm_eps", 1e-12, file),
    )


def _spec(t: Tokenizer, config: dict[str, Any], file: Path, next_sentence: bool) -> DataSpec:
    vocab_size = settings.count(config, "vocab_size", file)
    hf.check_vocabulary(t, vocab_size, file)
    pad = config.get("pad_token_id")
    if pad is not None and pad != t.pad_id:
        raise InputError(
            f"{file}: pad_token_id is {pad}, but the tokenizer fills up with {t.pad_id}: give the tokenizer "
            "that belongs to the weights"
        )
    length = settings.count(config, "max_position_embeddings", file)
    return t.spec(length, vocab_size=vocab_size, next_sentence=next_sentence)
