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


class Decoder(Protocol):
    """What a network offers to be decoded. The state is the network's own affair."""

    def step(self, ids_B: Tensor, state: Any) -> tuple[Tensor, Any]:
        """Feeds one token a row (int64); gives logits of the next, float (B, V), and the new state."""

    def reorder(self, state: Any, index_N: Tensor) -> Any:
        """The state of rows ``index_N`` (int64): a row may be taken several times, or left out."""


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

    def pick(self, logits_NV: Tensor, generator: torch.Generator | None = None) -> Tensor:
        """Draws one token a row, int64 (N,)."""
        if self.temperature == 0:
            return logits_NV.argmax(-1)
        probs_NV = self.probabilities(logits_NV)
        return torch.multinomial(probs_NV, 1, generator=generator).squeeze(1)

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


@torch.no_grad()
def generate(
    decoder: Decoder,
    logits_BV: Tensor,
    state: Any,
    *,
    max_new_tokens: int | Sequence[int],
    eos_id: int,
    sampling: Sampling | None = None,
    generator: torch.Generator | None = None,
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
        generator: the source of randomness; torch's own when None.
        num_ids: only ids below this are drawn; None for all that the network has logits of.

    Returns:
        One output a row; its score is the network's own log-probability, whatever it was drawn from.
    """
    sampling = sampling or Sampling()
    B = logits_BV.size(0)
    limits_N = _limits(max_new_tokens, logits_BV)
    out: list[list[int]] = [[] for _ in range(B)]
    scores_B = torch.zeros(B, device=logits_BV.device)
    finished = [False] * B
    rows_N = torch.arange(B, device=logits_BV.device)
    for length in range(1, int(limits_N.max()) + 1):
        logits_BV = logits_BV[:, :num_ids]
        ids_N = sampling.pick(logits_BV, generator)
        log_probs = logits_BV.float().log_softmax(-1)
        scores_B[rows_N] += log_probs.gather(1, ids_N.unsqueeze(1)).squeeze(1)
        for row, token in zip(rows_N.tolist(), ids_N.tolist(), strict=True):
            if token == eos_id:
                finished[row] = True
            else:
                out[row].append(token)
        keep = (ids_N != eos_id) & (limits_N > length)
        if not keep.any():
            break
        if not keep.all():
            index_N = keep.nonzero().squeeze(1)
            rows_N, ids_N, limits_N = rows_N[index_N], ids_N[index_N], limits_N[index_N]
            state = decoder.reorder(state, index_N)
        logits_BV, state = decoder.step(ids_N, state)
    return [Hypothesis(*row) for row in zip(out, scores_B.tolist(), finished, strict=True)]


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


@torch.no_grad()
def beam_search(
    decoder: Decoder,
    logits_BV: Tensor,
    state: Any,
    *,
    max_new_tokens: int | Sequence[int],
    eos_id: int,
    beam: Beam,
) -> list[list[Hypothesis]]:
    """Beam search; a row whose best hypotheses can no longer be beaten leaves the batch.

    At each step those of the ``size`` best continuations that end are set aside, and the ``size`` best
    that do not end go on. A row is done when no open hypothesis could still enter its ``size``
    best ended ones, whatever it went on with.

    Args:
        decoder: the network.
        logits_BV: logits of the first new token, from the network's ``start``.
        state: its state.
        max_new_tokens: most tokens of a hypothesis, eos included: one number, or one for each row.
        eos_id: ends a hypothesis.
        beam: the search's settings.

    Returns:
        For each row up to ``size`` hypotheses, best first; ended ones before cut ones.
    """
    B, V = logits_BV.shape
    K = beam.size
    device = logits_BV.device
    done: list[list[Hypothesis]] = [[] for _ in range(B)]
    rows = list(range(B))  # the input row of each group of beams still open
    limits = _limits(max_new_tokens, logits_BV).tolist()
    index = torch.arange(B, device=device).repeat_interleave(K)
    state = decoder.reorder(state, index)
    logits = logits_BV[index]
    # All beams of a row start equal: only the first may go on, or the beam would hold K copies.
    scores_NK = torch.full((B, K), float("-inf"), device=device)
    scores_NK[:, 0] = 0.0
    tokens = torch.empty(B * K, 0, dtype=torch.long, device=device)
    for length in range(1, max(limits) + 1):
        N = len(rows)
        log_probs = logits.float().log_softmax(-1).view(N, K, V)
        total = (scores_NK.unsqueeze(2) + log_probs).view(N, K * V)
        best_scores, best = total.topk(min(2 * K, K * V), dim=1)
        origin, ids = best // V, best % V
        ends = ids == eos_id
        beams = torch.arange(N, device=device).unsqueeze(1) * K
        for n, k in ends[:, :K].nonzero().tolist():
            score = best_scores[n, k].item()
            if score > float("-inf"):
                prefix = tokens[n * K + int(origin[n, k])].tolist()
                done[rows[n]].append(Hypothesis(prefix, score / beam.divisor(length), True))
        # The K best that do not end; where fewer exist, dead beams fill the row.
        open_scores, pick = best_scores.masked_fill(ends, float("-inf")).topk(K, dim=1)
        scores_NK = open_scores
        source = (origin.gather(1, pick) + beams).view(-1)
        ids = ids.gather(1, pick).view(-1)
        tokens = torch.cat((tokens[source], ids.unsqueeze(1)), dim=1)
        keep = []
        for n, row in enumerate(rows):
            if limits[row] == length:  # cut by the limit: they count after every ended one
                for k, score in enumerate(scores_NK[n].tolist()):
                    if score > float("-inf"):
                        cut = tokens[n * K + k].tolist()
                        done[row].append(Hypothesis(cut, score / beam.divisor(length), False))
            elif not _settled(done[row], scores_NK[n, 0].item(), beam, limits[row]):
                keep.append(n)
        if not keep:
            break
        if len(keep) < N:
            groups = torch.tensor(keep, device=device)
            flat = (groups.unsqueeze(1) * K + torch.arange(K, device=device)).view(-1)
            rows, scores_NK = [rows[n] for n in keep], scores_NK[groups]
            source, ids, tokens = source[flat], ids[flat], tokens[flat]
        state = decoder.reorder(state, source)
        logits, state = decoder.step(ids, state)
    return [sorted(found, key=lambda h: (not h.finished, -h.score))[:K] for found in done]


def _settled(done: list[Hypothesis], best_open: float, beam: Beam, max_length: int) -> bool:
    """Whether no open hypothesis of log-probability ``best_open`` can still enter the best ``size``."""
    if best_open == float("-inf"):
        return True
    if len(done) < beam.size:
        return False
    worst_kept = sorted((h.score for h in done), reverse=True)[beam.size - 1]
    # Log-probabilities only fall, but a longer output is divided by more: the bound is at full length.
    return worst_kept >= best_open / beam.divisor(max_length)


def _limits(max_new_tokens: int | Sequence[int], logits_BV: Tensor) -> Tensor:
    """int64 (B,): each row's own limit, at least one token."""
    B = logits_BV.size(0)
    limits = [max_new_tokens] * B if isinstance(max_new_tokens, int) else list(max_new_tokens)
    if len(limits) != B or min(limits) < 1:
        raise ValueError(
            f"max_new_tokens={max_new_tokens} must be at least 1, one number or one for each row"
        )
    return torch.tensor(limits, device=logits_BV.device)
