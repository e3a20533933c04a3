"""From a curve's YAML to jobs: one for each pre-training, one for each run with labels."""

from __future__ import annotations

import math
from collections.abc import Mapping
from dataclasses import dataclass
from itertools import product
from pathlib import Path
from typing import Any

from lit_lm import configs
from lit_lm.compare.identity import architecture, identity, package_version, read_config
from lit_lm.compare.plan import find
from lit_lm.compare.runner import Job
from lit_lm.curve.config import Curve, Encoder, LabelledTask, Labels, Start
from lit_lm.errors import InputError

_WARM = 10
"""One step in so many warms up."""


@dataclass(frozen=True)
class Planned:
    """A run with labels, and the job that makes it.

    Args:
        task, encoder: what is learned, and who learns it.
        start, labels, seed: the rest of what names it.
        job: what is to be done; None where the encoder's weights could not be made.
        folder: the job's.
    """

    task: LabelledTask
    encoder: Encoder
    start: Start
    labels: Labels
    seed: int
    folder: Path
    job: Job | None


@dataclass(frozen=True)
class _Described:
    """An experiment's file, the files that it is made of, and what is shown of it."""

    path: Path
    files: list[Path]
    architecture: str | None


def pretrainings(curve: Curve, parallel: int, code: str) -> dict[str, Job]:
    """The jobs that make weights, by encoder."""
    jobs = {}
    for encoder in curve.encoders:
        if encoder.pretrain is not None:
            found = _describe(encoder.pretrain, curve)
            payload = _payload(curve, found, list(encoder.pretrain_overrides), parallel, code)
            jobs[encoder.name] = Job(
                f"pre-training of {encoder.name}",
                (curve.folder / "pretraining" / encoder.name).resolve(),
                identity(found.files, encoder.pretrain_overrides, version=package_version()),
                payload,
            )
    return jobs


def plan(curve: Curve, made: Mapping[str, Path | None], parallel: int, code: str) -> list[Planned]:
    """All runs with labels, seed by seed.

    Args:
        curve: what is to be run.
        made: the checkpoint of each encoder that was pre-trained; None where that failed.
        parallel: how many processes run at a time.
        code: digest of the code.

    Raises:
        InputError: a file that is named is not there.
    """
    tasks = {each.name: _describe(each.config, curve) for each in curve.tasks}
    sources = {each.name: _source(each, curve, made) for each in curve.encoders}
    version = package_version()
    out = []
    for seed, each, encoder in product(range(curve.seeds), curve.tasks, curve.encoders):
        for labels, start in product(curve.labels, curve.starts_of(encoder)):
            folder = (curve.folder / each.name / encoder.name).resolve()
            folder /= f"{start}-{labels}-seed{seed}"
            source, found = sources[encoder.name], tasks[each.name]
            job = None
            if source is not None:
                flags = [*curve.overrides, *each.overrides, *encoder.overrides]
                flags += encoder.task_overrides.get(each.name, ())
                flags += getattr(encoder, f"{start}_overrides")
                flags += _flags(curve, start, labels, seed)
                # Where weights lie does not matter, what is in them does.
                rest = {"source": source.kind, "start": start, "version": version}
                made_from = identity([*found.files, *source.files], flags, **rest)
                # A network comes first, so that overrides of its settings are of it.
                flags = ["--run.wandb=disabled", *source.flags(start), *flags]
                payload = _payload(curve, found, flags, parallel, code)
                shown = f"{each.name}, {encoder.name} {start}, {labels} labels, seed {seed}"
                job = Job(shown, folder, made_from, payload)
            out.append(Planned(each, encoder, start, labels, seed, folder, job))
    return out


def steps(curve: Curve, labels: int) -> int:
    """How many steps a run with so many labels takes."""
    return max(curve.least_steps, curve.epochs * math.ceil(labels / curve.batch_size))


def _flags(curve: Curve, start: Start, labels: Labels, seed: int) -> list[str]:
    """What makes the run. No label beyond these chooses anything: the weights at the end are tested."""
    if labels == "all":
        length = [f"--trainer.max_epochs={curve.epochs}", "--trainer.max_steps=-1"]
    else:
        length = [
            f"--data.init_args.examples={labels}",
            f"--trainer.max_steps={steps(curve, labels)}",
            "--trainer.max_epochs=-1",
            # As a share: what is set for whole corpora would be longer than a run with few labels.
            f"--model.init_args.optim.warmup_steps={max(1, steps(curve, labels) // _WARM)}",
        ]
    return [
        f"--data.init_args.batch_size={curve.batch_size}",
        *length,
        f"--data.init_args.examples_seed={seed}",
        f"--data.init_args.seed={seed}",
        f"--seed_everything={seed}",
        "--budget.amount=null",
        "--trainer.limit_train_batches=1.0",
        "--trainer.limit_test_batches=1.0",
        "--trainer.accumulate_grad_batches=1",
        "--trainer.max_time=null",
        "--trainer.limit_val_batches=0",
        "--trainer.enable_checkpointing=false",
        "--trainer.enable_model_summary=false",
        "--trainer.callbacks=[]",
    ]


@dataclass(frozen=True)
class _Source:
    """Where an encoder comes from: weights, or a description only."""

    kind: str
    path: Path
    files: list[Path]

    def flags(self, start: Start) -> list[str]:
        if self.kind == "net":
            return [f"--model.init_args.net={self.path}"]
        weights = "true" if start == "pretrained" else "false"
        return [f"--pretrained.path={self.path}", f"--pretrained.weights={weights}"]


def _source(encoder: Encoder, curve: Curve, made: Mapping[str, Path | None]) -> _Source | None:
    if encoder.net is not None:
        found = _describe(encoder.net, curve)
        return _Source("net", found.path, found.files)
    if encoder.pretrain is not None:
        path = made[encoder.name]
    else:
        path = _weights(encoder, curve)
    if path is None:
        return None
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    return _Source("weights", path, files)


def _weights(encoder: Encoder, curve: Curve) -> Path:
    name = str(encoder.checkpoint)
    for folder in [Path(), *([curve.path.parent] if curve.path else [])]:
        if (folder / name).exists():
            return (folder / name).resolve()
    raise InputError(
        f"encoder {encoder.name}: there is no checkpoint {name!r}: name a file, or a folder of weights"
    )


def _describe(name: str, curve: Curve) -> _Described:
    path = find(name, curve.path.parent if curve.path else None).resolve()
    config, files = read_config(path)
    default = configs.shipped() / "trainer" / "default.yaml"
    files += [default] if default.is_file() else []
    return _Described(path, files, architecture(config))


def _payload(
    curve: Curve, found: _Described, overrides: list[str], parallel: int, code: str
) -> dict[str, Any]:
    return {
        "config": str(found.path),
        "overrides": overrides,
        "budget": None,
        "group": curve.name,
        "architecture": found.architecture or "encoder",
        "tags": ["curve", curve.name],
        "samples": 0,
        "code": code,
        "parallel": parallel,
    }
