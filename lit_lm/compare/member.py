"""One member of a comparison: ``python -m lit_lm.compare.member JOB.json``, in its own process.

Trains, tests the best checkpoint, writes samples, and leaves all that it found in ``result.json``.
"""

from __future__ import annotations

import hashlib
import json
import math
import os
import re
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

from lit_lm.compare.curves import read_curves
from lit_lm.compare.files import write_json
from lit_lm.compare.machine import hardware, peak_memory, versions
from lit_lm.errors import InputError

_STEP = re.compile(r"step=(\d+)")


def main(path: Path) -> int:
    """Runs the job; returns the process's exit status."""
    _end_with_parent()
    job: dict[str, Any] = json.loads(path.read_text(encoding="utf-8"))
    folder = path.parent
    started = time.time()
    try:
        from lit_lm.training import run_cli

        cli = run_cli(arguments(job, folder))
        result = collect(cli, job, folder)
    except InputError as error:
        print(f"error: {error}", file=sys.stderr)
        return 1
    if cli.trainer.is_global_zero:
        result["wall_seconds"] = time.time() - started
        write_json(folder / "result.json", result)
    return 0


def arguments(job: dict[str, Any], folder: Path) -> list[str]:
    """The command line of the job. What names the run comes last: no override can change it."""
    pulse = {
        "class_path": "lit_lm.compare.pulse.Pulse",
        "init_args": {"path": str(folder / "progress.json")},
    }
    budget = job["budget"]
    stopped = any((folder / "checkpoints").glob("last*.ckpt"))
    return [
        "fit",
        f"--config={job['config']}",
        *job["overrides"],
        *(
            [f"--budget.unit={budget['unit']}", f"--budget.amount={budget['amount']}"]
            if budget
            else []
        ),
        f"--run.name={folder.name}",
        f"--run.group={job['group']}",
        f"--run.dir={folder.parent}",
        f"--run.job_type={job['architecture']}",
        f"--run.tags={json.dumps(job['tags'])}",
        *(["--ckpt_path=last"] if stopped else []),
        "--trainer.enable_progress_bar=false",
        f"--trainer.callbacks+={json.dumps(pulse)}",
    ]


def collect(cli: Any, job: dict[str, Any], folder: Path) -> dict[str, Any]:
    """Tests a trained run and brings together what a comparison needs to know of it."""
    trainer, task = cli.trainer, cli.model
    memory, memory_of = peak_memory()
    validation = _numbers(trainer.callback_metrics, "val/")
    checkpoint, kind = best_checkpoint(trainer)
    trainer.test(
        task, cli.datamodule, ckpt_path=checkpoint, weights_only=True if checkpoint else None
    )
    test = _numbers(trainer.callback_metrics, "test/")
    totals = _totals(task)
    parameters, embedding_parameters = _parameters(task)
    # Lightning has moved the weights to the CPU when the test was over.
    task.to(trainer.strategy.root_device)
    samples = (
        task.samples(cli.datamodule, split="test", count=job["samples"])
        if trainer.is_global_zero
        else []
    )
    return {
        "identity": job["identity"],
        "league": task.league,
        "architecture": job["architecture"],
        "parameters": parameters,
        "embedding_parameters": embedding_parameters,
        "steps": trainer.global_step,
        "examples": _examples(cli.datamodule),
        **totals,
        "peak_memory_bytes": memory,
        "peak_memory_of": memory_of,
        "test": test,
        "validation": validation,
        "checkpoint": kind,
        "checkpoint_file": None if checkpoint is None else os.path.relpath(checkpoint, folder),
        "evaluation": evaluation(cli.datamodule, trainer),
        "curves": read_curves(folder, job.get("metrics", ())),
        "samples": samples,
        "hardware": hardware(trainer),
        "versions": versions(),
        "code": job["code"],
        "parallel": job["parallel"],
        "wandb_url": _wandb_url(trainer),
    }


def evaluation(data: Any, trainer: Any) -> str | None:
    """Digest of the text that was tested on: equal where numbers compare; None where the data does not say."""
    source = getattr(data, "source", None)
    if source is None:
        return None
    split = source.actual("test")
    given = split in source.given()
    parts = [source.content(split if given else "train"), None if given else repr(source.holdout)]
    parts += [getattr(source, "seed", None), trainer.limit_test_batches]
    return hashlib.blake2b(json.dumps(parts).encode(), digest_size=8).hexdigest()


def best_checkpoint(trainer: Any) -> tuple[str | None, str]:
    """The checkpoint to test (None: the weights as they are), and which one it is, in words.

    A mean of weights counts where all of them are of the second half of the training: in one so short that the mean reaches
    back further, it is worse than its last parts.
    """
    from lit_lm.callbacks import AverageCheckpoints
    from lit_lm.checkpoints import load

    for averaging in trainer.checkpoint_callbacks:
        if isinstance(averaging, AverageCheckpoints) and averaging.average.is_file():
            kept = load(averaging.average, lazily=True)["averaged"]
            steps = [int(step[1]) for name in kept if (step := _STEP.search(name))]
            if not steps or 2 * min(steps) >= trainer.global_step:
                return str(averaging.average), f"average of {len(kept)}"
    callback = trainer.checkpoint_callback
    best = getattr(callback, "best_model_path", "")
    if best:
        monitor = getattr(callback, "monitor", None)
        return best, f"best {monitor}" if monitor else "last"
    last = getattr(callback, "last_model_path", "")
    return (last, "last") if last else (None, "the weights at the end of training")


def _numbers(metrics: Any, prefix: str) -> dict[str, float | None]:
    found = {k.removeprefix(prefix): float(v) for k, v in metrics.items() if k.startswith(prefix)}
    return {key: value if math.isfinite(value) else None for key, value in found.items()}


def _totals(task: Any) -> dict[str, float | None]:
    counted: dict[str, float] = task.meter.totals
    return {key: counted.get(key) for key in ("tokens", "bytes", "flops", "seconds")}


def _examples(data: Any) -> int | None:
    """How many labelled examples were trained on; None of data without labels."""
    return len(data.examples("train")) if hasattr(data, "examples") else None


def _parameters(task: Any) -> tuple[int, int]:
    """Trainable numbers of the network, and how many of all stand in tables that are looked up."""
    from torch import nn

    tables = {id(m.weight): m.weight for m in task.net.modules() if isinstance(m, nn.Embedding)}
    trained = sum(p.numel() for p in task.net.parameters() if p.requires_grad)
    return trained, sum(table.numel() for table in tables.values())


def _wandb_url(trainer: Any) -> str | None:
    wandb = next(
        (
            logger
            for logger in trainer.loggers
            if hasattr(logger, "experiment") and "Wandb" in type(logger).__name__
        ),
        None,
    )
    return None if wandb is None else getattr(wandb.experiment, "url", None)


def _end_with_parent() -> None:
    """Ends this process, and all that it has started, soon after its parent is gone."""
    parent = os.getppid() if hasattr(os, "getpgrp") and os.getpgrp() == os.getpid() else None

    def watch() -> None:
        while os.getppid() == parent:
            time.sleep(1.0)
        os.killpg(os.getpgrp(), signal.SIGKILL)

    if parent is not None:
        threading.Thread(target=watch, daemon=True).start()


if __name__ == "__main__":
    sys.exit(main(Path(sys.argv[1])))
