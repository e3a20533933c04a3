"""Decoding: beam search of a translation Transformer, and greedy generation of a GPT, beside the peers.

Every side's number is a sum over its output tokens that another token, or the same at another place, changes.
"""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from pathlib import Path
from typing import Any

import torch
from torch import Tensor

from benchmarks import training
from benchmarks.harness import Entrant, Work
from benchmarks.works import gpt
from lit_lm import Beam, Translation
from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.generation import generate
from lit_lm.models import TransformerConfig
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec

VOCAB, ROWS, LONGEST = 8000, 64, 40
LAYERS, HEADS, WIDTH = 3, 4, 256
BEAM = Beam(5, 0.0)
NEW, PROMPT = 128, 32


def works() -> list[Work]:
    """Beam search, and greedy generation for one prompt, for 16, and in bfloat16."""
    exact = {"transformers": 0.0, "transformers, static cache": 0.0, "ctranslate2": 0.0}
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
        *(
            Work(
                f"generate-{rows}",
                f"{NEW} new tokens for {rows} prompt{'s' * (rows > 1)}, 6 layers of width 384, vocabulary 8,192, fp32",
                _sides(rows, torch.float32),
                bars=dict.fromkeys(list(_sides(rows, torch.float32))[1:], bar),
                unit="output tokens",
                agree=exact,
            )
            for rows, bar in ((1, 1.05), (16, 1.15))
        ),
        *(
            Work(
                f"generate-{rows}-bf16",
                f"the same for {rows} prompt{'s' * (rows > 1)}, weights in bf16",
                _sides(rows, torch.bfloat16),
                bars=dict.fromkeys(list(_sides(rows, torch.bfloat16))[1:], 1.2),
                unit="output tokens",
                dtype=torch.bfloat16,
                missing=training.missing(torch.bfloat16),
            )
            for rows in (1, 16)
        ),
    ]


def _sides(rows: int, dtype: torch.dtype) -> dict[str, Callable[[], Entrant]]:
    sides: dict[str, Callable[..., Entrant]] = {
        "ours": generate_ours,
        "transformers": generate_transformers,
        "transformers, static cache": functools.partial(generate_transformers, cache="static"),
        "litgpt": generate_litgpt,
        "x-transformers": generate_x_transformers,
    }
    if dtype == torch.float32:
        sides["ctranslate2"] = generate_ctranslate2
    return {name: functools.partial(side, rows, dtype) for name, side in sides.items()}


def checksum(rows: list[list[int]]) -> float:
    """A number that another token anywhere changes."""
    total = 0
    for row in rows:
        for token in [*row, -7]:
            total = (total * 1_000_003 + token + 11) % (2**52)
    return float(total)


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


def prompts(rows: int) -> Tensor:
    """int64 (rows, 32), the same for everyone."""
    generator = torch.Generator().manual_seed(1)
    return torch.randint(5, 8192, (rows, PROMPT), generator=generator).to(training.device())


def language_model(dtype: torch.dtype) -> Any:
    """Ours: fresh weights, spread wider so that outputs do not repeat themselves."""
    task = gpt.task(gpt.Sizes())
    with torch.no_grad():
        for parameter in task.parameters():
            if parameter.dim() == 2:
                parameter *= 3
    return task.to(training.device(), dtype).eval()


def generate_ours(rows: int, dtype: torch.dtype) -> Entrant:
    """Ours."""
    net, ids = language_model(dtype).net, prompts(rows)
    lengths = torch.full_like(ids[:, 0], PROMPT)

    @torch.inference_mode()
    def step() -> float:
        start = net.start(ids, lengths, PROMPT + NEW)
        return checksum([h.ids for h in generate(net, *start, max_new_tokens=NEW, eos_id=-1)])

    return Entrant(step, rows * NEW)


