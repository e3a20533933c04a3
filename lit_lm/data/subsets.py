"""Some of the examples, for learning from few: seeded, stratified and nested."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from lit_lm.data.store import Int64


def order(strata: Sequence[Hashable], seed: int) -> Int64:
    """An order of examples of which every beginning is a stratified sample: of n examples in N, a stratum of m has n m / N,
    rounded up or down. So subsets are nested, and depend on nothing but the strata and the seed.

    Args:
        strata: what each example is to be represented by, such as its class.
        seed: of the draw.

    Returns:
        int64 (examples): their numbers.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(strata))
    sizes: dict[Hashable, int] = {}
    ranks = np.empty(len(strata))
    for i in drawn.tolist():
        ranks[i] = sizes.get(strata[i], 0)
        sizes[strata[i]] = int(ranks[i]) + 1
    # A stratum's members lie evenly over [0, 1), from a begin of its own that is drawn: also one with a single member
    # may come first.
    begins = dict(zip(sizes, rng.random(len(sizes)).tolist(), strict=True))
    at = [(ranks[i] + begins[s]) / sizes[s] for i, s in enumerate(strata)]
    return np.asarray(drawn[np.argsort(np.asarray(at)[drawn], kind="stable")], dtype=np.int64)
