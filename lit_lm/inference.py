"""``lit-lm generate``, ``fill-mask`` and ``embed``: text in, text or vectors out, in order, a batch at a time."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator
from itertools import islice
from typing import TypeVar

import numpy as np
import numpy.typing as npt
import torch

from lit_lm.errors import InputError
from lit_lm.generation import Beam, Sampling
from lit_lm.specs import MASK
from lit_lm.streams import decoded, json_line, name_of, opened
from lit_lm.tasks import CausalLM, MaskedLM, Task
from lit_lm.tasks.texts import Embedded
from lit_lm.training import load_task, quieten

_Task = TypeVar("_Task", bound=Task)


def generate(options: Namespace) -> int:
    """Continues each line of the input; see ``lit-lm generate --help``."""
    task = load(options, CausalLM, "generate")
    random = torch.Generator(task.device).manual_seed(options.seed)
    beam = None
    if options.beam is not None:
        alpha = 1.0 if options.length_penalty is None else options.length_penalty
        beam = Beam(options.beam, alpha)
    elif options.length_penalty is not None:
        raise InputError(
            f"--length_penalty={options.length_penalty} is a beam's: give --beam too, or drop it"
        )
    if beam is not None and options.temperature > 0:
        raise InputError(
            f"--beam={options.beam} searches and --temperature={options.temperature} draws: drop one of them"
        )
    for lines in batches(options.file, options.batch_size):
        found = task.generate(
            lines,
            max_new_tokens=options.max_new_tokens,
            sampling=sampling_of(options),
            generator=random,
            beam=beam,
        )
        for completion in found:
            print(
                json_line(completion._asdict()) if options.json else completion.text,
                flush=True,
            )
    return 0


def fill_mask(options: Namespace) -> int:
    """Fills the gaps of each line of the input; see ``lit-lm fill-mask --help``."""
    if options.top_k < 1:
        raise InputError(f"top_k={options.top_k} must be at least 1")
    task = load(options, MaskedLM, "fill-mask")
    number = 0
    for lines in batches(options.file, options.batch_size):
        for line, filled in zip(lines, task.fill_mask(lines, options.top_k), strict=True):
            number += 1
            if MASK not in line:
                raise InputError(f"line {number} has no {MASK} in it: {line[:60]!r}")
            fills = [[fill._asdict() for fill in gap] for gap in filled.fills]
            found = {"text": line, "output": filled.output, "fills": fills}
            print(json_line(found) if options.json else filled.output, flush=True)
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
    task = load(options, Task, "embed")
    pooled = []
    for found in embedded(task, options.file, options.batch_size):
        if options.output is not None:
            pooled.append(mean(found))
        elif options.pooling == "mean":
            print(json_line({"text": found.text, "vector": mean(found).tolist()}))
        else:
            vectors = found.vectors.float().cpu().tolist()
            print(json_line({"text": found.text, "tokens": found.tokens, "vectors": vectors}))
    if options.output is not None:
        array = np.stack(pooled) if pooled else np.zeros((0, task.net.dim), dtype=np.float32)
        try:
            np.save(options.output, array, allow_pickle=False)
        except OSError as error:
            raise InputError(f"cannot write {options.output}: {error.strerror}") from error
        print(f"{options.output}: {array.shape[0]} vectors of {array.shape[1]} float32 each")
    return 0


def load(options: Namespace, kind: type[_Task] | tuple[type[_Task], ...], verb: str) -> _Task:
    """The task of a checkpoint, on the device that was asked for.

    Raises:
        InputError: the checkpoint's task is of another kind, or of none of several.
    """
    quieten()
    task = load_task(options.checkpoint)
    if not isinstance(task, kind):
        kinds = kind if isinstance(kind, tuple) else (kind,)
        raise InputError(
            f"{options.checkpoint} holds {type(task).__name__}; lit-lm {verb} needs "
            f"{' or '.join(k.__name__ for k in kinds)}"
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


def embedded(task: Task, file: str, batch_size: int) -> Iterator[Embedded]:
    """Vectors of the lines of an input, in order."""
    first = 1
    for lines in batches(file, batch_size):
        yield from task.embed(lines, first)
        first += len(lines)


def mean(found: Embedded) -> npt.NDArray[np.float32]:
    """The mean of a text's vectors, float32 (dim). Of no vectors it is zero: an empty line stays a line."""
    vectors = found.vectors.float().cpu()
    pooled = vectors.mean(0) if found.tokens else torch.zeros(vectors.size(1))
    out: npt.NDArray[np.float32] = pooled.numpy()
    return out


def sampling_of(options: Namespace) -> Sampling:
    """How tokens are drawn.

    Raises:
        InputError: there is something to be drawn from, and nothing is drawn.
    """
    for name, otherwise in (("top_k", 0), ("top_p", 1.0)):
        if options.temperature == 0 and getattr(options, name) != otherwise:
            raise InputError(
                f"--{name}={getattr(options, name)} says what is drawn from, and nothing is drawn: give a --temperature "
                "above 0, or drop it"
            )
    return Sampling(options.temperature, options.top_k, options.top_p)


def batches(file: str, size: int) -> Iterator[list[str]]:
    """Lines of an input, without their ends, some at a time."""
    name = name_of(file)
    with opened(file) as stream:
        lines = (decoded(line, name, number) for number, line in enumerate(stream, 1))
        while batch := list(islice(lines, size)):
            yield batch
