"""The encoder-decoder in the layout of ``torch.nn.Transformer``.

``config.json`` has that class's own argument names, and what stands around it:

- ``vocab_size``, ``max_length``, ``max_target_length``, ``pad_id``, ``bos_id`` (starts the decoder), ``eos_id``
  (ends sources and targets);
- ``positions``: "sinusoidal" (Vaswani et al. 2017, section 3.5: sines and cosines in turn), "learned" or "none",
  added to embeddings that are multiplied by the square root of ``d_model``; ``num_positions`` when learned;
- ``tie_embeddings``: source and target embeddings and the generator are one matrix, kept as
  ``src_embedding.weight``;
- ``final_norm``: the stacks end in norms, as they do in ``nn.Transformer(...)``. Without them they are its
  ``custom_encoder`` and ``custom_decoder``, made by ``nn.TransformerEncoder(layer, n)`` and
  ``nn.TransformerDecoder(layer, n)``.

``model.safetensors`` has ``transformer.<name in nn.Transformer>``, ``src_embedding.weight``,
``tgt_embedding.weight``, ``generator.weight`` (no bias), ``src_positions.weight`` and ``tgt_positions.weight``.

In training, ``nn.Transformer`` also drops inside its feed-forward nets, which ours does not. How to decode is a
task's own affair and not part of the layout.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop import settings, weights
from lit_lm.interop.weights import CONFIG, WEIGHTS, Weight, linear
from lit_lm.models.transformer import TransformerConfig
from lit_lm.specs import DataSpec
from lit_lm.tasks import Task, Translation

MODEL_TYPE = "torch.nn.Transformer"
_ACTIVATIONS = ("relu", "gelu")
POSITIONS = ("sinusoidal", "learned", "none")
# Those of the tokenizer that a network is built around.
_SHARED = ("vocab_size", "pad_id", "bos_id", "eos_id")


def read(folder: Path, tokenizer: Callable[[], Tokenizer]) -> Translation:
    """A translation task of a folder's weights and a tokenizer.

    Raises:
        InputError: the configuration, the weights and the tokenizer do not fit each other.
    """
    values, tensors = weights.read(folder)
    config, file = _config(values, folder / CONFIG), folder / CONFIG
    ids = {name: settings.setting(values, name, int, file) for name in _SHARED}
    found = tokenizer()
    for name, value in ids.items():
        if getattr(found, name) != value:
            raise InputError(
                f"{file}: {name} is {value}, but the tokenizer's is {getattr(found, name)}: give the one that "
                "the weights were trained with (--tokenizer)"
            )
    lengths = (settings.count(values, n, file) for n in ("max_length", "max_target_length"))
    task = Translation(config, found.spec(*lengths))
    task.tokenizer = found
    tied = ("tgt_embedding.weight", "generator.weight") if config.tie_embeddings else ()
    weights.load(
        task.net,
        layout(config),
        tensors,
        folder / WEIGHTS,
        copies=dict.fromkeys(tied, "src_embedding.weight"),
        # Without biases nn.Transformer's norms have none either; ours stay the zeros that they are made with.
        fresh=() if config.bias else [n for n in task.net.state_dict() if n.endswith(".bias")],
    )
    return task


def write(task: Task, folder: Path) -> None:
    """Writes ``config.json`` and ``model.safetensors``.

    Raises:
        InputError: ``nn.Transformer`` cannot express the network; nothing is written.
    """
    config, spec = architecture(task)
    settings.require(config, MODEL_TYPE, positions=POSITIONS, activation=_ACTIVATIONS)
    if not config.bias and any(
        tensor.any() for name, tensor in task.net.state_dict().items() if name.endswith(".bias")
    ):
        raise InputError(
            "bias=False cannot be written as torch_transformer: without biases nn.Transformer has none in its "
            "norms either, and this network has learned some. Train it with bias=True"
        )
    values = {
        "model_type": MODEL_TYPE,
        "d_model": config.d_model,
        "nhead": config.num_heads,
        "num_encoder_layers": config.num_layers,
        "num_decoder_layers": config.num_decoder_layers,
        "dim_feedforward": config.d_ff,
        "dropout": config.dropout,
        "activation": config.activation,
        "layer_norm_eps": config.norm_eps,
        "norm_first": config.norm_first,
        "bias": config.bias,
        "final_norm": config.final_norm,
        "positions": config.positions,
        "tie_embeddings": config.tie_embeddings,
        "max_length": spec.max_length,
        "max_target_length": spec.max_target_length,
        **{name: getattr(spec, name) for name in _SHARED},
    }
    if config.attention_dropout is not None:
        values["attention_dropout"] = config.attention_dropout
    if config.positions == "learned":
        values["num_positions"] = config.max_length
    weights.write(folder, values, weights.dump(task.net, layout(config)))


def layout(config: TransformerConfig) -> list[Weight]:
    """Every tensor of the layout; ``config`` as :func:`architecture` gives it."""
    out = [Weight("src_embedding.weight", ("src_embedding.weight",))]
    if not config.tie_embeddings:
        out += [
            Weight("tgt_embedding.weight", ("tgt_embedding.weight",)),
            Weight("generator.weight", ("head.weight",)),
        ]
    if config.positions == "learned":
        out += [
            Weight(f"{side}_positions.weight", (f"{side}_positions.table.weight",))
            for side in ("src", "tgt")
        ]
    for side, depth in (("encoder", config.num_layers), ("decoder", config.num_decoder_layers)):
        for i in range(depth or 0):
            out += _block(f"transformer.{side}.layers.{i}", f"{side}.blocks.{i}", side == "decoder")
        if config.final_norm:
            out += linear(f"transformer.{side}.norm", f"{side}.norm")
    return [weight for weight in out if config.bias or not weight.theirs.endswith("bias")]


def architecture(task: Task) -> tuple[TransformerConfig, DataSpec]:
    """A Transformer's sizes, with nothing left to a default, and what it knows of its data.

    Raises:
        InputError: the network is another, or the task has no tokenizer, or one that the network was not built
            for.
    """
    config = settings.architecture(task, TransformerConfig)
    tokenizer, spec = task.require_tokenizer(), DataSpec(**task.hparams["spec"])
    for key in _SHARED:
        if getattr(tokenizer, key) != getattr(spec, key):
            raise InputError(
                f"{key} of the network is {getattr(spec, key)}, but the tokenizer's is {getattr(tokenizer, key)}: "
                "give the task the tokenizer that it was trained with"
            )
    return (
        replace(
            config,
            num_decoder_layers=config.num_decoder_layers or config.num_layers,
            max_length=task.net.max_length,
            final_norm=config.norm_first if config.final_norm is None else config.final_norm,
        ),
        spec,
    )


def _block(theirs: str, ours: str, cross: bool) -> list[Weight]:
    branches = [("self_attn", "attention")]
    norms = ["norm_attention", "norm_feed_forward"]
    if cross:
        branches.append(("multihead_attn", "cross_attention"))
        norms.insert(1, "norm_cross")
    out = []
    for there, here in branches:
        for kind in ("weight", "bias"):
            parts = tuple(f"{ours}.{here}.{part}.{kind}" for part in "qkv")
            out.append(Weight(f"{theirs}.{there}.in_proj_{kind}", parts))
        out += linear(f"{theirs}.{there}.out_proj", f"{ours}.{here}.out")
    out += linear(f"{theirs}.linear1", f"{ours}.feed_forward.up")
    out += linear(f"{theirs}.linear2", f"{ours}.feed_forward.down")
    for i, norm in enumerate(norms, 1):
        out += linear(f"{theirs}.norm{i}", f"{ours}.{norm}")
    return out


def _config(values: Mapping[str, Any], file: Path) -> TransformerConfig:
    d_model, heads = settings.widths(values, "d_model", "nhead", file)
    return TransformerConfig(
        num_layers=settings.count(values, "num_encoder_layers", file),
        num_decoder_layers=settings.count(values, "num_decoder_layers", file),
        num_heads=heads,
        d_model=d_model,
        d_ff=settings.count(values, "dim_feedforward", file),
        dropout=settings.number(values, "dropout", None, file, below=1),
        attention_dropout=(
            settings.number(values, "attention_dropout", None, file, below=1)
            if "attention_dropout" in values
            else None
        ),
        positions=settings.choice(values, "positions", POSITIONS, file),
        activation=settings.choice(values, "activation", _ACTIVATIONS, file),
        norm_first=settings.setting(values, "norm_first", bool, file),
        bias=settings.setting(values, "bias", bool, file),
        tie_embeddings=settings.setting(values, "tie_embeddings", bool, file),
        max_length=(
            settings.count(values, "num_positions", file)
            if values.get("positions") == "learned"
            else None
        ),
        final_norm=settings.setting(values, "final_norm", bool, file),
        norm_eps=settings.number(values, "layer_norm_eps", None, file),
    )
