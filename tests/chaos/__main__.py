"""``make chaos``: kills real runs of all architectures at random moments, and breaks what they write and talk to.

    python -m tests.chaos [--seed 0] [--kills 5] [--jobs 2] [--only gpt,bert] [--folder DIR]

Each trial is a run of ``lit-lm fit`` that is killed, goes on with ``--ckpt_path=last``, and is compared bit by bit with a
run that was never stopped: weights, optimizer, schedule, counters, random numbers of every rank, logged rows, W&B history.
"""

from __future__ import annotations

import argparse
import random
import signal
import sys
import tempfile
import time
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from tests.chaos import faults
from tests.chaos.runs import EXPERIMENTS, Run, differences, end, wait_for, wandb_steps

TWO = ["--config=trainer/ddp", "--trainer.devices=2", "--data.init_args.num_workers=0"]


@dataclass
class Trial:
    """A kill to be tried.

    Args:
        whole: the run that is never stopped.
        run: the one that is.
        number: the signal.
        share: when, as a share of the time that the whole one trained.
    """

    whole: Run
    run: Run
    number: signal.Signals
    share: float


def main() -> int:
    parser = argparse.ArgumentParser("python -m tests.chaos", description=__doc__)
    parser.add_argument("--seed", type=int, default=0, help="of the moments")
    parser.add_argument("--kills", type=int, default=5, help="for each architecture")
    parser.add_argument("--jobs", type=int, default=2, help="runs at the same time")
    parser.add_argument("--only", default=",".join(EXPERIMENTS), help="architectures")
    parser.add_argument("--folder", help="where runs are kept; a temporary one when not given")
    parser.add_argument("--no_faults", action="store_true", help="kills only")
    options = parser.parse_args()
    started = time.monotonic()
    with tempfile.TemporaryDirectory() as temporary:
        folder = Path(options.folder or temporary)
        rng = random.Random(options.seed)
        names = options.only.split(",")
        pool = ThreadPoolExecutor(options.jobs)
        wholes = {name: Run(name, folder / name / "whole") for name in names}
        # One of the trials of each architecture is of two processes, which have a whole run of their own.
        pairs = {name: Run(name, folder / name / "whole-2", TWO) for name in names}
        todo = [*wholes.values(), *pairs.values()]
        spans = dict(zip(map(id, todo), pool.map(trained_seconds, todo), strict=True))
        trials = [
            Trial(
                whole := (pairs if i == options.kills - 1 else wholes)[name],
                Run(name, folder / name / f"kill-{i}", whole.flags),
                signal.SIGTERM if i % 2 else signal.SIGKILL,
                rng.uniform(0.0, 0.95),
            )
            for name in names
            for i in range(options.kills)
        ]
        print(f"\n{'run':<14}{'processes':>10}{'signal':>9}{'at':>7}{'resumed at':>12}  result")
        results = [
            report(trial, outcome)
            for trial, outcome in zip(
                trials,
                pool.map(lambda t: kill_and_resume(t, spans[id(t.whole)]), trials),
                strict=True,
            )
        ]
        print(f"{sum(results)} of {len(results)} equal to the run that was never stopped")
        if not options.no_faults:
            print(f"\n{'fault':<52}result")
            results += [
                faults.tell(name, error) for name, error in faults.run_all(wholes[names[0]], folder)
            ]
    print(f"\n{time.monotonic() - started:.0f} s")
    return 0 if all(results) else 1


def trained_seconds(run: Run) -> float:
    """Runs to the end; seconds from when everything was set up."""
    process = run.start()
    if not wait_for(run, process, 0.0):
        raise SystemExit(f"{run.folder} never trained:\n{run.tail()}")
    begun = time.monotonic()
    if process.wait(600):
        raise SystemExit(f"{run.folder} failed:\n{run.tail()}")
    return time.monotonic() - begun


def kill_and_resume(trial: Trial, span: float) -> tuple[float, str, list[str]]:
    """Seconds of training until the signal, where it went on, and what is not equal."""
    after = trial.share * span
    process = trial.run.start()
    while not wait_for(trial.run, process, after):
        if process.wait() != 0 or after < 0.01:
            return (
                after,
                "-",
                [f"ended with {process.returncode} before it was killed: {trial.run.tail()}"],
            )
        # It was faster than the whole one: there was nothing left to kill. Again, earlier.
        after /= 2
        trial.run.folder.rename(
            trial.run.folder.with_name(f"{trial.run.folder.name}-early-{after:.2f}")
        )
        process = trial.run.start()
    end(process, trial.number)
    status = process.returncode
    wrong = []
    found = trial.run.checkpoint.exists()
    # Before the first step and behind the last there is nothing to save: a signal ends the process as any other.
    over = not found or trial.run.content()["global_step"] == trial.whole.content()["global_step"]
    if trial.number == signal.SIGTERM and status not in ((0, 143, -15) if over else (143,)):
        wrong.append(f"SIGTERM ended it with {status}")
    step = f"step {trial.run.content()['global_step']}" if found else "new start"
    if trial.run.finish() != 0:
        return after, step, [*wrong, f"did not go on: {trial.run.tail()}"]
    wrong += differences(trial.whole, trial.run)
    if wandb_steps(trial.run) != wandb_steps(trial.whole):
        wrong.append("the W&B history has other steps")
    return after, step, wrong


def report(trial: Trial, outcome: tuple[float, str, list[str]]) -> bool:
    """One line of the table; whether all is equal."""
    after, step, wrong = outcome
    result = "equal" if not wrong else f"DIFFERENT: {'; '.join(wrong[:3])}"
    processes = 2 if trial.run.flags else 1
    print(
        f"{trial.run.experiment:<14}{processes:>10}{trial.number.name:>9}{after:>6.1f}s{step:>12}  {result}",
        flush=True,
    )
    return not wrong


if __name__ == "__main__":
    sys.exit(main())
