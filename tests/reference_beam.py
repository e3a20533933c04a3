"""Beam search in plain Python: no cache, no tensors, no early stop. What ours is compared with."""

from __future__ import annotations

from collections.abc import Callable


def reference_beam(
    log_probs: Callable[[tuple[int, ...]], list[float]],
    *,
    eos: int,
    size: int,
    limit: int,
    divisor: Callable[[int], float],
) -> list[tuple[list[int], float, bool]]:
    """Up to ``size`` outputs, best first, ended ones before cut ones: ids, score, whether it ended.

    Args:
        log_probs: of the next token after the tokens so far.
        eos: ends an output.
        size: beams.
        limit: most tokens, eos included.
        divisor: the length penalty, of a number of tokens.
    """
    alive: list[tuple[float, tuple[int, ...]]] = [(0.0, ())]
    ended: list[tuple[list[int], float, bool]] = []
    for length in range(1, limit + 1):
        options = [
            (total + gain, (*prefix, token))
            for total, prefix in alive
            for token, gain in enumerate(log_probs(prefix))
        ]
        options.sort(reverse=True)
        for total, ids in options[:size]:
            if ids[-1] == eos:
                ended.append((list(ids[:-1]), total / divisor(length), True))
        alive = [(total, ids) for total, ids in options if ids[-1] != eos][:size]
    cut = [(list(ids), total / divisor(limit), False) for total, ids in alive]
    return sorted([*ended, *cut], key=lambda found: (not found[2], -found[1]))[:size]
