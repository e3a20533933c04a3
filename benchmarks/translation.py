"""How well the recipes translate and summarise: trains each from nothing, puts the test set through its checkpoint and
scores the outputs, all by the commands that anyone would type. Started again, it goes on where it stopped.

    python -m benchmarks.translation --only multi30k_en_de_transformer,multi30k_en_de_rnn --seeds 0,1,2

Needs the corpora (LIT_LM_DATA). Writes one JSON and one Markdown table of all that has been measured so far, and beside
them what each run's validations found. Where an RNN and a Transformer were trained alike, their outputs are tested against
each other.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
import subprocess
import sys
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from benchmarks import report
from lit_lm import configs

RESULTS = Path("docs/results/translation")


@dataclass(frozen=True)
class Row:
    """One recipe and how its outputs are scored.

    Args:
        experiment: its name in configs/experiment.
        source: what is put through it, below LIT_LM_DATA.
        references: what the outputs are scored against; of JSON lines with the field.
        verb: what puts it through, with its flags.
        scoring: flags of ``lit-lm score``.
        score: the score that has a bar.
        bar: the least that it must be; None for no bar.
    """

    experiment: str
    source: str
    references: str
    verb: tuple[str, ...] = ("translate",)
    scoring: tuple[str, ...] = ()
    score: str = "bleu_moses"
    bar: float | None = None


def _multi30k(language: str, network: str, bar: float | None = None) -> Row:
    test = "multi30k/test_2016_flickr"
    return Row(
        f"multi30k_en_{language}_{network}",
        f"{test}.en",
        f"{test}.{language}",
        scoring=("--moses", language),
        bar=bar,
    )


@dataclass(frozen=True)
class Variation:
    """A recipe with some settings changed: its name and the flags; both empty for the recipe itself."""

    label: str
    flags: tuple[str, ...]


ROWS = (
    _multi30k("de", "transformer", 41.0),
    _multi30k("de", "rnn"),
    _multi30k("fr", "transformer", 61.0),
    _multi30k("fr", "rnn"),
    Row(
        "dialogsum_transformer",
        "dialogsum/dev.jsonl",
        "dialogsum/dev.jsonl:summary",
        verb=("summarize", "--key=dialogue"),
        scoring=("--rouge", "--dialogues={source}:dialogue"),
        score="rougeL",
    ),
)


def main() -> None:
    """Works through rows and seeds."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.translation", description=__doc__)
    names = [row.experiment for row in ROWS]
    parser.add_argument("--only", default=",".join(names), help="recipes, with commas between them")
    parser.add_argument("--seeds", default="0", help="seeds, with commas between them")
    parser.add_argument("--label", default="", help="names a variation of the recipes")
    parser.add_argument("--flags", default="", help="what it is: flags of lit-lm fit, with spaces")
    parser.add_argument("--runs", default="runs/translation", help="where runs are kept")
    parser.add_argument("--out", type=Path, default=RESULTS, help="without ending")
    options = parser.parse_args()
    wanted = options.only.split(",")
    if unknown := [name for name in wanted if name not in names]:
        parser.error(f"no recipe {unknown[0]!r}; there are {', '.join(names)}")
    if bool(options.label) != bool(options.flags):
        parser.error("--label and --flags go together: a name, and what is different")
    if "LIT_LM_DATA" not in os.environ:
        parser.error("LIT_LM_DATA must name the folder that holds the corpora")
    for row in (row for row in ROWS if row.experiment in wanted):
        for seed in map(int, options.seeds.split(",")):
            variation = Variation(options.label, tuple(options.flags.split()))
            found = measure(row, variation, seed, Path(options.runs))
            save(options.out, found)
            name = name_of(row.experiment, variation.label, seed)
            keep_log(Path(options.runs) / name / "metrics.csv", options.out / f"{name}.csv")
            print(f"{row.experiment} {options.label}, seed {seed}: {found['scores']}", flush=True)


