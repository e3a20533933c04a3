"""A small experiment, and what may be done to its settings."""

from __future__ import annotations

import copy
from pathlib import Path
from typing import Any

import yaml
from hypothesis import strategies as st

HUGE = 10**30
WRONG: list[Any] = [
    *(None, True, "x", "", " ", [], [1], ["a"], {}, {"a": 1}, "a\0b", "lit_lm.nothing", "null"),
    *(-1, 0, 1.5, HUGE, -HUGE, 1 << 63, float("nan"), float("inf"), -0.5, 1e-320),
]  # fmt: skip


def experiment(folder: Path, kind: str) -> dict[str, Any]:
    """One of five experiments that train a step in a tenth of a second."""
    text, sides = str(folder / "text.txt"), [str(folder / "src.txt"), str(folder / "tgt.txt")]
    source, net = "TextFiles", {"d_model": 8}
    data: dict[str, Any] = {
        "tokenizer": {"kind": "word", "vocab_size": 99},
        "batch_size": 4,
        "seed": 1,
    }
    if kind in ("gpt", "elmo"):
        data |= {"length": 16, "rows": "documents"}
        module, task, config = "TextData", "CausalLM", "GPTConfig"
    if kind == "elmo":
        data |= {"characters": 6}
        task, config = "BidirectionalLM", "ELMoConfig"
        net |= {"filters": [[1, 4]], "d_cell": 8, "num_highway": 1, "char_dim": 4}
    elif kind == "bert":
        data |= {"max_length": 16, "masking": {"probability": 0.2}}
        module, task, config = "MaskedTextData", "MaskedLM", "BERTConfig"
    elif kind != "gpt":
        source, data = "ParallelFiles", data | {"max_length": 32}
        module, task, config = (
            "PairData",
            "Translation",
            "RNNConfig" if kind == "rnn" else "TransformerConfig",
        )
    if kind == "rnn":
        net |= {"d_hidden": 8}
    elif kind != "elmo":
        net |= {"num_layers": 1, "num_heads": 2, "dropout": 0.1, "norm_eps": 1e-5}
    paths = sides if source == "ParallelFiles" else text
    return {
        "run": {"name": "r", "dir": str(folder / "runs"), "wandb": "disabled"},
        "budget": {"unit": "steps", "amount": 1},
        "trainer": {
            **dict.fromkeys(("logger", "enable_progress_bar", "enable_checkpointing"), False),
            "enable_model_summary": False,
            "callbacks": [],
            "accelerator": "cpu",
            "limit_val_batches": 1,
            "gradient_clip_val": 1.0,
            "accumulate_grad_batches": 1,
        },
        "data": {
            "class_path": f"lit_lm.data.{module}",
            "init_args": {
                "source": {
                    "class_path": f"lit_lm.data.{source}",
                    "init_args": {"train": paths, "holdout": {"val": 0.2, "by": "last"}},
                },
                **data,
            },
        },
        "model": {
            "class_path": f"lit_lm.tasks.{task}",
            "init_args": {
                "net": {"class_path": f"lit_lm.models.{config}", "init_args": net},
                "optim": {
                    "lr": 0.01,
                    "betas": [0.9, 0.98],
                    "eps": 1e-9,
                    "warmup_steps": 2,
                    "schedule": "linear",
                },
            },
        },
    }


def paths(tree: Any, before: tuple[str, ...] = ()) -> list[tuple[str, ...]]:
    """Every key of nested mappings, as the way to it."""
    if not isinstance(tree, dict):
        return []
    return [way for k, v in tree.items() for way in ((*before, k), *paths(v, (*before, k)))]


def put(tree: dict[str, Any], way: tuple[str, ...], value: Any) -> dict[str, Any]:
    """A copy with another value at the end of a way."""
    out = copy.deepcopy(tree)
    at = out
    for key in way[:-1]:
        at = at[key]
    at[way[-1]] = value
    return out


# What would run for as long as it says: right, but no test. And what is the trainer's own to judge.
ENDLESS = {("budget", "amount"): (HUGE, 1 << 63), ("trainer", "limit_val_batches"): ()}


@st.composite
def changes(draw: Any, base: dict[str, Any]) -> tuple[str, dict[str, Any], tuple[str, ...]]:
    """What is done, the changed settings, and the way to the key; "none" and "fine" should train."""
    what = draw(st.sampled_from(["value"] * 5 + ["unknown"] * 2 + ["class", "fine"]))
    ways = paths(base)
    if what == "unknown":
        groups = [()] + [w for w in ways if isinstance(_at(base, w), dict)]
        way = (
            *draw(st.sampled_from(groups)),
            draw(st.sampled_from(["bogus", "lenght", "Train", "class"])),
        )
        return what, put(base, way, draw(st.sampled_from([1, "x", None, [], {"a": 1}]))), way
    if what == "class":
        way = draw(st.sampled_from([w for w in ways if w[-1] == "class_path"]))
        names = [
            "lit_lm.data.TextFile",
            "lit_lm.tasks.CausalLMM",
            "os.path.join",
            "",
            "nope",
            3,
            "lit_lm.models.GPT",
        ]
        return what, put(base, way, draw(st.sampled_from(names))), way
    if what == "fine":
        way, values = draw(st.sampled_from(FINE))
        return what, put(base, way, draw(st.sampled_from(values))), way
    way = draw(st.sampled_from([w for w in ways if w[-1] not in ("accelerator", "dir")]))
    values = [v for v in WRONG if v not in ENDLESS.get(way, ())]
    return what, put(base, way, draw(st.sampled_from(values))), way


_DATA, _MODEL = ("data", "init_args"), ("model", "init_args")
FINE = [
    ((*_DATA, "batch_size"), [1, 3, 1 << 40]),
    ((*_DATA, "seed"), [0, 1 << 63]),
    ((*_DATA, "tokenizer"), [{"kind": "char"}, {"kind": "byte"}, {"kind": "word", "lowercase": True}]),
    ((*_MODEL, "optim"), [{"optimizer": "muon"}, {"lr": 0}, {"weight_decay": 0.5}, {"warmup_steps": 1 << 60}]),
    (("run", "name"), ["a b", "ä", "a/b"]),
    (("budget",), [{"unit": "tokens", "amount": 0.5}, {"unit": "flops", "amount": 1}]),
]  # fmt: skip


def _at(tree: Any, way: tuple[str, ...]) -> Any:
    for key in way:
        tree = tree[key]
    return tree


FILES = [
    *("a: [1", "a:\n\t- b", "run: {name: a, name: b}", "- a", "hello", "", "# x", "null", "a: &a [*a]", "run: \0"),
    *("run: !!python/object/apply:os.system ['true']", "---\na: 1\n---\nb: 2", "run: {name: '${nope}'}", "1: 2"),
    *("run: {name: '${oc.env:NO_SUCH_VARIABLE}'}", "run: {name: '${'}", "data: nope.yaml", "run: {<<: 5}", "run: 5"),
    *("[" * 3000, "{" * 3000, "trainer: 5", "run: [1]", "budget: x", "model: {spec: 1}", "data: 5", "model: [x]"),
    *("run: {dir: ''}", "run: {name: ..}", "run: {name: /x}", "seed_everything: -1", "ckpt_path: nope", "%", "? [a]: b"),
]  # fmt: skip


def write(path: Path, content: dict[str, Any] | str | bytes) -> str:
    """Writes a configuration; gives its path."""
    text = yaml.safe_dump(content) if isinstance(content, dict) else content
    path.write_bytes(text if isinstance(text, bytes) else text.encode())
    return str(path)
