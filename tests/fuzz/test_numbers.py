"""Whatever number a size, a rate or a share is: a step is trained with a finite loss, or an error names it."""

from __future__ import annotations

import dataclasses
from collections import Counter
from pathlib import Path
from typing import Any

from hypothesis import strategies as st

from lit_lm import OptimConfig
from lit_lm.data.masked_rows import Masking
from lit_lm.errors import InputError
from tests import tiny
from tests.fuzz.test_data import RNN, TASKS, fuzz, step

NUMBERS = [
    -1,
    0,
    1,
    2,
    3,
    7,
    0.5,
    1.5,
    -0.5,
    1e-320,
    1e-12,
    1e30,
    10**30,
    1 << 62,
    float("nan"),
    float("inf"),
]


def number_fields(config: Any) -> list[str]:
    """Fields of a configuration whose type is a number."""
    return [
        f.name for f in dataclasses.fields(config) if str(f.type).split()[0] in ("int", "float")
    ]


CONFIGS = {
    "causal": tiny.GPT,
    "bidirectional": tiny.ELMO,
    "masked": tiny.BERT,
    "pairs": tiny.TRANSFORMER,
    "rnn": RNN,
    "optim": OptimConfig(warmup_steps=2),
    "muon": OptimConfig(optimizer="muon"),
    "masking": Masking(),
}
FIELDS = [(name, field) for name, config in CONFIGS.items() for field in number_fields(config)]


def number_cases(examples: int, folder: Path) -> Counter[str]:
    tiny.write(folder, count=8)
    counts: Counter[str] = Counter()

    @fuzz(examples, where=st.sampled_from(FIELDS), value=st.sampled_from(NUMBERS))
    def test(where: tuple[str, str], value: float) -> None:
        name, field = where
        if "int" in str(CONFIGS[name].__dataclass_fields__[field].type) and value != value // 1:
            return  # the command line refuses it by its type
        try:
            changed = dataclasses.replace(CONFIGS[name], **{field: value})
            kind = {"optim": "causal", "muon": "causal", "masking": "masked", "rnn": "pairs"}.get(
                name, name
            )
            task, data = tiny.make(
                kind, folder, **({"masking": changed} if name == "masking" else {})
            )
            if name in TASKS:
                task = TASKS[name][0](changed, data.spec, tiny.OPTIM)
            elif name != "masking":
                task.optim = changed
            step(task, data)
        except InputError as error:
            counts["refused"] += 1
            counts["named"] += field in str(error)
        else:
            counts["trained"] += 1

    test()
    return counts


def test_numbers_train_or_are_refused(own_cache: Path) -> None:
    counts = number_cases(190, own_cache)
    assert counts["trained"] > 40, counts
    assert counts["named"] == counts["refused"] > 40, counts