def measure(row: Row, variation: Variation, seed: int, runs: Path) -> dict[str, Any]:
    """Trains, translates and scores one run."""
    name = name_of(row.experiment, variation.label, seed)
    folder, data = runs / name, Path(os.environ["LIT_LM_DATA"])
    checkpoint, output = folder / "checkpoints" / "average.ckpt", folder / "output.txt"
    train = ["fit", "--config", f"experiment/{row.experiment}", "--ckpt_path=last"]
    train += [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
    train += [f"--run.dir={runs}", f"--run.name={name}", *variation.flags]
    about, trained = folder / "recipe.json", folder / "trained_on.json"
    now = {"flags": variation.flags, "files": recipe(row.experiment)}
    if about.is_file() and json.loads(about.read_text()) != json.loads(json.dumps(now)):
        raise SystemExit(
            f"{folder} was trained by another recipe than configs/experiment/{row.experiment}.yaml is now: "
            "move it away, or give the new one a --label"
        )
    folder.mkdir(parents=True, exist_ok=True)
    replace(about, json.dumps(now))
    if not checkpoint.is_file():
        output.unlink(missing_ok=True)  # of a checkpoint that is no more
        trained.unlink(missing_ok=True)
        lit_lm(*train)
    if not trained.is_file():
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        replace(trained, json.dumps({"threads": threads, "about": report.machine({})}))
    source, references = str(data / row.source), str(data / row.references)
    verb, *flags = row.verb
    apply = [verb, str(checkpoint), source, *flags]
    lit_lm(*apply, f"--output={output}", "--resume")
    scoring = [flag.format(source=source) for flag in row.scoring]
    found = json.loads(lit_lm("score", references, str(output), *scoring, "--json"))
    known = {s["system"]: {k: v["score"] for k, v in s["scores"].items()} for s in found["systems"]}
    with (folder / "metrics.csv").open() as file:
        seconds = [float(r["seconds"]) for r in csv.DictReader(file) if r["seconds"]]
    other = runs / name.replace("_rnn", "_transformer") / "output.txt"
    tested = None
    if other.parent != folder and other.is_file():
        two = json.loads(lit_lm("score", references, str(other), str(output), *scoring, "--json"))
        first, second = (system["scores"][row.score] for system in two["systems"])
        tested = {"difference": second["score"] - first["score"], "p": second["p"]}
    return {
        "experiment": row.experiment,
        "seed": seed,
        "label": variation.label,
        "flags": " ".join(variation.flags),
        "scores": known.pop(str(output)),
        "baselines": known,
        "signatures": found["signatures"],
        "against_transformer": tested,
        "train_seconds": seconds[-1],
        **json.loads(trained.read_text()),
    }


def name_of(experiment: str, label: str, seed: int) -> str:
    """What a run and its files are called."""
    return "_".join(filter(None, (experiment, label, str(seed))))


def keep_log(metrics: Path, path: Path) -> None:
    """Keeps of a run's log what its validations found."""
    with metrics.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    kept = ("epoch", "step", "tokens", "flops", "seconds", "val/loss", "val/bpb", "val/accuracy")
    path.parent.mkdir(parents=True, exist_ok=True)
    lines = [kept, *(tuple(row[name] for name in kept) for row in rows)]
    replace(path, "".join(",".join(line) + "\n" for line in lines))


def recipe(experiment: str) -> dict[str, str]:
    """Texts of an experiment's YAML and of those that it names, by folder and name."""
    first = configs.find(f"experiment/{experiment}")
    text = first.read_text()
    named = [first.parent / name for name in re.findall(r"\.\./[\w/]+\.yaml", text)]
    return {f"{path.parent.name}/{path.name}": path.read_text() for path in (first, *named)}


def lit_lm(*args: str) -> str:
    """Runs a command, whose progress shows, and gives what it printed."""
    print("$ lit-lm", *args, file=sys.stderr, flush=True)
    shown = args[0] == "fit"
    done = subprocess.run(
        [sys.executable, "-m", "lit_lm", *args],
        stdout=None if shown else subprocess.PIPE,
        text=True,
        check=True,
    )
    return done.stdout or ""


def save(path: Path, found: dict[str, Any]) -> None:
    """Adds a run to those that were measured before, and writes the page anew."""
    file = path.with_suffix(".json")
    runs = json.loads(file.read_text()) if file.is_file() else []
    runs = [run for run in runs if _key(run) != _key(found)] + [found]
    runs.sort(key=_key)
    file.parent.mkdir(parents=True, exist_ok=True)
    replace(file, json.dumps(runs, indent=1) + "\n")
    replace(path.with_suffix(".md"), page(runs))


def _key(run: dict[str, Any]) -> tuple[str, str, int]:
    return run["experiment"], run["label"], run["seed"]


def replace(path: Path, text: str) -> None:
    """Writes a file whole or not at all."""
    temporary = path.with_name(path.name + ".tmp")
    temporary.write_text(text)
    temporary.replace(path)


def page(runs: list[dict[str, Any]]) -> str:
    """All runs as Markdown."""
    lines = ["# Translation and summarisation", "", *_about(runs), ""]
    for row in ROWS:
        mine = [run for run in runs if run["experiment"] == row.experiment]
        for label in sorted({run["label"] for run in mine}):
            lines += _table(row, [run for run in mine if run["label"] == label])
    return "\n".join(lines)


def _about(runs: list[dict[str, Any]]) -> list[str]:
    machines = {
        f"{a['cores']} cores of {a['processor']} ({a['instructions']}), torch {a['versions']['torch']}"
        for a in (run["about"] for run in runs)
    }
    return [
        "Made by `python -m benchmarks.translation`: each recipe of configs/experiment is trained from nothing, the",
        "weights of the last ten validations are averaged, the test set is put through them by a beam of 5, and the",
        f"outputs are scored by `lit-lm score`. On {'; '.join(sorted(machines))}.",
    ]


def _table(row: Row, runs: list[dict[str, Any]]) -> list[str]:
    names = list(runs[0]["scores"])
    label, flags = (runs[0][key] for key in ("label", "flags"))
    title = f"## {row.experiment}" + (f", {label} (`{flags}`)" if label else "")
    devices = re.search(r"--trainer.devices=(\d+)", flags)
    processes = int(devices[1]) if devices else 1
    lines = [title, "", f"| | {' | '.join(names)} | training | processes x threads |"]
    lines.append("|---" * (len(names) + 3) + "|")

    def cells(scores: dict[str, float]) -> str:
        return " | ".join(f"{scores[name]:.2f}" for name in names)

    for run in runs:
        minutes = f"{run['train_seconds'] / 60:.0f} min | {processes} x {run['threads']}"
        lines.append(f"| seed {run['seed']} | {cells(run['scores'])} | {minutes} |")
    for name, scores in runs[0]["baselines"].items():
        lines.append(f"| {name} | {cells(scores)} | | |")
    values = [run["scores"][row.score] for run in runs]
    mean = statistics.mean(values)
    if len(values) > 1:
        lines += [
            "",
            f"{row.score}: {mean:.2f}, standard deviation {statistics.stdev(values):.2f}.",
        ]
    for run in runs:
        if tested := run.get("against_transformer"):
            lines += [
                "",
                f"Seed {run['seed']} against the Transformer that was trained alike: {tested['difference']:+.2f} {row.score} "
                f"(p = {tested['p']:.4f}, paired bootstrap resampling).",
            ]
    if row.bar is not None:
        reached = "reached" if mean >= row.bar else "**not reached**"
        lines += ["", f"Bar: {row.score} of {row.bar:g} or more: {reached}."]
    lines += ["", *(f"- {name}: `{its}`" for name, its in runs[0]["signatures"].items()), ""]
    return lines


if __name__ == "__main__":
    main()
