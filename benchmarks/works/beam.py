"""Beam search of a translation Transformer, beside transformers and CTranslate2."""

from __future__ import annotations

import functools
import tempfile
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import training
from benchmarks.harness import Entrant, Work, checksum
from lit_lm import Beam, Translation
from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.models import TransformerConfig
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec

VOCAB, ROWS, LONGEST = 8000, 64, 40
LAYERS, HEADS, WIDTH = 3, 4, 256
BEAM = Beam(5, 0.0)


def works() -> list[Work]:
    """Beam search of five."""
    return [
        Work(
            "beam",
            f"Beam search of 5, 3 + 3 layers of width 256, vocabulary 8,000, {ROWS} sources of 5 to {LONGEST} tokens, "
            "fp32; ours stops when the best output is settled",
            {
                "ours": beam_ours,
                "transformers": functools.partial(beam_transformers, early_stopping=False),
                "transformers, stops at 5 outputs": functools.partial(
                    beam_transformers, early_stopping=True
                ),
                "ctranslate2": beam_ctranslate2,
            },
            bars={
                "transformers": 3.0,
                "transformers, stops at 5 outputs": 3.0,
                "ctranslate2": 1.0,
            },
            unit="output tokens",
            agree={"transformers": 0.0},
        ),
    ]


def pairs(rows: int, seed: int) -> tuple[Tensor, Tensor, Tensor]:
    """Sources of 5 to 40 tokens that end in eos, their mask, and decoder inputs with the last label behind them.

    All words of a source say how long it is, and its target is as long: for each place one of four words, of which
    the first is usual. So a minute of training makes outputs that end where they should.
    """
    generator = torch.Generator().manual_seed(seed)
    lengths = torch.linspace(5, LONGEST, rows).long()[torch.randperm(rows, generator=generator)]
    at = torch.arange(LONGEST)
    mask, ends = at < lengths[:, None], at == lengths[:, None] - 1
    spec = DataSpec()
    words = 5 + 8 * lengths[:, None] + torch.randint(8, mask.shape, generator=generator)
    odd = torch.rand(mask.shape, generator=generator) < 0.15
    which = torch.where(odd, torch.randint(1, 4, mask.shape, generator=generator), 0)
    outputs = 1000 + 4 * at + which
    src = words.masked_fill(ends, spec.eos_id).masked_fill(~mask, spec.pad_id)
    tgt = outputs.masked_fill(ends, spec.eos_id).masked_fill(~mask, -100)
    return src, mask, torch.cat((torch.full_like(tgt[:, :1], spec.bos_id), tgt), dim=1)


@functools.cache
def translator() -> Translation:
    """Ours, trained for a minute."""
    torch.manual_seed(0)
    config = TransformerConfig(
        num_layers=LAYERS, num_heads=HEADS, d_model=WIDTH, d_ff=1024, dropout=0.0
    )
    task = Translation(config, DataSpec(vocab_size=VOCAB, max_length=64), OptimConfig(), beam=BEAM)
    net: Any = task.net.to(training.device())
    optimizer = torch.optim.AdamW(net.parameters(), lr=1e-3, betas=(0.9, 0.98))
    steps = 150
    for step in range(steps):
        for group in optimizer.param_groups:
            group["lr"] = 1e-3 * min((step + 1) / 40, 1, 2 * (1 - step / steps))
        src, mask, tgt = (part.to(training.device()) for part in pairs(16, 1 + step))
        h = net(src, mask, tgt[:, :-1].clamp(min=0))
        real = tgt[:, 1:] >= 0
        loss = torch.nn.functional.cross_entropy(net.head(h[real]), tgt[:, 1:][real])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return task.eval()


def _limit() -> int:
    """Every source's limit is the same, as transformers has it: the longest one's."""
    return 2 * LONGEST + 10


@functools.cache
def outputs() -> float:
    """Output tokens of the batch, ends included."""
    src, mask, _ = pairs(ROWS, 0)
    found = translator().decode(src.to(training.device()), mask.to(training.device()), count=1)
    return float(sum(len(h[0].ids) + h[0].finished for h in found))


def beam_ours() -> Entrant:
    """Ours."""
    task = translator()
    src, mask, _ = (part.to(training.device()) for part in pairs(ROWS, 0))
    return Entrant(
        lambda: checksum([found[0].ids for found in task.decode(src, mask, count=1)]), outputs()
    )


