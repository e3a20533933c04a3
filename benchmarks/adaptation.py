"""How well pre-trained encoders adapt: fine-tunes each from a checkpoint and tests its last weights, by the commands that
anyone would type. Started again, it goes on where it stopped.

    python -m benchmarks.adaptation --encoder minilm=minilm.ckpt --only sst2,conll2003,rte --seeds 0,1,2

Needs the corpora (LIT_LM_DATA), and an encoder: a checkpoint, or a folder of weights that ``lit-lm import`` reads. Writes one
JSON and one Markdown table of all that has been measured so far. Curves over numbers of labels are ``lit-lm curve``'s.
"""

from __future__ import annotations

import argparse
import csv
import hashlib
import json
import os
import statistics
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import held_back, report
from benchmarks.runs import Run, add, lit_lm, places, recipe, trained, verdict
from lit_lm.compare.files import write_text

RESULTS = Path("docs/results/adaptation")
HELD_BACK = "held_back"
"""What the labels of such runs begin with."""


@dataclass(frozen=True)
class Row:
    """A task for an encoder.

    Args:
        experiment: its name in configs/experiment.
        encoder: the encoder's name on the command line of this script.
        metric: the metric of its test that has a bar.
        bar: the least that its mean over seeds must be.
        seeds: how many seeds that is.
        flags: further flags of ``lit-lm fit``.
    """

    experiment: str
    encoder: str
    metric: str
    bar: float
    seeds: int
    flags: tuple[str, ...] = ()

    def held_back(self, folder: Path) -> tuple[str, ...]:
        """Flags that train on what is left of the training text, and test on what is kept back."""
        left, kept = held_back.keep_back(self.experiment, folder)
        source = "--data.init_args.source.init_args"
        return f"{source}.train={left}", f"{source}.val={kept}"


ROWS = (
    Row("conll2003", "minilm", "f1", 0.915, 3),
    Row("rte", "minilm", "accuracy", 0.60, 5, ("--model.init_args.head.pooling=mean",)),
    Row(
        "sst2",
        "minilm",
        "accuracy",
        0.90,
        3,
        ("--model.init_args.head.pooling=mean",),
    ),
)


