"""How well the recipes translate and summarise: trains each from nothing, puts the test set through its checkpoint and
scores the outputs, all by the commands that anyone would type. Started again, it goes on where it stopped.

    python -m benchmarks.translation --only multi30k_en_de_transformer,multi30k_en_de_rnn --seeds 0,1,2

Needs the corpora (LIT_LM_DATA). Writes one JSON and one Markdown table of all that has been measured so far, and beside
them what each run's validations found. Where an RNN and a Transformer were trained alike, their outputs are tested against
each other. Several may run at a time with the same tables; settings are to be chosen by the scores on validation text,
which stand beside those of the test.
"""

from __future__ import annotations

import argparse
import csv
import json
import os
import re
import statistics
from dataclasses import dataclass
from pathlib import Path

from benchmarks import report
from benchmarks.runs import Run, add, lit_lm, places, recipe, trained, verdict
from lit_lm.compare.files import write_text

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
        bar: the least that its mean over seeds must be; None for no bar.
        seeds: how many seeds that is.
        validation: the same of validation text, as ``source`` and ``references``; empty where none is put through.
    """

    experiment: str
    source: str
    references: str
    verb: tuple[str, ...] = ("translate",)
    scoring: tuple[str, ...] = ()
    score: str = "bleu_moses"
    bar: float | None = None
    seeds: int = 3
    validation: tuple[str, ...] = ()


def _multi30k(language: str, network: str, bar: float | None = None) -> Row:
    test = "multi30k/test_2016_flickr"
    return Row(
        f"multi30k_en_{language}_{network}",
        f"{test}.en",
        f"{test}.{language}",
        scoring=("--moses", language),
        bar=bar,
        validation=("multi30k/val.en", f"multi30k/val.{language}"),
    )


def _dialogsum(network: str) -> Row:
    return Row(
        f"dialogsum_{network}",
        "dialogsum/dev.jsonl",
        "dialogsum/dev.jsonl:summary",
        verb=("summarize", "--key=dialogue"),
        scoring=("--rouge", "--dialogues={source}:dialogue"),
        score="rougeL",
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
    _dialogsum("transformer"),
    _dialogsum("decoder_only"),
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
            add(options.out, [found], key, page)
            name = name_of(row.experiment, variation.label, seed)
            keep_log(Path(options.runs) / name / "metrics.csv", options.out / f"{name}.csv")
            print(f"{row.experiment} {options.label}, seed {seed}: {found['scores']}", flush=True)


def measure(row: Row, variation: Variation, seed: int, runs: Path) -> Run:
    """Trains, translates and scores one run."""
    name = name_of(row.experiment, variation.label, seed)
    folder, data = runs / name, Path(os.environ["LIT_LM_DATA"])
    checkpoint = folder / "checkpoints" / "average.ckpt"
    output, its = folder / "output.txt", folder / "validation.txt"
    train = ["fit", "--config", f"experiment/{row.experiment}", "--ckpt_path=last"]
    train += [f"--seed_everything={seed}", f"--data.init_args.seed={seed}"]
    train += [f"--run.dir={runs}", f"--run.name={name}", *variation.flags]
    about, done = folder / "recipe.json", folder / "trained_on.json"
    now = {"flags": variation.flags, "files": recipe(row.experiment)}
    if about.is_file() and json.loads(about.read_text()) != json.loads(json.dumps(now)):
        raise SystemExit(
            f"{folder} was trained by another recipe than configs/experiment/{row.experiment}.yaml is now: "
            "move it away, or give the new one a --label"
        )
    folder.mkdir(parents=True, exist_ok=True)
    write_text(about, json.dumps(now))
    if not checkpoint.is_file():
        for file in (output, its):  # of a checkpoint that is no more
            file.unlink(missing_ok=True)
        done.unlink(missing_ok=True)
        lit_lm(*train)
    if not done.is_file():
        threads = int(os.environ.get("OMP_NUM_THREADS") or os.cpu_count() or 1)
        write_text(done, json.dumps({"threads": threads, "about": report.machine({})}))
    references = str(data / row.references)
    known, signatures = outputs(row, (row.source, row.references), checkpoint, output)
    valid = None
    if row.validation:
        valid = outputs(row, row.validation, checkpoint, its)[0][str(its)][row.score]
    with (folder / "metrics.csv").open() as file:
        seconds = [float(r["seconds"]) for r in csv.DictReader(file) if r["seconds"]]
    other = runs / name.replace("_rnn", "_transformer") / "output.txt"
    tested = None
    scoring = [flag.format(source=data / row.source) for flag in row.scoring]
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
        "validation": valid,
        "baselines": known,
        "signatures": signatures,
        "against_transformer": tested,
        "train_seconds": seconds[-1],
        **json.loads(done.read_text()),
    }


def outputs(
    row: Row, files: tuple[str, ...], checkpoint: Path, output: Path
) -> tuple[dict[str, dict[str, float]], dict[str, str]]:
    """Puts a text through a checkpoint and scores it: scores by system, the output's own by its path, and signatures."""
    source, references = (os.path.join(os.environ["LIT_LM_DATA"], file) for file in files)
    verb, *flags = row.verb
    lit_lm(verb, str(checkpoint), source, *flags, f"--output={output}", "--resume")
    scoring = [flag.format(source=source) for flag in row.scoring]
    found = json.loads(lit_lm("score", references, str(output), *scoring, "--json"))
    scores = {
        s["system"]: {k: v["score"] for k, v in s["scores"].items()} for s in found["systems"]
    }
    return scores, found["signatures"]


