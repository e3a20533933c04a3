"""Metrics against sacrebleu, rouge-score, seqeval, scikit-learn and torchmetrics: in one process and in two."""

from __future__ import annotations

import os
import warnings

import numpy as np
import pytest
import torch
import torch.distributed as dist
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from seqeval import metrics as seqeval
from sklearn import metrics as sklearn
from torch import Tensor
from torchmetrics import functional
from torchmetrics.functional.classification import multiclass_f1_score

from lit_lm.label_metrics import (
    AnswerMetrics,
    ClassificationMetrics,
    EntityMetrics,
    RegressionMetrics,
)
from lit_lm.metrics import TranslationMetrics
from tests import ranks

pytestmark = [
    pytest.mark.parity,
    pytest.mark.filterwarnings("ignore"),  # the references warn of shares of nothing
]
TYPES = ("PER", "LOC", "ORG")
TAGS = ["O", "O", *(f"{mark}-{kind}" for mark in "BI" for kind in TYPES)]
WORDS = ["the", "cat", "sat,", "naïve", "東京都", "🙂", "a", "don't", "  ", ".", "mat\u00a0s"]


def sentences(seed: int, count: int = 60) -> tuple[list[str], list[str]]:
    """Random outputs and references that share much; some are empty, short or blank."""
    rng = np.random.default_rng(seed)
    references = [" ".join(rng.choice(WORDS, rng.integers(0, 12))) for _ in range(count)]
    outputs = [
        " ".join(w for w in r.split(" ") if rng.random() < 0.8) + rng.choice(["", " cat", "."])
        for r in references
    ]
    return ["", "", "a", " ", *outputs], ["", "the cat", "", "a", *references]


def tags(seed: int, count: int = 50) -> tuple[list[list[str]], list[list[str]]]:
    """Random tags, most of them no proper BIO: entities that begin with I-, or change type midway."""
    rng = np.random.default_rng(seed)
    true = [rng.choice(TAGS, rng.integers(1, 9)).tolist() for _ in range(count)]
    return [[t if rng.random() < 0.7 else str(rng.choice(TAGS)) for t in s] for s in true], true


def classes(seed: int, num: int, count: int = 200) -> tuple[Tensor, Tensor]:
    """Probabilities, the largest of them often that of the label, and labels."""
    rng = np.random.default_rng(seed)
    labels = torch.tensor(rng.integers(0, num, count))
    likely = torch.where(torch.tensor(rng.random(count) < 0.5), labels, 0)
    logits = torch.tensor(rng.normal(size=(count, num))) + 2 * torch.eye(num)[likely]
    return logits.softmax(1), labels


def numbers(seed: int, count: int = 200) -> tuple[Tensor, Tensor]:
    """Predictions and labels, many of them equal."""
    rng = np.random.default_rng(seed)
    labels = torch.tensor(rng.integers(0, 11, count) / 2)
    return (labels + torch.tensor(rng.normal(size=count))).round(decimals=1), labels


def answers(seed: int, count: int = 60) -> tuple[list[str], list[list[str]]]:
    """Answers and the references of each, some of them none."""
    outputs, first = sentences(seed, count)
    rng = np.random.default_rng(seed)
    other = rng.permutation(first).tolist()
    both = zip(first, other, rng.integers(0, 3, len(first)), strict=True)
    return outputs, [[a, b][:several] for a, b, several in both]


def texts(seed: int) -> tuple[list[str], list[str], list[str]]:
    """Outputs, references and sources of 0 to 40 words."""
    outputs, references = sentences(seed)
    counts = np.random.default_rng(seed).integers(0, 41, len(outputs))
    return outputs, references, [" ".join(["wort"] * count) for count in counts]


def found(metric, *columns, sizes=(1, 7, 2, 30)) -> dict[str, float]:
    """What a metric says after batches of these sizes and one of the rest."""
    begin, count = 0, len(columns[0])
    for size in (*sizes, count):
        if begin < count:
            metric.update(*(column[begin : begin + size] for column in columns))
        begin += size
    return {name: value.item() for name, value in metric.compute().items()}


