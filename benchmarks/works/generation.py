"""Greedy generation of a GPT, beside the peers."""

from __future__ import annotations

import functools
import math
import tempfile
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor

from benchmarks import training
from benchmarks.harness import Entrant, Work, checksum
from benchmarks.works import gpt
from lit_lm.generation import generate

NEW, PROMPT = 128, 32


def works() -> list[Work]:
    """For one prompt, for 16, and in bfloat16."""
    exact = {"transformers": 0.0, "transformers, static cache": 0.0, "ctranslate2": 0.0}
    return [
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
    model = gpt.gpt2_model(gpt.Sizes(), language_model(torch.float32).cpu())
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
