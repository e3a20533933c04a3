"""``lit-lm embed --search``: the lines of a file that are most like each query, by their mean vectors."""

from __future__ import annotations

from argparse import Namespace

import numpy as np
import numpy.typing as npt

from lit_lm.errors import InputError
from lit_lm.inference import batches, embedded, load, mean
from lit_lm.streams import json_line, one_line
from lit_lm.tasks import Task

Vectors = npt.NDArray[np.float32]


def search(options: Namespace) -> int:
    """The lines nearest to each query; see ``lit-lm embed --help``."""
    if options.output is not None or options.pooling != "mean":
        raise InputError(
            "--search prints lines, which it finds by their mean vectors: drop --output and --pooling, "
            "or call lit-lm embed twice"
        )
    if options.file == "-" == options.search:
        raise InputError("standard input cannot be both the lines and the queries: name one file")
    task = load(options, Task, "embed")
    found = [(e.text, mean(e)) for e in embedded(task, options.file, options.batch_size)]
    if not found:
        raise InputError(f"{options.file} has no line to be found")
    texts = [text for text, _ in found]
    vectors = directions(np.stack([vector for _, vector in found]))
    number = 0
    for queries in batches(options.search, options.batch_size):
        wanted = directions(np.stack([mean(e) for e in task.embed(queries, number + 1)]))
        for query, similarities in zip(queries, wanted @ vectors.T, strict=True):
            number += 1
            its = [(i, float(similarities[i])) for i in best(similarities, options.top_k)]
            if options.json:
                lines = [{"line": i + 1, "similarity": s, "text": texts[i]} for i, s in its]
                print(json_line({"text": query, "found": lines}), flush=True)
                continue
            for rank, (i, similarity) in enumerate(its, 1):
                print(f"{number}\t{rank}\t{similarity:.4f}\t{one_line(texts[i])}", flush=True)
    return 0


def directions(vectors_ND: Vectors) -> Vectors:
    """Vectors of length 1, whose products are the cosines of their angles; zero stays zero."""
    lengths = np.linalg.norm(vectors_ND, axis=1, keepdims=True)
    out: Vectors = vectors_ND / np.maximum(lengths, np.finfo(np.float32).tiny)
    return out


def best(similarities: Vectors, count: int) -> list[int]:
    """Places of the largest numbers, the largest first, and of equal ones the first first."""
    count = min(count, len(similarities))
    least = np.partition(similarities, -count)[-count]
    among = np.flatnonzero(similarities >= least)
    order = np.argsort(-similarities[among], kind="stable")
    return [int(i) for i in among[order[:count]]]