def generate_transformers(rows: int, dtype: torch.dtype, cache: str | None = None) -> Entrant:
    """GPT2LMHeadModel with our weights."""
    from transformers import GenerationConfig

    model = _gpt2(dtype)
    ids = prompts(rows)
    model.generation_config = GenerationConfig(
        max_new_tokens=NEW,
        do_sample=False,
        eos_token_id=None,
        pad_token_id=0,
        cache_implementation=cache,
        disable_compile=True,
    )
    mask = torch.ones_like(ids)

    def step() -> float:
        return checksum(model.generate(ids, attention_mask=mask)[:, PROMPT:].tolist())

    return Entrant(step, rows * NEW)


def _gpt2(dtype: torch.dtype) -> Any:
    from transformers import GPT2Config, GPT2LMHeadModel

    sizes = gpt.Sizes()
    model = GPT2LMHeadModel(
        GPT2Config(
            vocab_size=sizes.vocab,
            n_positions=sizes.length,
            n_embd=sizes.width,
            n_layer=sizes.layers,
            n_head=sizes.heads,
            bos_token_id=0,
            eos_token_id=0,
        )
    )
    gpt._copy(language_model(torch.float32).cpu(), model)
    model.tie_weights()
    return model.to(training.device(), dtype).eval()


def generate_litgpt(rows: int, dtype: torch.dtype) -> Entrant:
    """litgpt's own generation with its cache, weights of its own."""
    from litgpt.generate.base import batched_generate_fn
    from litgpt.generate.base import generate as generate_one

    model = gpt.litgpt_model(gpt.Sizes()).to(training.device(), dtype).eval()
    ids = prompts(rows)
    model.max_seq_length = PROMPT + NEW
    model.set_kv_cache(batch_size=rows, device=training.device(), dtype=dtype)

    @torch.inference_mode()
    def step() -> float:
        if rows == 1:
            found = [generate_one(model, ids[0], PROMPT + NEW, temperature=0.0)[PROMPT:].tolist()]
            assert len(found[0]) == NEW
        else:
            parts = list(
                batched_generate_fn(
                    model,
                    ids,
                    PROMPT + NEW,
                    sample_args={"temperature": 0.0},
                    include_prompt=False,
                    include_eos=False,
                )
            )
            assert len(parts) == NEW
        return math.nan

    return Entrant(step, rows * NEW)


def generate_x_transformers(rows: int, dtype: torch.dtype) -> Entrant:
    """x-transformers' own generation with its cache, weights of its own."""
    from x_transformers import AutoregressiveWrapper

    model = AutoregressiveWrapper(gpt.x_transformers_model(gpt.Sizes()))
    model = model.to(training.device(), dtype).eval()
    ids = prompts(rows)

    @torch.inference_mode()
    def step() -> float:
        found = model.generate(ids, NEW, temperature=0.0, cache_kv=True)
        assert found.shape == (rows, NEW)
        return math.nan

    return Entrant(step, rows * NEW)


def generate_ctranslate2(rows: int, dtype: torch.dtype) -> Entrant:
    """CTranslate2's generator with our weights."""
    import ctranslate2
    from ctranslate2.converters.transformers import GPT2Loader

    model = _gpt2(dtype)
    spec = GPT2Loader().get_model_spec(model)
    names = [f"t{i}" for i in range(gpt.Sizes().vocab)]
    spec.register_vocabulary(names)
    spec.config.bos_token, spec.config.eos_token, spec.config.unk_token = (
        names[0],
        names[1],
        names[2],
    )
    spec.validate()
    spec.optimize()
    with tempfile.TemporaryDirectory() as folder:
        spec.save(folder)
        generator = ctranslate2.Generator(
            folder, device="cpu", inter_threads=1, intra_threads=torch.get_num_threads()
        )
    tokens = [[names[i] for i in row] for row in prompts(rows).tolist()]

    def step() -> float:
        found = generator.generate_batch(
            tokens,
            max_length=NEW,
            min_length=NEW,
            sampling_topk=1,
            include_prompt_in_result=False,
            end_token=names[3],
        )
        return checksum([one.sequences_ids[0] for one in found])

    return Entrant(step, rows * NEW)
