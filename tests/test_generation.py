"""Decoding against a brute-force search and against the distributions it should draw from."""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import pytest
import torch
from torch import Tensor

from lit_lm import Translation
from lit_lm.errors import InputError
from lit_lm.generation import Beam, Sampling, beam_search, generate
from tests.parity.random_weights import POST, SPEC, TOKENIZER, lean_to_eos, make_task
from tests.reference_beam import reference_beam

VOCAB, EOS, LIMIT = 5, 2, 6
_LOGITS: dict[tuple[int, ...], Tensor] = {}


@dataclass
class Table:
    """A decoder whose logits are random numbers that depend on the whole prefix."""

    seed: int

    def logits(self, prefix: tuple[int, ...]) -> Tensor:
        key = (self.seed, *prefix)
        if key not in _LOGITS:
            generator = torch.Generator().manual_seed(hash(key) % 2**31)
            _LOGITS[key] = 2 * torch.randn(VOCAB, generator=generator)
        return _LOGITS[key]

    def start(self, rows: int) -> tuple[Tensor, list[tuple[int, ...]]]:
        state = [(row,) for row in range(rows)]
        return torch.stack([self.logits(p) for p in state]), state

    def step(
        self, ids: Tensor, state: list[Any], parents: Tensor | None = None
    ) -> tuple[Tensor, list[Any]]:
        """A row's state is its prefix, or a list of prefixes where there are beams."""
        if parents is None:
            state = [(*p, i) for p, i in zip(state, ids.tolist(), strict=True)]
            return torch.stack([self.logits(p) for p in state]), state
        beams = [p if isinstance(p, list) else [p] for p in state]
        state = [
            [(*row[parent], token) for parent, token in zip(origins, tokens, strict=True)]
            for row, origins, tokens in zip(beams, parents.tolist(), ids.tolist(), strict=True)
        ]
        return torch.stack([torch.stack([self.logits(p) for p in row]) for row in state]), state

    def keep(self, state: list[Any], rows: Sequence[int]) -> list[Any]:
        assert len({*rows}) == len(rows)
        return [state[row] for row in rows]

    def all_ended(self, row: int, beam: Beam) -> list[tuple[float, list[int]]]:
        """Every sequence that ends within the limit, with its score, best first."""
        found = []
        words = [i for i in range(VOCAB) if i != EOS]
        for length in range(LIMIT):
            for ids in itertools.product(words, repeat=length):
                score, prefix = 0.0, (row,)
                for token in (*ids, EOS):
                    score += self.logits(prefix).log_softmax(-1)[token].item()
                    prefix = (*prefix, token)
                found.append((score / divisor(beam, length + 1), list(ids)))
        return sorted(found, reverse=True)


def divisor(beam: Beam, length: int) -> float:
    """The length penalty as it is documented, written a second time."""
    return (length if beam.penalty == "plain" else (5 + length) / 6) ** beam.length_penalty


PENALTIES = [(0.0, "plain"), (1.0, "plain"), (0.6, "gnmt"), (2.0, "plain")]


@pytest.mark.parity
@pytest.mark.parametrize(("alpha", "penalty"), PENALTIES)
def test_a_wide_beam_finds_what_brute_force_finds(alpha: float, penalty: str) -> None:
    # As wide as the last step has continuations: no sequence can be lost.
    beam = Beam(size=VOCAB * 4 ** (LIMIT - 1), length_penalty=alpha, penalty=penalty)
    table = Table(seed=3)
    found = beam_search(table, *table.start(2), max_new_tokens=LIMIT, eos_id=EOS, beam=beam)
    for row in range(2):
        expected = table.all_ended(row, beam)
        ended = [h for h in found[row] if h.finished]
        assert len(expected) == len(ended) == sum(4**length for length in range(LIMIT)) == 1365
        assert [h.ids for h in ended[:20]] == [ids for _, ids in expected[:20]]
        scores = {tuple(ids): score for score, ids in expected}
        assert {tuple(h.ids) for h in ended} == scores.keys()
        for h in ended:
            assert h.score == pytest.approx(scores[tuple(h.ids)], abs=1e-4)


@pytest.mark.parity
@pytest.mark.parametrize(("alpha", "penalty"), PENALTIES)
@pytest.mark.parametrize("size", [1, 2, 3, 5, 9])
def test_stopping_early_loses_nothing(alpha: float, penalty: str, size: int) -> None:
    beam, table = Beam(size, alpha, penalty), Table(seed=12)
    found = beam_search(table, *table.start(8), max_new_tokens=LIMIT, eos_id=EOS, beam=beam)
    for row in range(8):
        wanted = reference_beam(
            lambda prefix, row=row: table.logits((row, *prefix)).log_softmax(-1).tolist(),
            eos=EOS,
            size=size,
            limit=LIMIT,
            divisor=lambda n: divisor(beam, n),
        )
        assert [(h.ids, h.finished) for h in found[row]] == [(w[0], w[2]) for w in wanted]
        for h, (_, score, _) in zip(found[row], wanted, strict=True):
            assert h.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize(("alpha", "penalty"), PENALTIES)
