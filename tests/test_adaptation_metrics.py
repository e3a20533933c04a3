"""Calibration, correlations, answers and confusion against torchmetrics, scipy and counting; the rest of these metrics
is in ``parity/test_metrics.py``.
"""

from __future__ import annotations

import numpy as np
import pytest
import torch
from scipy import stats
from torchmetrics.functional.classification import multiclass_calibration_error
from torchmetrics.text import SQuAD

from lit_lm.label_metrics import AnswerMetrics, ClassificationMetrics, RegressionMetrics
from tests.parity.test_metrics import answers, classes, found, numbers

pytestmark = pytest.mark.filterwarnings("ignore")  # the references warn of constants


@pytest.mark.parametrize("num", [2, 3, 7])
def test_the_calibration_error_is_torchmetrics(num: int) -> None:
    probabilities, labels = classes(num, num)
    values = found(ClassificationMetrics(num), probabilities, labels)
    wanted = multiclass_calibration_error(probabilities, labels, num, n_bins=15, norm="l1")
    assert values["ece"] == pytest.approx(wanted.item(), abs=1e-6)
    assert 0.01 < values["ece"] < 0.5


@pytest.mark.parametrize(
    ("confidence", "right", "wanted"), [(1.0, 5, 0.5), (0.5, 5, 0.0), (0.7, 10, 0.3), (0.9, 9, 0.0)]
)
def test_calibration_is_confidence_beside_accuracy(
    confidence: float, right: int, wanted: float
) -> None:
    probabilities = torch.tensor([[confidence, 1 - confidence]]).repeat(10, 1)
    labels = torch.tensor([0] * right + [1] * (10 - right))
    assert found(ClassificationMetrics(2), probabilities, labels)["ece"] == pytest.approx(wanted, abs=1e-6)  # fmt: skip


def test_a_bin_has_its_upper_end() -> None:
    # 0.6 and what is above it are of two bins: their errors do not cancel out.
    probabilities = torch.tensor([[0.6, 0.4], [0.6001, 0.3999]], dtype=torch.float64)
    values = found(ClassificationMetrics(2), probabilities, torch.tensor([0, 1]))
    assert values["ece"] == pytest.approx((0.4 + 0.6001) / 2)


def test_the_matrix_of_the_last_computation_stays() -> None:
    metric = ClassificationMetrics(3)
    assert metric.matrix is None
    metric.update(torch.eye(3)[[0, 0, 1, 1]], torch.tensor([0, 2, 1, 1]))
    metric.compute()
    metric.update(torch.eye(3)[[0]], torch.tensor([0]))
    metric.reset()
    assert metric.matrix.tolist() == [[1, 0, 0], [0, 2, 0], [1, 0, 0]]


def test_a_diverged_network_is_not_a_number_and_no_crash() -> None:
    metric = ClassificationMetrics(2)
    metric.update(torch.full((3, 2), torch.nan), torch.tensor([0, 1, 1]))
    assert metric.compute()["ece"].isnan()
    regression = RegressionMetrics()
    regression.update(torch.tensor([torch.nan, 1.0, 2.0]), torch.tensor([0.0, 1.0, 2.0]))
    assert all(value.isnan() for value in regression.compute().values())


@pytest.mark.parametrize("seed", range(4))
def test_correlations_are_scipys(seed: int) -> None:
    predicted, labels = numbers(seed, 5 if seed == 3 else 200)
    # Far from zero, sums of squares lose what matters.
    for shift in (0, 1e6):
        values = found(RegressionMetrics(), predicted + shift, labels)
        a, b = (predicted + shift).numpy(), labels.numpy()
        assert values["pearson"] == pytest.approx(stats.pearsonr(a, b).statistic, abs=1e-7)
        assert values["spearman"] == pytest.approx(stats.spearmanr(a, b).statistic, abs=1e-12)
        assert values["mse"] == pytest.approx(((a - b) ** 2).mean(), rel=1e-12)
        assert 0.1 < abs(values["spearman"]) < 0.99


def test_ranks_ignore_how_far_apart_numbers_are() -> None:
    x = torch.tensor([0.1, 3.0, -2.0, 5.0])
    values = found(RegressionMetrics(), x.exp(), x)
    assert values["spearman"] == pytest.approx(1)
    assert 0.5 < values["pearson"] < 0.99


def test_of_constants_there_is_no_correlation() -> None:
    x, constant = torch.tensor([0.1, 0.2, 0.4]), torch.full((3,), 0.1)
    for columns in ((x, constant), (constant, x)):
        values = found(RegressionMetrics(), *columns)
        assert values["pearson"] == values["spearman"] == 0
    with pytest.raises(ValueError, match="predictions"):
        RegressionMetrics().update(x, x[:2])


def test_no_examples_have_no_scores() -> None:
    for metric in (RegressionMetrics(), AnswerMetrics()):
        values = {name: value.item() for name, value in metric.compute().items()}
        assert all(np.isnan(value) for value in values.values())


@pytest.mark.parametrize("seed", range(3))
def test_answers_are_squads(seed: int) -> None:
    ours, wanted = answers(seed)
    values = found(AnswerMetrics(), ours, wanted)
    squad = SQuAD()
    for i, (answer, references) in enumerate(zip(ours, wanted, strict=True)):
        # As SQuAD 2.0's evaluation does: references without words do not count, and none is the empty one.
        texts = [r for r in references if r.strip(" .") not in ("", "a", "the")] or [""]
        squad.update(
            {"id": str(i), "prediction_text": answer},
            {"id": str(i), "answers": {"text": texts, "answer_start": [0] * len(texts)}},
        )
    for name, value in squad.compute().items():
        assert values[name] == pytest.approx(value.item() / 100, abs=1e-6)
    assert 0.1 < values["exact_match"] < values["f1"] < 0.95


@pytest.mark.parametrize(
    ("answer", "references", "exact", "f1"),
    [
        ("The Tower of London!", ["tower of  london"], 1, 1),
        ("Tower", ["in the Tower of London", "London tower"], 0, 2 / 3),
        ("la la land", ["la land"], 0, 0.8),
        ("Theatre", ["atre"], 0, 0),
        ("don't", ["dont"], 1, 1),
        ("", [], 1, 1),
        ("nobody", [], 0, 0),
        ("the", [], 1, 1),
        ("", ["a name"], 0, 0),
        ("", ["", "a name"], 0, 0),
    ],
)
def test_an_answer(answer: str, references: list[str], exact: float, f1: float) -> None:
    values = found(AnswerMetrics(), [answer], [references])
    assert values == pytest.approx({"exact_match": exact, "f1": f1})
