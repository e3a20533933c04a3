"""Some of the examples, for learning from few: seeded, stratified and nested."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

import numpy as np

from lit_lm.data.store import Int64


def order(strata: Sequence[Hashable], seed: int) -> Int64:
    """An order of examples of which every beginning is a stratified sample: of n examples in N, a stratum of m has about
    n m / N, since the next example is always one of the stratum that is furthest behind that, of equally late ones one at
    random. So subsets are nested, and depend on nothing but the strata and the seed.

    Args:
        strata: what each example is to be represented by, such as its class.
        seed: of the draw.

    Returns:
        int64 (examples): their numbers.
    """
    rng = np.random.default_rng(seed)
    drawn = rng.permutation(len(strata))
    members: dict[Hashable, list[int]] = {}
    for i in drawn.tolist():
        members.setdefault(strata[i], []).append(i)
    groups = [members[name] for name in members]  # in an order that is drawn
    sizes = np.array([len(group) for group in groups], dtype=np.int64)
    behind, taken = (
        np.zeros(len(groups), dtype=np.int64),
        [0] * len(groups),
    )  # in Nths of an example: exact
    out = np.empty(len(strata), dtype=np.int64)
    for n in range(len(strata)):
        behind += sizes
        late = int(behind.argmax())
        behind[late] -= len(strata)
        out[n] = groups[late][taken[late]]
        taken[late] += 1
    return out