def beam_transformers(early_stopping: bool) -> Entrant:
    """MarianMTModel with our weights, the whole batch at once."""
    from transformers import GenerationConfig

    model = marian(translator())
    spec = DataSpec()
    config = GenerationConfig(
        num_beams=BEAM.size,
        length_penalty=BEAM.length_penalty,
        early_stopping=early_stopping,
        max_new_tokens=_limit(),
        do_sample=False,
        pad_token_id=spec.pad_id,
        eos_token_id=spec.eos_id,
        decoder_start_token_id=spec.bos_id,
    )
    model.generation_config = config
    src, mask, _ = (part.to(training.device()) for part in pairs(ROWS, 0))

    def step() -> float:
        found = model.generate(src, attention_mask=mask.long())[:, 1:].tolist()
        ends = [row.index(spec.eos_id) if spec.eos_id in row else len(row) for row in found]
        return checksum([row[:end] for row, end in zip(found, ends, strict=True)])

    return Entrant(step, outputs())


def marian(task: Translation) -> Any:
    """transformers' MarianMTModel with the weights of ours: post-norm, scaled tied embeddings, no bias at the end."""
    from transformers import MarianConfig, MarianMTModel

    spec, net = DataSpec(), task.net
    model: Any = MarianMTModel(
        MarianConfig(
            vocab_size=VOCAB,
            d_model=WIDTH,
            encoder_layers=LAYERS,
            decoder_layers=LAYERS,
            encoder_attention_heads=HEADS,
            decoder_attention_heads=HEADS,
            encoder_ffn_dim=1024,
            decoder_ffn_dim=1024,
            max_position_embeddings=512,
            activation_function="relu",
            scale_embedding=True,
            dropout=0.0,
            pad_token_id=spec.pad_id,
            eos_token_id=spec.eos_id,
            decoder_start_token_id=spec.bos_id,
            forced_eos_token_id=None,
        )
    ).to(training.device())
    ours = net.state_dict()
    state = {"model.shared.weight": ours["src_embedding.weight"]}
    names = {
        "attention": "self_attn",
        "norm_attention": "self_attn_layer_norm",
        "cross_attention": "encoder_attn",
        "norm_cross": "encoder_attn_layer_norm",
        "feed_forward.up": "fc1",
        "feed_forward.down": "fc2",
        "norm_feed_forward": "final_layer_norm",
    }
    places = {"q": "q_proj", "k": "k_proj", "v": "v_proj", "out": "out_proj"}
    for key, value in ours.items():
        if ".blocks." in key:
            side, _, layer, rest = key.split(".", 3)
            module, _, kind = rest.rpartition(".")
            part, dot, place = module.rpartition(".")
            if place in places:
                module = f"{names[part]}{dot}{places[place]}"
            else:
                module = names[module]
            state[f"model.{side}.layers.{layer}.{module}.{kind}"] = value
    positions = net.tgt_positions(torch.zeros(1, 512, WIDTH, device=training.device()))[0]
    for side in ("encoder", "decoder"):
        state[f"model.{side}.embed_positions.weight"] = positions
        state[f"model.{side}.embed_tokens.weight"] = state["model.shared.weight"]
    state["lm_head.weight"] = state["model.shared.weight"]
    state["final_logits_bias"] = torch.zeros(1, VOCAB)
    model.load_state_dict(state)
    return model.eval()


def beam_ctranslate2() -> Entrant:
    """CTranslate2 with our export, as many threads as torch has."""
    import ctranslate2

    from lit_lm import interop
    from lit_lm.interop.ctranslate2 import vocabulary

    task = translator()
    text = " ".join(f"w{i}" for i in range(VOCAB - 5))
    task.tokenizer = Tokenizer.train(TokenizerConfig("word", VOCAB), [text])
    names = vocabulary(task.tokenizer)
    assert len(names) == VOCAB
    with tempfile.TemporaryDirectory() as folder:
        interop.write(task, Path(folder), "ctranslate2")
        model = ctranslate2.Translator(
            folder, device="cpu", inter_threads=1, intra_threads=torch.get_num_threads()
        )
    src, mask, _ = pairs(ROWS, 0)
    sources = [
        [names[i] for i in row[: n - 1]]
        for row, n in zip(src.tolist(), mask.sum(1).tolist(), strict=True)
    ]
    ids = {name: i for i, name in enumerate(names)}

    def step() -> float:
        found = model.translate_batch(
            sources,
            beam_size=BEAM.size,
            length_penalty=BEAM.length_penalty,
            min_decoding_length=0,
            max_decoding_length=_limit(),
        )
        return checksum([[ids[token] for token in one.hypotheses[0]] for one in found])

    return Entrant(step, outputs())