@pytest.mark.parametrize("size", [1, 2, 3, 5])
def test_scores_are_those_of_the_sequences(alpha: float, penalty: str, size: int) -> None:
    beam = Beam(size=size, length_penalty=alpha, penalty=penalty)
    table = Table(seed=8)
    for row, found in enumerate(
        beam_search(table, *table.start(6), max_new_tokens=LIMIT, eos_id=EOS, beam=beam)
    ):
        assert 1 <= len(found) <= size
        assert [h.score for h in found if h.finished] == sorted(
            (h.score for h in found if h.finished), reverse=True
        )
        assert len({tuple(h.ids) for h in found}) == len(found)
        exact = {tuple(ids): score for score, ids in table.all_ended(row, beam)}
        for h in found:
            if h.finished:
                assert h.score == pytest.approx(exact[tuple(h.ids)], abs=1e-4)


def test_greedy_takes_the_most_likely_token_until_eos() -> None:
    table = Table(seed=1)
    rows = generate(table, *table.start(8), max_new_tokens=LIMIT, eos_id=EOS)
    for row, found in enumerate(rows):
        prefix: tuple[int, ...] = (row,)
        score = 0.0
        for token in found.ids:
            assert table.logits(prefix).argmax().item() == token != EOS
            score += table.logits(prefix).log_softmax(-1)[token].item()
            prefix = (*prefix, token)
        if found.finished:
            assert table.logits(prefix).argmax().item() == EOS
            score += table.logits(prefix).log_softmax(-1)[EOS].item()
        else:
            assert len(found.ids) == LIMIT
        assert found.score == pytest.approx(score, abs=1e-4)


@pytest.mark.parametrize("beam", [None, Beam(3)])
def test_every_row_has_its_own_limit(beam: Beam | None) -> None:
    table, limits = Table(seed=4), [1, 6, 3, 2]

    def search(rows: tuple[Tensor, list[tuple[int, ...]]], limits: list[int]) -> list[object]:
        if beam is None:
            return list(generate(table, *rows, max_new_tokens=limits, eos_id=EOS))
        return list(beam_search(table, *rows, max_new_tokens=limits, eos_id=EOS, beam=beam))

    together = search(table.start(4), limits)
    for row, limit in enumerate(limits):
        logits, state = table.start(4)
        alone = search((logits[row : row + 1], state[row : row + 1]), [limit])
        assert alone == [together[row]]


def test_sampling_draws_from_the_stated_distribution() -> None:
    logits = torch.tensor([[2.0, 1.0, 0.0, -1.0, -2.0]])
    generator = torch.Generator().manual_seed(0)
    for sampling in (
        Sampling(1.0),
        Sampling(0.5),
        Sampling(1.0, top_k=2),
        Sampling(1.0, top_p=0.7),
        Sampling(2.0, 4, 0.9),
    ):
        expected = sampling.probabilities(logits)[0]
        draws = sampling.pick(logits.expand(20_000, -1), generator)
        counts = torch.bincount(draws, minlength=5) / 20_000
        torch.testing.assert_close(counts, expected, rtol=0, atol=0.015)


def test_top_k_and_top_p_keep_the_smallest_sets() -> None:
    logits = torch.tensor([[0.5, 0.25, 0.125, 0.0625, 0.0625]]).log()
    assert (Sampling(1.0, top_k=3).probabilities(logits) > 0).tolist() == [
        [True, True, True, False, False]
    ]
    assert (Sampling(1.0, top_p=0.75).probabilities(logits) > 0).tolist() == [
        [True, True, False, False, False]
    ]
    assert (Sampling(1.0, top_p=0.76).probabilities(logits) > 0).tolist() == [
        [True, True, True, False, False]
    ]
    torch.testing.assert_close(
        Sampling(1.0, top_k=2).probabilities(logits)[0, :2], torch.tensor([2 / 3, 1 / 3])
    )


@pytest.mark.parametrize(
    "bad", [{"temperature": -1.0}, {"top_k": -1}, {"top_p": 0.0}, {"top_p": 1.5}]
)
def test_impossible_sampling_is_refused(bad: dict[str, float]) -> None:
    with pytest.raises(InputError, match=next(iter(bad))):
        Sampling(**bad)


def test_impossible_beams_are_refused() -> None:
    with pytest.raises(InputError, match="size=0"):
        Beam(size=0)
    with pytest.raises(InputError, match="length_penalty"):
        Beam(length_penalty=-1)


def test_a_translators_greedy_search_is_scored_as_its_beams_are() -> None:
    task = make_task(POST)
    lean_to_eos(task)
    texts = ["a b c d", "h g f e d c b a", "b"]
    whole = task.translate(texts, beam=Beam(1, length_penalty=0.0))
    for penalty in ("plain", "gnmt"):
        beam = Beam(1, length_penalty=0.8, penalty=penalty)
        for (found,), (right,) in zip(task.translate(texts, beam=beam), whole, strict=True):
            assert found.ids == right.ids
            divisor = beam.divisor(len(right.ids) + right.finished)
            assert found.score == pytest.approx(right.score / divisor)
    (ended,) = (h for (h,) in whole[2:])
    assert ended.finished


def test_a_translators_outputs_end_at_their_limit() -> None:
    task = Translation(POST, SPEC, length_factor=0.5, length_extra=3).eval()
    task.tokenizer = TOKENIZER
    with torch.no_grad():
        task.net.head.weight[SPEC.eos_id] = 0.0  # never the best
        task.net.head.weight[5:] = torch.randn_like(task.net.head.weight[5:]) * 10
    for size in (1, 2):
        (found, *_) = task.translate(["a b c d e"], beam=Beam(size))[0]
        assert not found.finished
        assert len(found.ids) == 6  # half of five words and an eos, and three more
