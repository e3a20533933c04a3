"""The CRF against all sequences of tags, one by one."""

from __future__ import annotations

import math
from itertools import pairwise, product

import pytest
import torch
from torch import Tensor

from lit_lm.data.labelled.tags import allowed, tag_names
from lit_lm.nn.crf import CRF

IOB2 = tag_names(["A", "B"], "iob2")
T = len(IOB2)


def make(kind: str) -> CRF:
    """With random scores in float64."""
    torch.manual_seed(1)
    crf = CRF(T, allowed(IOB2, "iob2") if kind == "iob2" else None).double()
    for p in crf.parameters():
        torch.nn.init.normal_(p)
    return crf


def batch(lengths: list[int]) -> tuple[Tensor, Tensor]:
    """Scores, odd ones at padding, and the mask."""
    torch.manual_seed(0)
    mask = torch.arange(max(lengths)) < torch.tensor(lengths)[:, None]
    scores = torch.randn(*mask.shape, T, dtype=torch.float64) * 2
    return scores.masked_fill(~mask[..., None], torch.nan), mask


def sequences(crf: CRF, scores_WT: Tensor, length: int) -> dict[tuple[int, ...], float]:
    """The probability of all that is allowed."""
    found = {}
    for tags in product(range(T), repeat=length):
        steps = list(pairwise(tags))
        if not (
            crf.may_start[tags[0]]
            and crf.may_end[tags[-1]]
            and all(crf.may_step[step] for step in steps)
        ):
            continue
        score = crf.start[tags[0]] + crf.end[tags[-1]] + sum(crf.step[step] for step in steps)
        score += sum(scores_WT[i, tag] for i, tag in enumerate(tags))
        found[tags] = score.exp().item()
    return {tags: weight / sum(found.values()) for tags, weight in found.items()}


@pytest.mark.parametrize("kind", ["free", "iob2"])
def test_everything_is_as_over_all_sequences(kind: str) -> None:
    crf, lengths = make(kind), [4, 1, 0, 3]
    scores, mask = batch(lengths)
    best, marginals = crf.decode(scores, mask), crf.marginals(scores, mask)
    assert best.dtype == torch.int64
    assert (best[~mask] == -1).all()
    assert (marginals[~mask] == 0).all()
    tags = torch.full(mask.shape, -100)
    wanted = 0.0
    for row, length in enumerate(lengths):
        if not length:
            continue
        found = sequences(crf, scores[row], length)
        assert len(found) < T**length or kind == "free"
        assert tuple(best[row, :length].tolist()) == max(found, key=found.__getitem__)
        for i, tag in product(range(length), range(T)):
            share = sum(p for s, p in found.items() if s[i] == tag)
            assert marginals[row, i, tag].item() == pytest.approx(share, abs=1e-12)
        some, probability = list(found.items())[len(found) // 3]
        tags[row, :length] = torch.tensor(some)
        wanted -= math.log(probability)
    assert crf.loss(scores, tags, mask).item() == pytest.approx(wanted, rel=1e-12)


def test_a_ragged_batch_is_its_sentences_one_by_one() -> None:
    crf, lengths = make("iob2"), [2, 9, 1, 0, 6]
    scores, mask = batch(lengths)
    tags = crf.decode(torch.randn_like(scores), mask)
    total = crf.loss(scores, tags, mask)
    total.backward()
    together, alone = [p.grad for p in crf.parameters()], make("iob2")
    losses = []
    for row, length in enumerate(lengths):
        if length:
            one = slice(row, row + 1), slice(0, length)
            losses.append(alone.loss(scores[one], tags[one], mask[one]))
            assert torch.equal(
                alone.decode(scores[one], mask[one])[0], crf.decode(scores, mask)[one][0]
            )
            torch.testing.assert_close(
                alone.marginals(scores[one], mask[one]), crf.marginals(scores, mask)[one]
            )
    torch.testing.assert_close(torch.stack(losses).sum(), total)
    sum(losses).backward()
    for ours, theirs in zip(together, alone.parameters(), strict=True):
        torch.testing.assert_close(ours, theirs.grad)


def test_what_is_not_allowed_is_never_decoded() -> None:
    crf = CRF(T, may := allowed(IOB2, "iob2"))
    torch.manual_seed(0)
    scores, mask = torch.randn(50, 12, T) * 100, torch.ones(50, 12, dtype=torch.bool)
    scores[:, 0, IOB2.index("I-A")] = 1e4
    assert (crf.marginals(scores, mask)[:, 0, IOB2.index("I-A")] == 0).all()
    for tags in crf.decode(scores, mask).tolist():
        assert may.start[tags[0]]
        assert all(may.steps[a][b] for a, b in pairwise(tags))
    assert crf.loss(scores, torch.full((50, 12), IOB2.index("I-A")), mask) > 1e29


def test_gradients() -> None:
    crf = make("iob2")
    scores, mask = batch([3, 0, 1])
    tags = crf.decode(-scores, mask)
    assert torch.autograd.gradcheck(
        lambda x, *_: crf.loss(x, tags, mask), (scores.requires_grad_(), *crf.parameters())
    )


def test_tags_that_cannot_be_reached_leave_gradients_finite() -> None:
    crf = CRF(2, ([True, False], [True, True], [[True, False], [True, False]]))
    mask = torch.ones(1, 4, dtype=torch.bool)
    crf.loss(torch.randn(1, 4, 2), torch.zeros(1, 4, dtype=torch.int64), mask).backward()
    assert all(p.grad.isfinite().all() for p in crf.parameters())


def test_sentences_of_one_word_train_every_parameter() -> None:
    crf = CRF(T)
    crf.loss(torch.randn(2, 1, T), torch.zeros(2, 1, dtype=torch.int64), torch.ones(2, 1).bool()).backward()  # fmt: skip
    assert all(p.grad is not None for p in crf.parameters())


def test_without_learned_scores_words_are_independent() -> None:
    scores, mask = batch([5, 3])
    scores = scores.nan_to_num()
    crf = CRF(T)
    torch.testing.assert_close(crf.marginals(scores, mask)[mask], scores.softmax(2)[mask])
    assert torch.equal(crf.decode(scores, mask)[mask], scores.argmax(2)[mask])


def test_half_precision_is_computed_in_single() -> None:
    scores, mask = batch([7, 5])
    half, tags = scores.bfloat16(), torch.zeros(mask.shape, dtype=torch.int64)
    crf = make("free").float()
    with torch.autocast("cpu", torch.bfloat16):
        loss = crf.loss(half, tags, mask)
        assert crf.marginals(half, mask).dtype == loss.dtype == torch.float32
    torch.testing.assert_close(loss, crf.loss(half.float(), tags, mask), rtol=0, atol=0)
    assert crf.bfloat16().loss(half, tags, mask).dtype == torch.float32


def test_what_is_allowed_must_be_of_as_many_tags() -> None:
    with pytest.raises(ValueError, match=r"allowed\[0\] is \[5\] for 3 tags"):
        CRF(3, allowed(IOB2, "iob2"))
