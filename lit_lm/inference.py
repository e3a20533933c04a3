"""The verbs that use a checkpoint: text in, text out, in order, a batch at a time."""

from __future__ import annotations

import contextlib
import json
import sys
from argparse import Namespace
from collections.abc import Iterator
from dataclasses import replace
from itertools import islice
from typing import BinaryIO, TypeVar

import numpy as np
import torch

from lit_lm.errors import InputError
from lit_lm.generation import Sampling
from lit_lm.specs import MASK
from lit_lm.tasks import CausalLM, MaskedLM, Task, Translation
from lit_lm.training import load_task, quieten

_Task = TypeVar("_Task", bound=Task)


def generate(options: Namespace) -> int:
    """Continues each line of the input; see ``lit-lm generate --help``."""
    task = _load(options, CausalLM, "generate")
    random = torch.Generator(task.device).manual_seed(options.seed)
    for lines in _batches(options):
        found = task.generate(
            lines,
            max_new_tokens=options.max_new_tokens,
            sampling=_sampling(options),
            generator=random,
        )
        for completion in found:
            print(
                json.dumps(completion._asdict(), ensure_ascii=False)
                if options.json
                else completion.text,
                flush=True,
            )
    return 0


def translate(options: Namespace) -> int:
    """Translates each line of the input; see ``lit-lm translate --help``."""
    task = _load(options, Translation, "translate")
    random = torch.Generator(task.device).manual_seed(options.seed)
    beam = task.beam
    if options.beam is not None:
        beam = replace(beam, size=options.beam)
    if options.length_penalty is not None:
        beam = replace(beam, length_penalty=options.length_penalty)
    sampling = _sampling(options) if options.temperature > 0 else None
    for lines in _batches(options):
        for line, found in zip(
            lines,
            task.translate(lines, beam=beam, sampling=sampling, generator=random),
            strict=True,
        ):
            text = " ".join(task.text(found[0]).split("\n"))
            print(
                json.dumps({"source": line, "output": text}, ensure_ascii=False)
                if options.json
                else text,
                flush=True,
            )
    return 0


def fill_mask(options: Namespace) -> int:
    """Fills the gaps of each line of the input; see ``lit-lm fill-mask --help``."""
    if options.top_k < 1:
        raise InputError(f"top_k={options.top_k} must be at least 1")
    task = _load(options, MaskedLM, "fill-mask")
    number = 0
    for lines in _batches(options):
        for line, filled in zip(lines, task.fill_mask(lines, options.top_k), strict=True):
            number += 1
            if MASK not in line:
                raise InputError(f"line {number} has no {MASK} in it: {line[:60]!r}")
            fills = [[fill._asdict() for fill in gap] for gap in filled.fills]
            found = {"text": line, "output": filled.output, "fills": fills}
            print(
                json.dumps(found, ensure_ascii=False) if options.json else filled.output, flush=True
            )
    return 0


def embed(options: Namespace) -> int:
    """Vectors of each line of the input; see ``lit-lm embed --help``."""
    if options.output is not None and (
        options.pooling != "mean" or not options.output.endswith(".npy")
    ):
        raise InputError(
            f"--output {options.output}: an array holds one vector a line: name a .npy file and pool by "
            "mean (vectors of tokens are printed as JSON lines)"
        )
    task = _load(options, Task, "embed")  # type: ignore[type-abstract]
    pooled = []
    for lines in _batches(options):
        for text, tokens, vectors in task.embed(lines):
            vectors = vectors.float().cpu()
            # The mean of no vectors is zero: an empty line stays a line.
            mean = vectors.mean(0) if tokens else torch.zeros(vectors.size(1))
            if options.output is not None:
                pooled.append(mean.numpy())
            elif options.pooling == "mean":
                print(json.dumps({"text": text, "vector": mean.tolist()}, ensure_ascii=False))
            else:
                found = {"text": text, "tokens": tokens, "vectors": vectors.tolist()}
                print(json.dumps(found, ensure_ascii=False))
    if options.output is not None:
        array = np.stack(pooled) if pooled else np.zeros((0, task.net.dim), dtype=np.float32)
        try:
            np.save(options.output, array, allow_pickle=False)
        except OSError as error:
            raise InputError(f"cannot write {options.output}: {error.strerror}") from error
        print(f"{options.output}: {array.shape[0]} vectors of {array.shape[1]} float32 each")
    return 0


def _load(options: Namespace, kind: type[_Task], verb: str) -> _Task:
    quieten()
    task = load_task(options.checkpoint)
    if not isinstance(task, kind):
        raise InputError(
            f"{options.checkpoint} holds {type(task).__name__}; lit-lm {verb} needs {kind.__name__}"
        )
    device = options.device
    if device == "auto":
        device = (
            "cuda"
            if torch.cuda.is_available()
            else "mps"
            if torch.backends.mps.is_available()
            else "cpu"
        )
    return task.to(device)


def _sampling(options: Namespace) -> Sampling:
    return Sampling(options.temperature, options.top_k, options.top_p)


def _batches(options: Namespace) -> Iterator[list[str]]:
    """Lines of the input, without their ends, some at a time."""
    with contextlib.ExitStack() as stack:
        stream: BinaryIO = sys.stdin.buffer
        if options.file != "-":
            try:
                stream = stack.enter_context(open(options.file, "rb"))
            except OSError as error:
                raise InputError(f"cannot read {options.file!r}: {error.strerror}") from error
        lines = _decoded(stream, "standard input" if options.file == "-" else options.file)
        while batch := list(islice(lines, options.batch_size)):
            yield batch


def _decoded(stream: BinaryIO, name: str) -> Iterator[str]:
    for number, raw in enumerate(stream, 1):
        try:
            yield raw.decode("utf-8").removesuffix("\n").removesuffix("\r")
        except UnicodeDecodeError as error:
            raise InputError(
                f"{name}, line {number}: byte {error.start + 1} (0x{raw[error.start]:02x}) is not UTF-8: "
                "convert the file, for example with iconv -t utf-8"
            ) from error
