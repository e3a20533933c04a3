"""Greedy decoding, sampling and beam search over one protocol. Knows no architecture and no tokenizer.

Shape letters: B rows, N rows still decoding, K beams, V vocabulary.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Literal, Protocol

import torch
from torch import Tensor

from lit_lm.errors import InputError, check_counts, check_reals

_BLOCK = 32
"""Tokens of a block in the search for the best ones: a maximum of many is quicker found than the best few of many."""

Randomness = torch.Generator | Sequence[torch.Generator] | None


class Decoder(Protocol):
    """What a network offers to be decoded.

    The state is the network's own affair, and is used up by each call: what comes back takes its place.
    """

    def step(self, ids: Tensor, state: Any, parents_BK: Tensor | None = None) -> tuple[Tensor, Any]:
        """Feeds one token a row, or one for each of a row's beams.

        Args:
            ids: int64 (B,), or (B, K) with ``parents_BK``.
            state: the state.
            parents_BK: int64, the beam of the step before (0 .. its K - 1) that each beam goes on from. Behind a
                prompt or a source there is one.

        Returns:
            logits of the next tokens, float (*ids.shape, V), which the caller may write over, and the new state.
        """

    def keep(self, state: Any, rows: Sequence[int]) -> Any:
        """The state of these rows, each with all its beams, in this order; no row is taken twice."""


@dataclass(frozen=True)
class Sampling:
    """How the next token is drawn.

    Args:
        temperature: divides the logits; 0 takes the most likely token (greedy).
        top_k: draw from the k most likely tokens only; 0 for all.
        top_p: draw from the smallest set of most likely tokens that holds this much probability
            (Holtzman et al. 2020, https://arxiv.org/abs/1904.09751).
    """

    temperature: float = 0.0
    top_k: int = 0
    top_p: float = 1.0

    def __post_init__(self) -> None:
        if self.temperature < 0:
            raise InputError(
                f"temperature={self.temperature} is negative: use 0 for greedy, or more"
            )
        if self.top_k < 0:
            raise InputError(f"top_k={self.top_k} is negative: use 0 for the whole vocabulary")
        if not 0 < self.top_p <= 1:
            raise InputError(f"top_p={self.top_p} must be above 0 and at most 1")

    def pick(self, logits_NV: Tensor, generator: Randomness = None) -> Tensor:
        """Draws one token a row, int64 (N,)."""
        if self.temperature == 0:
            return logits_NV.argmax(-1)
        probs_NV = self.probabilities(logits_NV)
        if not isinstance(generator, Sequence):
            return torch.multinomial(probs_NV, 1, generator=generator).squeeze(1)
        rows = zip(probs_NV, generator, strict=True)
        return torch.cat([torch.multinomial(row, 1, generator=own) for row, own in rows])

    def probabilities(self, logits_NV: Tensor) -> Tensor:
        """The distribution that is drawn from, float32 (N, V)."""
        logits_NV = logits_NV.float() / self.temperature
        if 0 < self.top_k < logits_NV.size(-1):
            kth = logits_NV.topk(self.top_k, dim=-1).values[:, -1:]
            logits_NV = logits_NV.masked_fill(logits_NV < kth, float("-inf"))
        probs_NV = logits_NV.softmax(-1)
        if self.top_p < 1:
            ordered, order = probs_NV.sort(dim=-1, descending=True)
            before = ordered.cumsum(-1) - ordered
            drop = torch.zeros_like(before, dtype=torch.bool).scatter(
                1, order, before >= self.top_p
            )
            probs_NV = probs_NV.masked_fill(drop, 0.0)
            probs_NV = probs_NV / probs_NV.sum(-1, keepdim=True)
        return probs_NV


@dataclass(frozen=True)
class Hypothesis:
    """One output.

    Args:
        ids: tokens, without eos.
        score: log-probability in nats, eos included; in beam search divided by the length penalty.
        finished: whether it ended in eos; False when the length limit cut it.
    """

    ids: list[int]
    score: float
    finished: bool


@torch.inference_mode()
def generate(
    decoder: Decoder,
    logits_BV: Tensor,
    state: Any,
    *,
    max_new_tokens: int | Sequence[int],
    eos_id: int,
    sampling: Sampling | None = None,
    generator: Randomness = None,
    num_ids: int | None = None,
) -> list[Hypothesis]:
    """Continues rows token by token; a row that has ended leaves the batch.

    Args:
        decoder: the network.
        logits_BV: logits of the first new token, from the network's ``start``.
        state: its state.
        max_new_tokens: most tokens to add, eos included: one number, or one for each row.
        eos_id: ends a row.
        sampling: how tokens are drawn; greedy when None.
        generator: the source of randomness, or one for each row, whose draws then do not depend on the rows beside
            it; torch's own when None.
        num_ids: only ids below this are drawn; None for all that the network has logits of.

    Returns:
        One output a row; its score is the network's own log-probability, whatever it was drawn from.
    """
    sampling = sampling or Sampling()
    limits = _limits(max_new_tokens, len(logits_BV))
    out: list[list[int]] = [[] for _ in limits]
    scores = [0.0] * len(limits)
    finished = [False] * len(limits)
    rows = list(range(len(limits)))  # the input row of each row still open
    totals_N = torch.zeros(len(rows), device=logits_BV.device)
    for length in range(1, max(limits) + 1):
        if num_ids is not None:
            logits_BV = logits_BV[:, :num_ids]
        ids_N = sampling.pick(logits_BV, generator)
        log_probs = logits_BV.float().log_softmax(-1)
        totals_N = totals_N + log_probs.gather(1, ids_N.unsqueeze(1)).squeeze(1)
        leaving = []
        for n, token in enumerate(ids_N.tolist()):
            row = rows[n]
            if token == eos_id:
                finished[row] = True
            else:
                out[row].append(token)
            if token == eos_id or limits[row] == length:
                leaving.append(n)
        if leaving:
            totals = totals_N.tolist()
            for n in leaving:
                scores[rows[n]] = totals[n]
            stay = _close_up(len(rows), leaving)
            if not stay:
                break
            if isinstance(generator, Sequence):
                generator = [generator[n] for n in stay]
            index_N = torch.tensor(stay, device=ids_N.device)
            rows, ids_N, totals_N = [rows[n] for n in stay], ids_N[index_N], totals_N[index_N]
            state = decoder.keep(state, stay)
        logits_BV, state = decoder.step(ids_N, state)
    return [Hypothesis(*row) for row in zip(out, scores, finished, strict=True)]


@dataclass(frozen=True)
class Beam:
    """Settings of beam search.

    Args:
        size: hypotheses kept for each row.
        length_penalty: exponent alpha; 0 compares plain log-probabilities, which favours short output.
        penalty: "gnmt" divides by ((5 + length) / 6)^alpha (Wu et al. 2016, https://arxiv.org/abs/1609.08144,
            section 7), "plain" by length^alpha. The length counts eos.
    """

    size: int = 5
    length_penalty: float = 1.0
    penalty: Literal["gnmt", "plain"] = "plain"

    def __post_init__(self) -> None:
        check_counts(self, "size", most=10_000)
        check_reals(self, "length_penalty", most=100)

    def divisor(self, length: int) -> float:
        """What a log-probability of ``length`` tokens is divided by."""
        base = (5 + length) / 6 if self.penalty == "gnmt" else length
        return float(base**self.length_penalty)


@torch.inference_mode()
def beam_search(
    decoder: Decoder,
    logits_BV: Tensor,
    state: Any,
    *,
    max_new_tokens: int | Sequence[int],
    eos_id: int,
    beam: Beam,
    count: int | None = None,
    num_ids: int | None = None,
) -> list[list[Hypothesis]]:
    """Beam search; a row whose best hypotheses can no longer be beaten leaves the batch.

    At each step those of the ``size`` best continuations that end are set aside, and the ``size`` best
    that do not end go on. A row is done when no open hypothesis could still enter its ``count``
    best ended ones, whatever it went on with.

    Args:
        decoder: the network.
        logits_BV: logits of the first new token, from the network's ``start``.
        state: its state.
        max_new_tokens: most tokens of a hypothesis, eos included: one number, or one for each row.
        eos_id: ends a hypothesis.
        beam: the search's settings.
        count: how many hypotheses are wanted; ``size`` when None. The first ones are the same, whatever is wanted.
        num_ids: only ids below this are taken; None for all that the network has logits of.

    Returns:
        For each row up to ``count`` hypotheses, best first; ended ones before cut ones.
    """
    count = beam.size if count is None else count
    limits = _limits(max_new_tokens, len(logits_BV))
    searches = [_Search(beam, limit, count) for limit in limits]
    rows = searches
    # A row starts as one beam.
    logits_NKV = logits_BV.unsqueeze(1)
    scores_NK = torch.zeros(logits_NKV.shape[:2], device=logits_BV.device)
    for _ in range(max(limits)):
        logits_NKV = logits_NKV[..., :num_ids].contiguous()
        scores, origins, ids = _continuations(logits_NKV, scores_NK, 2 * beam.size)
        for n, search in enumerate(rows):
            search.go_on(scores[n], origins[n], ids[n], eos_id)
        stay = _close_up(len(rows), [n for n, search in enumerate(rows) if search.settled()])
        if not stay:
            break
        if len(stay) < len(rows):
            rows = [rows[n] for n in stay]
            state = decoder.keep(state, stay)
        K = max(len(search.beams) for search in rows)
        steps = [search.step(K) for search in rows]
        steps_3NK = torch.tensor(steps, dtype=torch.float64, device=logits_BV.device).unbind(1)
        scores_NK = steps_3NK[0].float()
        parents_NK, ids_NK = steps_3NK[1].long(), steps_3NK[2].long()
        logits_NKV, state = decoder.step(ids_NK, state, parents_NK)
    return [search.outputs() for search in searches]


class _Search:
    """One row's search: its open beams, best first, and what has ended."""

    def __init__(self, beam: Beam, limit: int, count: int) -> None:
        self.beam, self.limit, self.count = beam, limit, count
        self.beams: list[tuple[float, int, list[int]]] = [(0.0, 0, [])]  # score, parent, tokens
        self.ended: list[Hypothesis] = []
        self.length = 0

    def go_on(self, scores: list[float], origins: list[int], ids: list[int], eos_id: int) -> None:
        """Takes the best continuations, best first."""
        self.length += 1
        before, size = self.beams, self.beam.size
        self.beams = []
        for place, (score, origin, token) in enumerate(zip(scores, origins, ids, strict=True)):
            if score == float("-inf") or len(self.beams) == size:
                break
            prefix = before[origin][2]
            if token != eos_id:
                self.beams.append((score, origin, [*prefix, token]))
            elif place < size:
                score /= self.beam.divisor(self.length)
                self.ended.append(Hypothesis(prefix, score, True))
                self.ended.sort(key=lambda hypothesis: -hypothesis.score)

    def settled(self) -> bool:
        """Whether no open hypothesis can still enter the best ``count``."""
        if not self.beams or self.length == self.limit:
            return True
        if len(self.ended) < self.count:
            return False
        # Log-probabilities only fall, but a longer output is divided by more: the bound is at full length.
        best = self.beams[0][0] / self.beam.divisor(self.limit)
        return self.ended[self.count - 1].score >= best

    def step(self, width: int) -> tuple[list[float], list[int], list[int]]:
        """Scores, parents and last tokens of ``width`` beams; where fewer are open, the rest is of no score."""
        dead = width - len(self.beams)
        return (
            [score for score, _, _ in self.beams] + [float("-inf")] * dead,
            [parent for _, parent, _ in self.beams] + [0] * dead,
            [tokens[-1] for _, _, tokens in self.beams] + [0] * dead,
        )

    def outputs(self) -> list[Hypothesis]:
        """The best, ended ones before those that the limit cut."""
        out = self.ended[: self.count]
        if self.length == self.limit:
            divisor = self.beam.divisor(self.length)
            out += [Hypothesis(tokens, score / divisor, False) for score, _, tokens in self.beams]
        return out[: self.count]


def _continuations(
    logits_NKV: Tensor, scores_NK: Tensor, count: int
) -> tuple[list[list[float]], list[list[int]], list[list[int]]]:
    """The best continuations of each row, best first: their scores, the beams they go on from, and tokens."""
    N, K, V = logits_NKV.shape
    logits_NKV = logits_NKV.float()
    log_probs = torch.log_softmax(logits_NKV, -1, out=logits_NKV)  # nobody reads them again
    count = min(count, K * V)
    blocks = V // _BLOCK
    if K * blocks < 2 * count:
        best, index = (log_probs + scores_NK.unsqueeze(2)).view(N, -1).topk(count)
    else:
        # The best are in the blocks with the best maxima; token i of a beam is in block i mod blocks.
        size = -(-V // blocks)
        whole, rest = torch.split(log_probs, (size - 1) * blocks, dim=2)
        most = whole.view(N, K, size - 1, blocks).amax(2)
        most[:, :, : rest.size(2)] = torch.maximum(most[:, :, : rest.size(2)], rest)
        most += scores_NK.unsqueeze(2)
        chosen = most.view(N, -1).topk(count, sorted=False).indices.unsqueeze(2)
        tokens = chosen % blocks + torch.arange(size, device=chosen.device) * blocks
        index = (chosen // blocks * V + tokens.clamp(max=V - 1)).view(N, -1)
        values = log_probs.view(N, -1).gather(1, index) + scores_NK.gather(1, index // V)
        values.masked_fill_((tokens >= V).view(N, -1), float("-inf"))
        best, place = values.topk(count)
        index = index.gather(1, place)
    found = torch.stack((best.double(), index.double())).tolist()  # one transfer
    flat = [[int(i) for i in row] for row in found[1]]
    return found[0], [[i // V for i in row] for row in flat], [[i % V for i in row] for row in flat]


def _close_up(rows: int, leaving: list[int]) -> list[int]:
    """The rows that stay: each gap is closed by a row from the end, so that few change their place."""
    left = rows - len(leaving)
    gone = set(leaving)
    fill = (n for n in range(left, rows) if n not in gone)
    return [next(fill) if n in gone else n for n in range(left)]


def _limits(max_new_tokens: int | Sequence[int], rows: int) -> list[int]:
    """Each row's own limit, at least one token."""
    limits = [max_new_tokens] * rows if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if len(limits) != rows or min(limits) < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} must be at least 1, one number or one for each row"
        )
    return limits
