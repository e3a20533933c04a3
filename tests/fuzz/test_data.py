"""Whatever a corpus holds: a step is trained with a finite loss, or one clear error says what is wrong; and every
line of every file is accounted for.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import torch
from hypothesis import HealthCheck, Phase, given, seed, settings

from lit_lm import (
    BidirectionalLM,
    CausalLM,
    MaskedLM,
    MaskedTextData,
    PairData,
    RNNConfig,
    TextData,
    Translation,
)
from lit_lm import data as lit_data
from lit_lm.data import Holdout, TokenizerConfig
from lit_lm.data.masked_rows import Masking
from lit_lm.errors import InputError
from tests import tiny
from tests.fuzz.corpora import (
    BATCHES,
    PAIR_MODULES,
    TEXT_MODULES,
    TOKENIZER_KINDS,
    Corpus,
    corpora,
    tokenizers,
)

RNN = RNNConfig(d_model=16, d_hidden=16, dropout=0.0)
TASKS = {
    "causal": (CausalLM, tiny.GPT, TextData),
    "bidirectional": (BidirectionalLM, tiny.ELMO, TextData),
    "masked": (MaskedLM, tiny.BERT, MaskedTextData),
    "pairs": (Translation, tiny.TRANSFORMER, PairData),
    "rnn": (Translation, RNN, PairData),
}


def fuzz(examples: int, **strategies: Any) -> Callable[[Any], Any]:
    """A test over so many examples, the same every time while they are few."""

    def decorate(test: Any) -> Any:
        quiet = settings(
            max_examples=examples,
            derandomize=examples < 1000,
            database=None,
            deadline=None,
            phases=[Phase.generate],
            suppress_health_check=list(HealthCheck),
        )
        return quiet(given(**strategies)(test))

    return decorate


def make_source(corpus: Corpus, folder: Path) -> Any:
    for name, content in corpus.files.items():
        (folder / name).write_bytes(content)
    options = dict(corpus.settings)
    for split in ("train", "val"):
        names = options.get(split)
        if names is not None:
            paths = [str(folder / n) for n in ([names] if isinstance(names, str) else names)]
            options[split] = paths if corpus.source == "ParallelFiles" else paths[0]
    if "holdout" in options:
        options["holdout"] = Holdout(**options["holdout"])
    return getattr(lit_data, corpus.source)(**options)


def make(corpus: Corpus, tokenizer: Any, module: Any, batch: Any, folder: Path) -> tuple[Any, Any]:
    kind, options = module
    task, net, data_type = TASKS[kind]
    options = dict(options)
    if "masking" in options:
        options["masking"] = Masking(**options["masking"])
    data = data_type(make_source(corpus, folder), TokenizerConfig(**tokenizer), **options, **batch)
    return task(net, data.spec, tiny.OPTIM), data


def step(task: Any, data: Any) -> None:
    """What a trainer does, without the trainer: a step on a training batch, and a validation batch."""
    optimizer = task.optim.build(task)
    for batch in itertools.islice(data.train_dataloader(), 1):
        loss = task.loss(batch)
        (loss.total / loss.targets.clamp(min=1)).backward()
        assert torch.isfinite(loss.total)
        optimizer.step()
    assert all(p.isfinite().all() for p in task.parameters())
    task.eval()
    for batch in itertools.islice(data.val_dataloader(), 1):
        assert torch.isfinite(task.loss(batch).total)


def check_account(corpus: Corpus, report: Any) -> None:
    """Lines read are those that the files have, and those that are used and those that are left out."""
    for split, its in report.inputs.items():
        names = corpus.settings[split]
        content = corpus.files[names if isinstance(names, str) else names[0]]
        lines = content.count(b"\n") + (not content.endswith(b"\n"))
        assert its.lines == lines == its.used + sum(its.left.values())
        assert set(its.left) <= {"blank", "header", "empty"}
    assert set(report.inputs) == {"train", "val"} & set(corpus.settings)
    documents = report.splits["train"].documents
    by = corpus.settings.get("holdout", {}).get("by")
    if by in ("last", "random"):
        documents += report.splits["val"].documents
    own_lines = corpus.source != "TextFiles" or corpus.settings["documents"] == "line"
    if own_lines and by != "characters":  # a document is a line
        assert documents == report.inputs["train"].used


def run(counts: Counter[str], folder: Path, corpus: Corpus, *parts: Any) -> None:
    try:
        task, data = make(corpus, *parts, folder)
        step(task, data)
    except InputError:
        counts["refused"] += 1
        return
    check_account(corpus, data.prepared.report)
    counts["trained"] += 1
    counts[corpus.source] += 1
    counts[parts[1][0]] += 1
    counts[parts[0]["kind"]] += 1


def cases(examples: int, folder: Path, *, pairs: bool) -> Counter[str]:
    """So many examples three times for every kind of tokenizer: left to itself hypothesis dwells on a few."""
    counts: Counter[str] = Counter()
    modules = PAIR_MODULES if pairs else TEXT_MODULES
    for number, kind in enumerate(3 * TOKENIZER_KINDS):

        @seed(number)
        @fuzz(
            examples,
            corpus=corpora(pairs),
            tokenizer=tokenizers(kind),
            module=modules,
            batch=BATCHES,
        )
        def test(corpus: Corpus, tokenizer: Any, module: Any, batch: Any) -> None:
            run(counts, folder, corpus, tokenizer, module, batch)

        test()
    return counts


def test_texts_train_or_are_refused(own_cache: Path) -> None:
    counts = cases(14, own_cache, pairs=False)
    assert counts["trained"] > 60, counts
    assert counts["refused"] > 40, counts
    for name in (
        "TextFiles",
        "JsonLinesText",
        "TsvText",
        "causal",
        "bidirectional",
        "masked",
        *TOKENIZER_KINDS,
    ):
        assert counts[name] > 0, (name, counts)


def test_pairs_train_or_are_refused(own_cache: Path) -> None:
    counts = cases(10, own_cache, pairs=True)
    assert counts["trained"] > 15, counts
    assert counts["refused"] > 15, counts
    for name in ("ParallelFiles", "JsonLinesPairs", "TsvPairs", "pairs", "rnn"):
        assert counts[name] > 0, (name, counts)


@pytest.mark.slow
@pytest.mark.timeout(3600)
def test_many_corpora(own_cache: Path) -> None:
    for counts in (cases(220, own_cache, pairs=False), cases(110, own_cache, pairs=True)):
        assert counts["trained"] > 500, counts
        assert counts["refused"] > 500, counts
