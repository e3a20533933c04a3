"""The encoder-decoder for CTranslate2 (https://github.com/OpenNMT/CTranslate2), which decodes fast on a CPU.

The folder is a model directory: ``ctranslate2.Translator(folder)`` loads it. Its vocabulary lists the
tokenizer's tokens by id, so a source is ``[vocabulary[i] for i in tokenizer.encode(text)]``: the model adds eos.

To decode as ours does give ``translate_batch`` ``min_decoding_length=0`` (its default forbids empty outputs) and a
``patience`` above 1 (its default stops at the first ``beam_size`` outputs that end). Its ``length_penalty`` is our "plain".
"""

from __future__ import annotations

from importlib import import_module
from pathlib import Path
from typing import Any

import torch
from torch import Tensor, nn

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop import settings, torch_transformer
from lit_lm.tasks import Task

_ACTIVATIONS = {"relu": "RELU", "gelu": "GELU", "gelu_tanh": "GELUTanh"}
# Positions are written as a table, also where there is no bound: CTranslate2 cuts sources at 1,024 tokens.
_LEAST_POSITIONS = 1024


def write(task: Task, folder: Path) -> None:
    """Writes a translation task's Transformer, in single precision.

    Raises:
        InputError: CTranslate2 is not installed, or cannot express the network; nothing is written.
    """
    config, spec = torch_transformer.architecture(task)
    net: Any = task.net
    settings.require(config, "CTranslate2", positions=torch_transformer.POSITIONS)
    tokenizer = task.require_tokenizer()
    tokens = vocabulary(tokenizer)
    try:
        specs: Any = import_module("ctranslate2.specs")
    except ImportError as error:
        raise InputError(
            "the layout ctranslate2 needs a library that is missing: pip install lit_lm[serve]"
        ) from error
    model = specs.TransformerSpec.from_config(
        (config.num_layers, config.num_decoder_layers),
        config.num_heads,
        # Norms behind the stacks are declared for pre-norm only, and used wherever they are found.
        pre_norm=True,
        no_final_norm=not config.final_norm,
        activation=specs.common_spec.Activation[_ACTIVATIONS[config.activation]],
    )
    model.encoder.pre_norm = model.decoder.pre_norm = config.norm_first
    most = int(task.hparams["length_factor"] * spec.max_length) + task.hparams["length_extra"]
    room = config.max_length or max(_LEAST_POSITIONS, spec.max_length, most)
    _table(model.encoder.embeddings[0], net.src_embedding)
    _table(model.decoder.embeddings, net.tgt_embedding)
    for side, positions in ((model.encoder, net.src_positions), (model.decoder, net.tgt_positions)):
        side.position_encodings.encodings = _vectors(positions, room)
    _stack(model.encoder, net.encoder)
    _stack(model.decoder, net.decoder)
    _linear([net.head], model.decoder.projection)
    own = model.config
    own.bos_token = own.decoder_start_token = tokens[tokenizer.bos_id]
    own.eos_token, own.unk_token = tokens[tokenizer.eos_id], tokens[tokenizer.unk_id]
    own.add_source_eos = True
    own.layer_norm_epsilon = config.norm_eps
    model.register_source_vocabulary(tokens)
    model.register_target_vocabulary(tokens)
    model.validate()
    model.optimize()
    folder.mkdir(parents=True, exist_ok=True)
    model.save(str(folder))


def vocabulary(tokenizer: Tokenizer) -> list[str]:
    """A name for each id, all different: the tokenizer's own, and "<id 7>" where it has none.

    Raises:
        InputError: two ids have the same name.
    """
    names = [tokenizer.token(i) or f"<id {i}>" for i in range(tokenizer.vocab_size)]
    first: dict[str, int] = {}
    for i, name in enumerate(names):
        if first.setdefault(name, i) != i:
            raise InputError(
                f"ids {first[name]} and {i} of the tokenizer are both named {name!r}: CTranslate2 tells "
                "tokens apart by their names"
            )
    return names


def _stack(spec: Any, stack: Any) -> None:
    for layer, block in zip(spec.layer, stack.blocks, strict=True):
        _attention(layer.self_attention, block.attention, block.norm_attention, cross=False)
        if block.cross_attention is not None:
            _attention(layer.attention, block.cross_attention, block.norm_cross, cross=True)
        _norm(layer.ffn.layer_norm, block.norm_feed_forward)
        _linear([block.feed_forward.up], layer.ffn.linear_0)
        _linear([block.feed_forward.down], layer.ffn.linear_1)
    if isinstance(stack.norm, nn.LayerNorm):
        _norm(spec.layer_norm, stack.norm)


def _attention(spec: Any, attention: Any, norm: Any, *, cross: bool) -> None:
    """Self-attention projects its input three times at once; cross-attention the memory twice."""
    parts = [attention.q, attention.k, attention.v]
    groups = [parts[:1], parts[1:]] if cross else [parts]
    for group, linear in zip([*groups, [attention.out]], spec.linear, strict=True):
        _linear(group, linear)
    _norm(spec.layer_norm, norm)


def _linear(layers: list[Any], spec: Any) -> None:
    spec.weight = _array(torch.cat([layer.weight for layer in layers]))
    if layers[0].bias is not None:
        spec.bias = _array(torch.cat([layer.bias for layer in layers]))


def _norm(spec: Any, norm: Any) -> None:
    spec.gamma, spec.beta = _array(norm.weight), _array(norm.bias)


def _table(spec: Any, embedding: nn.Embedding) -> None:
    spec.weight = _array(embedding.weight)


def _vectors(positions: Any, room: int) -> Any:
    """What is added at each of the first ``room`` positions, float32 (room, D)."""
    device = next(positions.parameters(), torch.empty(0)).device
    return _array(positions(torch.zeros(1, room, positions.dim, device=device))[0])


def _array(tensor: Tensor) -> Any:
    return tensor.detach().float().cpu().contiguous().numpy()