@pytest.mark.parametrize("seed", range(8))
def test_bleu_chrf_and_ter_are_sacrebleus(seed: int) -> None:
    outputs, references, sources = texts(seed)
    values = found(TranslationMetrics(), outputs, references, sources)
    for name, reference in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
        wanted = reference.corpus_score(outputs, [references]).score
        assert 5 < wanted < 99
        assert values[name] == pytest.approx(wanted, rel=1e-12)
    equal = np.mean([a == b for a, b in zip(outputs, references, strict=True)])
    assert values["exact_match"] == pytest.approx(equal)


@pytest.mark.parametrize("seed", range(3))
def test_bleu_by_length_is_sacrebleus_of_those_sentences(seed: int) -> None:
    outputs, references, sources = texts(seed)
    values = found(TranslationMetrics(), outputs, references, sources)
    bounds = {"1_10": (0, 10), "11_20": (11, 20), "21_30": (21, 30), "31_50": (31, 50)}
    for name, (least, most) in bounds.items():
        picked = [i for i, s in enumerate(sources) if least <= len(s.split()) <= most]
        wanted = BLEU().corpus_score(
            [outputs[i] for i in picked], [[references[i] for i in picked]]
        )
        assert values[f"bleu_len_{name}"] == pytest.approx(wanted.score, rel=1e-12)
    assert "bleu_len_51_up" not in values  # there are none


@pytest.mark.parametrize("seed", range(3))
def test_rouge_is_rouge_scores_mean_f1(seed: int) -> None:
    outputs, references, sources = texts(seed)
    values = found(TranslationMetrics(rouge=True), outputs, references, sources)
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    scored = [scorer.score(r, o) for o, r in zip(outputs, references, strict=True)]
    for name in ("rouge1", "rouge2", "rougeL"):
        wanted = 100 * np.mean([one[name].fmeasure for one in scored])
        assert 5 < wanted < 99
        assert values[name] == pytest.approx(wanted, rel=1e-12)


def test_a_longer_word_form_counts_in_rouge() -> None:
    values = found(TranslationMetrics(rouge=True), ["She walks."], ["she walked"], ["x"])
    assert values["rouge1"] == values["rouge2"] == values["rougeL"] == 100


@pytest.mark.parametrize(
    ("outputs", "references"),
    [
        ([""], [""]),
        ([""], ["a b"]),
        (["a b"], [""]),
        (["ab"], ["cd"]),
        (["é"], ["é"]),
        ([" "], ["\n"]),
    ],
)
def test_scores_of_next_to_nothing(outputs: list[str], references: list[str]) -> None:
    values = found(TranslationMetrics(rouge=True), outputs, references, [""])
    for name, reference in (("bleu", BLEU()), ("chrf", CHRF()), ("ter", TER())):
        wanted = reference.corpus_score(outputs, [references]).score
        assert values[name] == pytest.approx(wanted)
    assert values["bleu_len_1_10"] == values["bleu"]
    assert not np.isnan(values["rougeL"])


@pytest.mark.parametrize("seed", range(8))
def test_entities_are_seqevals(seed: int) -> None:
    predicted, true = tags(seed)
    values = found(EntityMetrics(TYPES), predicted, true)
    for name in ("precision", "recall", "f1"):
        score = getattr(seqeval, f"{name}_score")
        assert 0.1 < values[name] < 0.95
        assert values[name] == pytest.approx(score(true, predicted), abs=1e-12)
        for kind, one in zip(sorted(TYPES), score(true, predicted, average=None), strict=True):
            assert values[f"{name}_{kind}"] == pytest.approx(one, abs=1e-12)


def test_entities_at_the_edges() -> None:
    for predicted, true in (
        (["O", "O"], ["O", "O"]),
        (["O", "O"], ["B-PER", "O"]),
        (["I-PER", "I-PER"], ["B-PER", "I-PER"]),
        (["B-PER", "I-LOC"], ["B-PER", "B-LOC"]),
        (["B-PER", "B-PER"], ["B-PER", "I-PER"]),
    ):
        values = found(EntityMetrics(TYPES), [predicted], [true])
        assert values["f1"] == pytest.approx(seqeval.f1_score([true], [predicted]))
    assert set(found(EntityMetrics(TYPES), [], []).values()) == {0.0}
    for bad in (["B-"], ["X-PER"], ["PER"], ["B-MISC"], ["O", "O"]):
        with pytest.raises(ValueError, match=r"tag|type"):
            EntityMetrics(TYPES).update([bad], [["O"]])