def main() -> None:
    """Works through rows and seeds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.adaptation", description=__doc__)
    names = [row.experiment for row in ROWS]
    parser.add_argument("--encoder", required=True, help="its name and where it is: minilm=FILE")
    parser.add_argument("--only", default=",".join(names), help="tasks, with commas between them")
    parser.add_argument("--seeds", default="0", help="seeds, with commas between them")
    parser.add_argument("--flags", default="", help="further flags of lit-lm fit, with spaces")
    parser.add_argument("--label", default="", help="names what these flags change")
    parser.add_argument(
        "--held_back",
        action="store_true",
        help="train on a part of the training text and test on the rest of it: what settings are chosen by",
    )
    parser.add_argument("--runs", default="runs/adaptation", help="where runs are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="without ending")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"no task {unknown[0]!r}; there are {', '.join(names)}")
    if bool(options.label) != bool(options.flags):
        parser.error("--label and --flags go together: a name, and what is different")
    if "LIT_LM_DATA" not in os.environ:
        parser.error("LIT_LM_DATA must name the folder that holds the corpora")
    encoder, _, path = options.encoder.partition("=")
    if not Path(path).exists():
        parser.error(f"--encoder={options.encoder}: no such file or folder; give NAME=PATH")
    rows = [row for row in ROWS if row.experiment in wanted and row.encoder == encoder]
    if not rows:
        parser.error(
            f"--encoder={options.encoder}: no row has an encoder {encoder!r}; there are "
            f"{', '.join(sorted({row.encoder for row in ROWS}))}"
        )
    runs, label = Path(options.runs), options.label
    if options.held_back:
        label = "_".join(filter(None, (HELD_BACK, label)))
    split = {row: row.held_back(runs / HELD_BACK) for row in rows if options.held_back}
    for row in rows:
        flags = (*row.flags, *options.flags.split(), *split.get(row, ()))
        for seed in map(int, options.seeds.split(",")):
            found = measure(row, path, label, flags, seed, runs)
            add(options.out, [found], key, page)
            print(f"{row.experiment} {encoder}, seed {seed}: {found['test']}", flush=True)


def measure(
    row: Row, path: str, label: str, flags: tuple[str, ...], seed: int, runs: Path
) -> dict[str, Any]:
    """Fine-tunes and tests one run."""
    name = "_".join(filter(None, (row.experiment, row.encoder, label, str(seed))))
    folder = runs / name
    about, done, tested = (folder / f"{n}.json" for n in ("recipe", "trained_on", "tested"))
    now = {"flags": flags, "files": recipe(row.experiment), "encoder": digest(Path(path))}
    if about.is_file() and json.loads(about.read_text()) != json.loads(json.dumps(now)):
        raise SystemExit(
            f"{folder} was trained by another recipe than configs/experiment/{row.experiment}.yaml is now, or from another "
            "encoder: move it away, or give the new one a --label"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(about, json.dumps(now))
    named = ["--config", f"experiment/{row.experiment}", f"--run.dir={runs}", f"--run.name={name}"]
    if not done.is_file():
        seeds = [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
        lit_lm(*("fit", *named, "--ckpt_path=last", f"--pretrained.path={path}", *seeds, *flags))
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        write_text(done, json.dumps({"threads": threads, "about": report.machine({})}))
    if not tested.is_file():
        data = [flag for flag in flags if flag.startswith("--data.")]
        lit_lm("test", *named, "--ckpt_path=last", "--run.wandb=disabled", *data)
        last = _csv(folder / "test" / "metrics.csv")[-1]
        values = {
            k.removeprefix("test/"): float(v)
            for k, v in last.items()
            if k.startswith("test/") and v
        }
        rows = _csv(folder / "metrics.csv")
        seconds = max(float(r["seconds"]) for r in rows if r.get("seconds"))
        write_text(tested, json.dumps({"test": values, "train_seconds": seconds}))
    return {
        "experiment": row.experiment,
        "encoder": row.encoder,
        "label": label,
        "flags": " ".join(flags),
        "seed": seed,
        **json.loads(tested.read_text()),
        **json.loads(done.read_text()),
    }


def _csv(path: Path) -> list[dict[str, str]]:
    with path.open() as file:
        return list(csv.DictReader(file))


def digest(path: Path) -> str:
    """Of a file, or of all files of a folder."""
    files = sorted(p for p in path.rglob("*") if p.is_file()) if path.is_dir() else [path]
    made = hashlib.sha256()
    for file in files:
        with file.open("rb") as opened:
            made.update(hashlib.file_digest(opened, "sha256").digest())
    return made.hexdigest()[:16]


def key(run: Run) -> tuple[str, str, str, int]:
    """What a run is known by."""
    return run["experiment"], run["encoder"], run["label"], run["seed"]


def page(runs: list[Run]) -> str:
    """All runs as Markdown."""
    lines = [
        "# Adaptation",
        "",
        "Made by `python -m benchmarks.adaptation`: an encoder is fine-tuned by the recipe of configs/experiment with the flags",
        "below, and its last weights, whatever their validation, are tested on the validation text. The recipe of CoNLL-2003 was",
        "chosen on that text with seed 0 (sentences in context, the CRF), so that seed 0 may flatter it; the learning rate of",
        "SST-2 on sentences kept back of its training text (`--held_back`); mean pooling is how MiniLM itself was trained.",
        "Times are of machines that had other work to do: on the GPU up to fifteen runs went side by side. On",
        f"{places(runs)}.",
        "",
    ]
    for row in ROWS:
        mine = [r for r in runs if (r["experiment"], r["encoder"]) == (row.experiment, row.encoder)]
        for label in sorted({run["label"] for run in mine}):
            lines += _table(row, [run for run in mine if run["label"] == label])
    return "\n".join(lines)


def _table(row: Row, runs: list[Run]) -> list[str]:
    names = [n for n in runs[0]["test"] if n not in ("rows",)]
    label = runs[0]["label"]
    flags = f" (`{runs[0]['flags']}`)" if runs[0]["flags"] else ""
    lines = [
        f"## {row.experiment}, {row.encoder}{', ' + label if label else ''}{flags}",
        "",
        f"| | {' | '.join(names)} | training |",
        "|---" * (len(names) + 2) + "|",
    ]
    for run in runs:
        cells = " | ".join(f"{run['test'][name]:.4f}" for name in names)
        lines.append(f"| seed {run['seed']} | {cells} | {trained(run)} |")
    values = [run["test"][row.metric] for run in runs]
    mean = statistics.mean(values)
    spread = f", standard deviation {statistics.stdev(values):.4f}" if len(values) > 1 else ""
    told = f"{row.metric}: mean {mean:.4f}{spread}"
    if not label.startswith(HELD_BACK):  # that is another text, for which there is no bar
        told += f"; bar {row.bar:g}: {verdict(values, row.bar, row.seeds)}"
    return [*lines, "", f"{told}.", ""]


if __name__ == "__main__":
    main()