def name_of(experiment: str, label: str, seed: int) -> str:
    """What a run and its files are called."""
    return "_".join(filter(None, (experiment, label, str(seed))))


def keep_log(metrics: Path, path: Path) -> None:
    """Keeps of a run's log what its validations found."""
    with metrics.open() as file:
        rows = [row for row in csv.DictReader(file) if row.get("val/loss")]
    kept = ("epoch", "step", "tokens", "flops", "seconds", "val/loss", "val/bpb", "val/accuracy")
    lines = [kept, *(tuple(row[name] for name in kept) for row in rows)]
    path.parent.mkdir(parents=True, exist_ok=True)
    write_text(path, "".join(",".join(line) + "\n" for line in lines))


def key(run: Run) -> tuple[str, str, int]:
    """What a run is known by."""
    return run["experiment"], run["label"], run["seed"]


def page(runs: list[Run]) -> str:
    """All runs as Markdown."""
    lines = ["# Translation and summarisation", "", *_about(runs), ""]
    for row in ROWS:
        mine = [run for run in runs if run["experiment"] == row.experiment]
        for label in sorted({run["label"] for run in mine}):
            lines += _table(row, [run for run in mine if run["label"] == label])
    signatures = {(name, its) for run in runs for name, its in run["signatures"].items()}
    lines += ["## Signatures", "", *(f"- {name}: `{its}`" for name, its in sorted(signatures)), ""]
    return "\n".join(lines)


def _about(runs: list[Run]) -> list[str]:
    return [
        "Made by `python -m benchmarks.translation`: each recipe of configs/experiment is trained, from nothing where",
        "`--pretrained.path` names no start, the weights of the last ten validations are averaged, the test set is",
        "put through them by a beam of 5, and the outputs are scored by `lit-lm score`. Settings were chosen by the",
        "scores on validation text, where there are any. Times are of machines that had other work to do: on the GPU",
        "up to fifteen runs went side by side. On",
        f"{places(runs)}.",
    ]


def _table(row: Row, runs: list[Run]) -> list[str]:
    names = list(runs[0]["scores"])
    label, flags = (runs[0][key] for key in ("label", "flags"))
    title = f"## {row.experiment}" + (f", {label} (`{flags}`)" if label else "")
    devices = re.search(r"--trainer.devices=(\d+)", flags)
    processes = int(devices[1]) if devices else 1
    validated = row.score + " of validation"
    lines = [title, "", f"| | {' | '.join(names)} | {validated} | training |"]
    lines.append("|---" * (len(names) + 3) + "|")

    def cells(scores: dict[str, float]) -> str:
        return " | ".join(f"{scores[name]:.2f}" for name in names)

    for run in runs:
        valid = run.get("validation")
        last = f"{'' if valid is None else f'{valid:.2f}'} | {trained(run, processes)}"
        lines.append(f"| seed {run['seed']} | {cells(run['scores'])} | {last} |")
    for name, scores in runs[0]["baselines"].items():
        lines.append(f"| {name} | {cells(scores)} | | |")
    values = [run["scores"][row.score] for run in runs]
    if len(values) > 1:
        mean, spread = statistics.mean(values), statistics.stdev(values)
        lines += ["", f"{row.score}: {mean:.2f}, standard deviation {spread:.2f}."]
    for run in runs:
        if tested := run.get("against_transformer"):
            lines += [
                "",
                f"Seed {run['seed']} against the Transformer that was trained alike: {tested['difference']:+.2f} {row.score} "
                f"(p = {tested['p']:.4f}, paired bootstrap resampling).",
            ]
    if row.bar is not None:
        reached = verdict(values, row.bar, row.seeds)
        lines += ["", f"Bar: {row.score} of {row.bar:g} or more: {reached}."]
    return [*lines, ""]


if __name__ == "__main__":
    main()