@pytest.mark.parametrize("num", [2, 3, 7])
def test_classes_are_scikit_learns_and_torchmetrics(num: int) -> None:
    for seed in range(8):
        probabilities, labels = classes(seed, num, 9 if seed == 7 else 200)
        values = found(ClassificationMetrics(num), probabilities, labels)
        predicted = probabilities.argmax(1)
        a, b = labels.numpy(), predicted.numpy()
        assert values["accuracy"] == pytest.approx(sklearn.accuracy_score(a, b))
        assert values["macro_f1"] == pytest.approx(sklearn.f1_score(a, b, average="macro"))
        assert values["mcc"] == pytest.approx(sklearn.matthews_corrcoef(a, b))
        wanted = functional.matthews_corrcoef(predicted, labels, "multiclass", num_classes=num)
        assert values["mcc"] == pytest.approx(wanted.item(), abs=1e-6)
        wanted = multiclass_f1_score(predicted, labels, num, average="macro")
        assert values["macro_f1"] == pytest.approx(wanted.item(), abs=1e-6)
        assert ("f1" in values) == (num == 2)
        if num == 2:
            assert values["f1"] == pytest.approx(sklearn.f1_score(a, b))


@pytest.mark.parametrize(
    ("predicted", "labels"),
    [
        ([0, 0], [0, 0]),
        ([1, 1], [1, 1]),
        ([0, 0], [1, 1]),
        ([1, 0], [1, 1]),
        ([0, 0, 0], [0, 1, 1]),
    ],
)
def test_classes_at_the_edges(predicted: list[int], labels: list[int]) -> None:
    values = found(ClassificationMetrics(2), one_hot(predicted), torch.tensor(labels))
    assert values["f1"] == pytest.approx(sklearn.f1_score(labels, predicted, zero_division=0))
    macro = sklearn.f1_score(labels, predicted, average="macro", zero_division=0)
    assert values["macro_f1"] == pytest.approx(macro)
    assert values["mcc"] == pytest.approx(sklearn.matthews_corrcoef(labels, predicted))


def test_no_classes_and_wrong_ones() -> None:
    empty = torch.zeros(0, dtype=torch.int64)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        values = found(ClassificationMetrics(2), one_hot([]), empty)
        assert set(values) == {"accuracy", "macro_f1", "mcc", "ece", "f1", "classes_predicted"}
        assert all(np.isnan(v) for v in values.values())
    for bad in ([2], [-1], [0, 0]):
        with pytest.raises(ValueError, match=r"class|probabilities"):
            ClassificationMetrics(2).update(one_hot([0]), torch.tensor(bad))
    with pytest.raises(ValueError, match="2 classes"):
        ClassificationMetrics(2).update(torch.ones(1, 3), torch.tensor([0]))


def one_hot(predicted: list[int]) -> Tensor:
    return torch.eye(2)[torch.tensor(predicted, dtype=torch.int64)]


def everything(begin: int, end: int | None) -> dict[str, float]:
    """All metrics over a share of the examples, their sums made half precision's as a module's would be."""
    out = {}
    for i, (metric, columns) in enumerate(
        (
            (TranslationMetrics(rouge=True), texts(0)),
            (EntityMetrics(TYPES), tags(0)),
            (ClassificationMetrics(3), classes(0, 3)),
            (RegressionMetrics(), numbers(0)),
            (RegressionMetrics(), numbers(0, 11)),  # all in the first share
            (AnswerMetrics(), answers(0)),
        )
    ):
        share = [side[begin:end] for side in columns]
        out |= {f"{i}.{k}": v for k, v in found(metric.half(), *share).items()}
    return out


def one_of_two(world_size: int) -> dict[str, float]:
    rank = int(os.environ["LOCAL_RANK"])
    dist.init_process_group("gloo", rank=rank, world_size=world_size)
    out = everything(*((0, 11), (11, None))[rank])
    dist.destroy_process_group()
    return out


def test_two_processes_with_unequal_shares_find_what_one_finds() -> None:
    whole = everything(0, None)
    assert len(whole) == 37
    for both in ranks.run(2, one_of_two):
        assert both == pytest.approx(whole, rel=1e-12)  # F1s are summed in another order
    assert everything(0, 11) != whole
