"""Losses, schedules and metrics against formulas and independent libraries."""

from __future__ import annotations

import copy
import math

import pytest
import torch
from sacrebleu.metrics import BLEU
from torch import nn
from torch.nn import functional as F

from lit_lm import losses
from lit_lm.losses import LossSum, SampledSoftmax, cross_entropy, log_uniform
from lit_lm.metrics import TokenMetrics, TranslationMetrics
from lit_lm.models import BERTConfig
from lit_lm.muon import Muon, orthogonalise
from lit_lm.optim import OptimConfig
from lit_lm.specs import DataSpec


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy_is_torchs_sum_over_predicted_positions(smoothing: float) -> None:
    torch.manual_seed(0)
    head, h = nn.Linear(8, 11), torch.randn(3, 5, 8, requires_grad=True)
    labels = torch.randint(0, 11, (3, 5))
    labels[0, 2:] = labels[2, :] = -100
    found = cross_entropy(h, head, labels, label_smoothing=smoothing, accuracy=True)
    logits = head(h)
    expected = F.cross_entropy(
        logits.flatten(0, 1),
        labels.flatten(),
        ignore_index=-100,
        reduction="sum",
        label_smoothing=smoothing,
    )
    torch.testing.assert_close(found.total, expected)
    assert found.targets == 7
    assert found.correct == ((logits.argmax(-1) == labels) & (labels >= 0)).sum()
    torch.testing.assert_close(
        torch.autograd.grad(found.total, h)[0],
        torch.autograd.grad(expected, h)[0],
        rtol=1e-5,
        atol=1e-6,
    )


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
@pytest.mark.parametrize("bias", [True, False])
def test_the_loss_by_stretches_is_torchs(
    smoothing: float, bias: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Value and all gradients in double precision, also of a stretch that is not full; and it knows that it is asked."""
    monkeypatch.setattr(losses, "_ROWS", 7)
    monkeypatch.setattr(losses, "_LOGITS", 1)
    torch.manual_seed(0)
    head = nn.Linear(6, 13, bias=bias).double()
    h = torch.randn(4, 5, 6, dtype=torch.float64, requires_grad=True)
    labels = torch.randint(0, 13, (4, 5))
    labels[1, 2:] = -100
    counted = {None, int((labels != -100).sum())}
    inputs = [h, *head.parameters()]
    logits = head(h).flatten(0, 1)
    expected = F.cross_entropy(logits, labels.flatten(), reduction="sum", label_smoothing=smoothing)
    wanted = torch.autograd.grad(3 * expected, inputs)
    for count in counted:
        found = cross_entropy(
            h, head, labels, label_smoothing=smoothing, accuracy=True, count=count
        )
        torch.testing.assert_close(found.total, expected, rtol=1e-13, atol=0)
        assert found.correct == (logits.argmax(-1) == labels.flatten()).sum()
        for a, b in zip(torch.autograd.grad(3 * found.total, inputs), wanted, strict=True):
            torch.testing.assert_close(a, b, rtol=1e-12, atol=1e-14)
        with pytest.raises(RuntimeError, match="once"):
            torch.autograd.grad(found.total, inputs)
    with torch.no_grad():
        assert not cross_entropy(h, head, labels).total.requires_grad


def test_the_loss_in_mixed_precision_is_torchs() -> None:
    torch.manual_seed(0)
    head, h = nn.Linear(16, 300), torch.randn(700, 16, requires_grad=True)
    labels = torch.randint(0, 300, (700,))
    inputs = [h, *head.parameters()]
    with torch.autocast("cpu", torch.bfloat16):
        expected = F.cross_entropy(head(h).float(), labels, reduction="sum")
        found = cross_entropy(h, head, labels).total
    torch.testing.assert_close(found, expected, rtol=1e-6, atol=0)
    wanted = torch.autograd.grad(expected, inputs)
    for a, b in zip(torch.autograd.grad(found, inputs), wanted, strict=True):
        assert a.dtype == torch.float32
        assert (a - b).norm() <= 0.005 * b.norm()


def test_a_head_of_any_kind_has_the_same_loss() -> None:
    """One that ends in a linear map, one that does not, and one that is frozen."""
    torch.manual_seed(0)
    spec = DataSpec(vocab_size=30, max_length=9)
    head = BERTConfig(num_layers=1, num_heads=1, d_model=8).build(spec).head
    h, labels = torch.randn(2, 9, 8, requires_grad=True), torch.randint(0, 30, (2, 9))
    inputs = [h, *head.parameters()]
    a = torch.autograd.grad(cross_entropy(h, head, labels).total, inputs)
    b = torch.autograd.grad(cross_entropy(h, lambda x: head(x), labels).total, inputs)
    torch.testing.assert_close(a, b)

    class Doubled(nn.Linear):
        def forward(self, x: torch.Tensor) -> torch.Tensor:
            return 2 * super().forward(x)

    doubled = Doubled(8, 30)
    expected = F.cross_entropy(doubled(h).flatten(0, 1), labels.flatten(), reduction="sum")
    torch.testing.assert_close(cross_entropy(h, doubled, labels).total, expected)
    head.requires_grad_(False)
    frozen = cross_entropy(h, head, labels).total
    torch.testing.assert_close(torch.autograd.grad(frozen, h), a[:1])


def test_a_batch_without_targets_has_a_loss_of_zero() -> None:
    h = torch.randn(2, 3, 4, requires_grad=True)
    found = cross_entropy(h, nn.Linear(4, 5), torch.full((2, 3), -100))
    assert found.total == 0
    assert found.targets == 0
    found.total.backward()


def test_inverse_sqrt_is_the_papers_formula() -> None:
    config = OptimConfig(schedule="inverse_sqrt", warmup_steps=40)
    for step in range(1, 400):
        paper = min(
            step**-0.5, step * 40**-1.5
        )  # Vaswani et al. 2017, equation 3, without d_model^-0.5
        assert config.factor(step - 1, 0) == pytest.approx(paper / 40**-0.5, rel=1e-9)


@pytest.mark.parametrize("schedule", ["cosine", "linear"])
def test_decay_runs_from_the_peak_to_the_floor(schedule: str) -> None:
    config = OptimConfig(schedule=schedule, warmup_steps=10, min_lr_ratio=0.1)
    warm = [config.factor(step, 0) for step in range(10)]
    assert warm == pytest.approx([(step + 1) / 10 for step in range(10)])
    decay = [config.factor(100, p / 50) for p in range(51)]
    assert decay[0] == 1
    assert decay[-1] == pytest.approx(0.1)
    assert decay == sorted(decay, reverse=True)
    assert config.factor(100, 1.3) == pytest.approx(0.1)


def test_vectors_are_not_decayed() -> None:
    net = nn.Sequential(nn.Linear(3, 4), nn.LayerNorm(4), nn.Embedding(5, 4))
    groups = OptimConfig(weight_decay=0.1).build(net).param_groups
    decayed = {id(p) for g in groups if g["weight_decay"] for p in g["params"]}
    assert decayed == {id(net[0].weight), id(net[2].weight)}
    assert sum(len(g["params"]) for g in groups) == len(list(net.parameters()))


def test_token_metrics_do_not_depend_on_batches() -> None:
    nats = [1.5, 0.25, 3.0, 2.0, 0.5]
    whole, parts = TokenMetrics(), TokenMetrics()
    whole.update(LossSum(torch.tensor(sum(nats)), torch.tensor(5), torch.tensor(2)), 13, 5)
    for i, n in enumerate(nats):
        parts.update(
            LossSum(torch.tensor(n), torch.tensor(1), torch.tensor(int(i < 2))), 3 if i else 1, 1
        )
    a, b = whole.compute(), parts.compute()
    for key in a:
        torch.testing.assert_close(a[key], b[key])
    assert a["ppl"].item() == pytest.approx(math.exp(sum(nats) / 5))
    assert a["bpb"].item() == pytest.approx(sum(nats) / 13 / math.log(2))
    assert a["accuracy"].item() == pytest.approx(0.4)


def test_sums_survive_half_precision() -> None:
    metrics = TokenMetrics().bfloat16()
    for _ in range(1000):
        metrics.update(LossSum(torch.tensor(1.001), torch.tensor(1), torch.tensor(1)), 1, 1)
    assert metrics.compute()["loss"].item() == pytest.approx(1.001, rel=1e-6)


def test_bleu_is_sacrebleus_however_it_is_batched() -> None:
    outputs = ["the cat sat on the mat .", "a dog", "", "hello there general", "the the the the"]
    references = [
        "the cat sat on a mat .",
        "a dog",
        "something",
        "hello there , general",
        "the cat",
    ]
    metrics = TranslationMetrics(full=False)
    metrics.update(outputs[:2], references[:2], references[:2])
    metrics.update(outputs[2:], references[2:], references[2:])
    found = metrics.compute()
    assert found["bleu"].item() == pytest.approx(
        BLEU().corpus_score(outputs, [references]).score, abs=1e-4
    )
    assert found["exact_match"].item() == pytest.approx(0.2)
    assert set(found) == {"bleu", "chrf", "exact_match"}
    with pytest.raises(ValueError, match="2 outputs, 2 references, 1 sources"):
        metrics.update(outputs[:2], references[:2], references[:1])


def test_muon_takes_the_inner_matrices_and_resumes_exactly() -> None:
    """Embeddings, output layer and vectors stay with AdamW; a state taken and given back goes on the same."""
    config = OptimConfig(optimizer="muon", lr=0.01, muon_lr=0.02, weight_decay=0.1)

    def net() -> nn.Module:
        torch.manual_seed(0)
        return nn.ModuleDict(
            {"table": nn.Embedding(7, 4), "inner": nn.Linear(4, 4), "head": nn.Linear(4, 7)}
        )

    def step(made: nn.Module, optimizer: torch.optim.Optimizer, seed: int) -> None:
        ids = torch.randint(7, (5,), generator=torch.Generator().manual_seed(seed))
        optimizer.zero_grad()
        F.cross_entropy(made["head"](made["inner"](made["table"](ids))), ids).backward()
        optimizer.step()

    one = net()
    optimizer = config.build(one)
    muon, adam = optimizer.parts
    assert [id(p) for g in muon.param_groups for p in g["params"]] == [id(one["inner"].weight)]
    assert sum(len(g["params"]) for g in adam.param_groups) == 4
    for seed in range(3):
        step(one, optimizer, seed)
    two = net()
    two.load_state_dict(one.state_dict())
    again = config.build(two)
    again.load_state_dict(copy.deepcopy(optimizer.state_dict()))
    for group in (*optimizer.param_groups, *again.param_groups):
        group["lr"] = 0.003  # what a schedule does must reach the parts
    step(one, optimizer, 9)
    step(two, again, 9)
    for a, b in zip(one.parameters(), two.parameters(), strict=True):
        assert torch.equal(a, b)
    assert again.parts[0].param_groups[0]["lr"] == 0.003


def test_muon_goes_where_torchs_goes() -> None:
    """torch's rounds to bfloat16, so directions agree to about a percent; shapes are mixed on purpose."""
    generator = torch.Generator().manual_seed(0)
    shapes = [(6, 9), (9, 6), (6, 9), (5, 5)]
    start = [torch.randn(shape, generator=generator) for shape in shapes]
    ours, theirs = ([nn.Parameter(p.clone()) for p in start] for _ in range(2))
    settings = {"lr": 0.1, "weight_decay": 0.2}
    optimizers = [Muon(ours, **settings), torch.optim.Muon(theirs, **settings)]
    for _ in range(5):
        for a, b in zip(ours, theirs, strict=True):
            a.grad = torch.randn(a.shape, generator=generator)
            b.grad = a.grad.clone()
        for optimizer in optimizers:
            optimizer.step()
    for a, b, old in zip(ours, theirs, start, strict=True):
        assert (a - b).norm() < 0.02 * (b - old).norm()


def test_orthogonalised_matrices_have_singular_values_near_one() -> None:
    for shape in ((3, 8, 20), (3, 20, 8)):
        matrices = torch.randn(shape, generator=torch.Generator().manual_seed(1))
        values = torch.linalg.svdvals(orthogonalise(matrices))
        assert 0.5 < values.min() < values.max() < 1.3


def test_sampled_softmax_becomes_the_full_one_with_many_draws() -> None:
    torch.manual_seed(0)
    head = torch.nn.Linear(8, 50)
    h = torch.randn(6, 5, 8, requires_grad=True)
    labels = torch.randint(0, 50, (6, 5))
    labels[0, 2:] = -100
    full = cross_entropy(h, head, labels)
    (expected,) = torch.autograd.grad(full.total, h)
    errors = []
    for draws in (20, 200, 200_000):
        loss = SampledSoftmax(head, labels, draws).cross_entropy(h, labels)
        assert loss.targets == 27
        (found,) = torch.autograd.grad(loss.total, h)
        assert (found[0, 2:] == 0).all()
        errors.append(((found - expected).norm() / expected.norm()).item())
    assert errors[0] > errors[1] > errors[2]
    assert errors[2] < 0.02
    assert abs(loss.total - full.total) / full.total < 0.01


def test_draws_have_their_distribution() -> None:
    """A word counts by one over the probability that it is drawn: the mean estimate of the normaliser is exact."""
    assert log_uniform(50).sum() == pytest.approx(1.0)
    torch.manual_seed(0)
    head, labels = torch.nn.Linear(4, 50), torch.zeros(1, dtype=torch.long)
    sums = torch.zeros(50, dtype=torch.float64)
    for _ in range(4000):
        drawn = SampledSoftmax(head, labels, 20)
        sums[drawn.ids_K[drawn.sample_S]] += (-drawn.log_chance_S.double()).exp()
    assert (sums / 4000 - 1).abs().max() < 0.15
    assert abs(sums.mean() / 4000 - 1) < 0.01
