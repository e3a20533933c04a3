"""What a curve's YAML may say. Mistakes are reported with place and way out."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Literal

from lit_lm.compare.keys import flags, mapping, name_of, read, text, unlike
from lit_lm.errors import InputError

Start = Literal["scratch", "pretrained"]
Labels = int | Literal["all"]

STARTS: tuple[Start, ...] = ("scratch", "pretrained")
# What can stand on the upright axis: how it is called, and what one of its units is worth in the table.
METRICS = {
    "accuracy": ("accuracy, %", 0.01),
    "f1": ("F1, %", 0.01),
    "macro_f1": ("macro F1, %", 0.01),
    "precision": ("precision, %", 0.01),
    "recall": ("recall, %", 0.01),
    "exact_match": ("exact match, %", 0.01),
    "mcc": ("Matthews correlation", 1.0),
    "pearson": ("Pearson correlation", 1.0),
    "spearman": ("Spearman correlation", 1.0),
}


@dataclass(frozen=True)
class LabelledTask:
    """One task with labels.

    Args:
        name: how it is called in the table and on its panel.
        config: the experiment's YAML: a path, or the name of a shipped one.
        metric: which of its test metrics is drawn; one of ``METRICS``.
        overrides: flags for every run of the task.
    """

    name: str
    config: str
    metric: str = "accuracy"
    overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Encoder:
    """One encoder, from exactly one of ``pretrain``, ``checkpoint`` and ``net``.

    Args:
        name: how it is called in the table and the legend.
        pretrain: an experiment that trains it without labels: run once, before everything else.
        checkpoint: a checkpoint, or a folder of weights, that is there.
        net: an architecture without weights, such as ``model/bilstm``: from scratch only.
        overrides: flags for every run with labels of this encoder.
        scratch_overrides: flags for those from scratch, such as a learning rate that suits fresh weights.
        pretrained_overrides: flags for those with pre-trained weights.
        task_overrides: flags for those of a task, by its name.
        pretrain_overrides: flags for its pre-training.
    """

    name: str
    pretrain: str | None = None
    checkpoint: str | None = None
    net: str | None = None
    overrides: tuple[str, ...] = ()
    scratch_overrides: tuple[str, ...] = ()
    pretrained_overrides: tuple[str, ...] = ()
    task_overrides: Mapping[str, tuple[str, ...]] = field(default_factory=dict)
    pretrain_overrides: tuple[str, ...] = ()


@dataclass(frozen=True)
class Curve:
    """Tasks x encoders x starts x numbers of labels x seeds.

    Args:
        name: folder below ``output_dir``.
        tasks: what is learned with labels.
        encoders: who learns it.
        labels: numbers of labelled examples to train on, rising; "all" comes last.
        starts: from "pretrained" weights, from "scratch", or both.
        seeds: how many runs each point has: seeds 0, 1, ... choose the examples, the fresh weights and the order.
        epochs: a run sees its examples at least so often ...
        least_steps: ... and takes at least so many steps; of "all" examples only ``epochs`` counts.
        batch_size: examples of a step.
        output_dir: where curves are kept.
        overrides: flags for every run with labels; a task's and an encoder's come later and win.
        path: the YAML it was read from; relative names in it are looked for beside it.
    """

    name: str
    tasks: tuple[LabelledTask, ...]
    encoders: tuple[Encoder, ...]
    labels: tuple[Labels, ...]
    starts: tuple[Start, ...] = STARTS
    seeds: int = 5
    epochs: int = 10
    least_steps: int = 200
    batch_size: int = 16
    output_dir: str = "runs/curve"
    overrides: tuple[str, ...] = ()
    path: Path | None = None

    @property
    def folder(self) -> Path:
        """Where everything of this curve is written."""
        return Path(self.output_dir) / self.name

    def starts_of(self, encoder: Encoder) -> tuple[Start, ...]:
        """The starts that an encoder can take, in order."""
        return tuple(s for s in self.starts if s == "scratch" or encoder.net is None)


def load(path: Path) -> Curve:
    """Reads a curve's YAML.

    Raises:
        InputError: the file is missing, is no YAML, or says something that is not understood.
    """
    required = ("tasks", "encoders", "labels")
    top = mapping(read(path), Curve, str(path), required=required, hidden=("path",))
    counts = {
        key: _count(top.get(key, getattr(Curve, key)), f"{path}: {key}")
        for key in ("seeds", "epochs", "least_steps", "batch_size")
    }
    curve = Curve(
        name=name_of(top.get("name", path.stem), f"{path}: name"),
        tasks=tuple(_task(raw, where) for where, raw in _items(top["tasks"], f"{path}: tasks")),
        encoders=tuple(
            _encoder(raw, where) for where, raw in _items(top["encoders"], f"{path}: encoders")
        ),
        labels=_labels(top["labels"], f"{path}: labels"),
        starts=_starts(top.get("starts", list(STARTS)), f"{path}: starts"),
        output_dir=text(top.get("output_dir", Curve.output_dir), f"{path}: output_dir"),
        overrides=flags(top.get("overrides"), f"{path}: overrides"),
        path=path,
        **counts,
    )
    names = [task.name for task in curve.tasks]
    unlike(names, f"{path}: two tasks")
    for i, encoder in enumerate(curve.encoders):
        for name in encoder.task_overrides:
            if name not in names:
                raise InputError(
                    f"{path}: encoders[{i}].task_overrides: there is no task {name!r}; there are {', '.join(names)}"
                )
    unlike([encoder.name for encoder in curve.encoders], f"{path}: two encoders")
    idle = [encoder.name for encoder in curve.encoders if not curve.starts_of(encoder)]
    if idle:
        raise InputError(
            f"{path}: {idle[0]} has no weights to start from: add scratch to starts, or leave it out"
        )
    return curve


def _task(raw: Any, where: str) -> LabelledTask:
    values = mapping(raw, LabelledTask, where, required=("name", "config"))
    metric = values.get("metric", LabelledTask.metric)
    if metric not in METRICS:
        raise InputError(f"{where}.metric is {metric!r}: choose one of {', '.join(METRICS)}")
    return LabelledTask(
        name=name_of(values["name"], f"{where}.name"),
        config=text(values["config"], f"{where}.config"),
        metric=metric,
        overrides=flags(values.get("overrides"), f"{where}.overrides"),
    )


def _encoder(raw: Any, where: str) -> Encoder:
    values = mapping(raw, Encoder, where, required=("name",))
    sources = {
        key: text(values[key], f"{where}.{key}")
        for key in ("pretrain", "checkpoint", "net")
        if values.get(key) is not None
    }
    if len(sources) != 1:
        found = " and ".join(sources) or "none"
        raise InputError(
            f"{where}: give exactly one of pretrain (an experiment), checkpoint (weights that are there) "
            f"and net (an architecture without weights); found {found}"
        )
    before = flags(values.get("pretrain_overrides"), f"{where}.pretrain_overrides")
    if before and "pretrain" not in sources:
        raise InputError(f"{where}.pretrain_overrides: there is no pretrain that they could change")
    changes = {
        key: _of_labels(flags(values.get(key), f"{where}.{key}"), f"{where}.{key}")
        for key in ("overrides", "scratch_overrides", "pretrained_overrides")
    }
    return Encoder(
        name=name_of(values["name"], f"{where}.name"),
        overrides=changes["overrides"],
        scratch_overrides=changes["scratch_overrides"],
        pretrained_overrides=changes["pretrained_overrides"],
        task_overrides=_by_task(values.get("task_overrides"), f"{where}.task_overrides"),
        pretrain_overrides=before,
        **sources,
    )


_EXAMPLES = re.compile(
    r"--(config|data|data\.class_path|data(\.init_args|\.dict_kwargs)?|data(\.init_args)?\.source\b.*)\+?="
)
"""Flags that can change which examples there are: some by naming a file."""


def _of_labels(given: tuple[str, ...], where: str) -> tuple[str, ...]:
    """Flags of an encoder, which may not change what its runs learn from and are tested on."""
    wrong = next((flag for flag in given if _EXAMPLES.match(flag)), None)
    if wrong is not None:
        raise InputError(
            f"{where}: {wrong!r} gives this encoder other examples than the others: put it into the task's overrides"
        )
    return given


def _by_task(raw: Any, where: str) -> dict[str, tuple[str, ...]]:
    if raw is None:
        return {}
    if not isinstance(raw, dict):
        raise InputError(f"{where} is {raw!r}: it must name tasks, each with a list of flags")
    return {
        str(name): _of_labels(flags(its, f"{where}.{name}"), f"{where}.{name}")
        for name, its in raw.items()
    }


def _labels(raw: Any, where: str) -> tuple[Labels, ...]:
    labels = raw if isinstance(raw, list) else []
    counts = labels[:-1] if labels and labels[-1] == "all" else labels
    rising = all(_is_count(count) for count in counts) and counts == sorted(set(counts))
    if not labels or not rising:
        raise InputError(
            f"{where} is {raw!r}: it must be a list of rising counts, such as [10, 100, all]"
        )
    return tuple(labels)


def _starts(raw: Any, where: str) -> tuple[Start, ...]:
    chosen = raw if isinstance(raw, list) else []
    if not chosen or any(start not in STARTS for start in chosen):
        raise InputError(f"{where} is {raw!r}: it must be a list of {' and '.join(STARTS)}")
    return tuple(start for start in STARTS if start in chosen)


def _items(raw: Any, where: str) -> list[tuple[str, Any]]:
    if not isinstance(raw, list) or not raw:
        raise InputError(f"{where} must be a list of at least one {{name: ..., ...}}")
    return [(f"{where}[{i}]", item) for i, item in enumerate(raw)]


def _count(raw: Any, where: str) -> int:
    if not _is_count(raw):
        raise InputError(f"{where} is {raw!r}: it must be a whole number above 0")
    return int(raw)


def _is_count(raw: Any) -> bool:
    return isinstance(raw, int) and not isinstance(raw, bool) and raw > 0
