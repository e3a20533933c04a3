"""``lit-lm score``: what sacrebleu and rouge-score say of the same files, and errors that say what to mend."""

from __future__ import annotations

import json
import os
import re
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import sacremoses
from rouge_score.rouge_scorer import RougeScorer
from sacrebleu.metrics import BLEU, CHRF, TER
from sacrebleu.significance import PairedTest

from lit_lm import scores, scoring
from lit_lm.cli import main
from tests import tiny

WORDS = ["Der", "Mann", "sieht,", "naïve", "„Haus“", "a-b", "z.B.", "don't", "gelben", "&", "."]


def write(path: Path, lines: list[str]) -> str:
    path.write_text("\n".join(lines) + "\n", encoding="utf-8")
    return str(path)


def corpus(count: int = 80) -> dict[str, list[str]]:
    """References, two systems' outputs, and sources."""
    rng = np.random.default_rng(0)

    def worse(line: str, kept: float) -> str:
        return " ".join(w for w in line.split(" ") if rng.random() < kept)

    refs = [" ".join(rng.choice(WORDS, rng.integers(3, 30))) for _ in range(count)]
    found = {"refs": refs, "a": [worse(r, 0.9) for r in refs], "b": [worse(r, 0.8) for r in refs]}
    return found | {"src": ["word " * rng.integers(1, 60) for _ in refs]}


@pytest.fixture
def files(tmp_path: Path) -> dict[str, str]:
    return {name: write(tmp_path / f"{name}.txt", lines) for name, lines in corpus().items()}


def score(capsys: pytest.CaptureFixture[str], *args: str) -> dict[str, Any]:
    assert main(["score", *args, "--json"]) == 0
    out: dict[str, Any] = json.loads(capsys.readouterr().out)
    return out


def refused(capsys: pytest.CaptureFixture[str], *args: str) -> str:
    assert main(["score", *args]) == 2
    return capsys.readouterr().err


@pytest.mark.parametrize("lowercase", [False, True])
def test_one_system_is_scored_as_sacrebleu_does(
    lowercase: bool, files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    flags = ["--lowercase"] if lowercase else []
    found = score(capsys, files["refs"], files["a"], *flags)
    data = corpus()
    assert found["sentences"] == len(data["refs"])
    (system,) = found["systems"]
    metrics = {"bleu": BLEU(lowercase), "chrf": CHRF(lowercase=lowercase), "ter": TER()}
    assert set(system["scores"]) == set(metrics)
    for name, metric in metrics.items():
        wanted = metric.corpus_score(data["a"], [data["refs"]]).score
        assert system["scores"][name] == {"score": wanted, "interval": None, "p": None}
        assert found["signatures"][name] == metric.get_signature().format()


def test_systems_are_compared_by_sacrebleus_paired_bootstrap(
    files: dict[str, str], capsys: pytest.CaptureFixture[str], monkeypatch: pytest.MonkeyPatch
) -> None:
    systems = [files["a"], files["b"], files["a"]]
    flags = ["--samples=200", "--seed=7"]
    found = score(capsys, files["refs"], *systems, *flags)
    assert "SACREBLEU_SEED" not in os.environ
    data = corpus()
    monkeypatch.setenv("SACREBLEU_SEED", "7")
    metrics = {"bleu": BLEU(), "chrf": CHRF(), "ter": TER()}
    named = [(name, data[name]) for name in ("a", "b")]
    signatures, wanted = PairedTest(named, metrics, [data["refs"]], "bs", 200)()
    for ours, theirs in (("bleu", "BLEU"), ("chrf", "chrF2"), ("ter", "TER")):
        assert found["signatures"][ours] == signatures[theirs].format()
        assert "bs:200|seed:7" in found["signatures"][ours]
        for system, one in zip(found["systems"][:2], wanted[theirs], strict=True):
            value = system["scores"][ours]
            assert value["p"] == one.p_value
            assert (value["score"], value["interval"]) == pytest.approx((one.score, one.ci))
    first, second, same = (system["scores"]["bleu"] for system in found["systems"])
    assert first["p"] is None
    assert second["p"] < 0.05
    assert same == {**first, "p": 1.0}  # sacrebleu: 1 / (samples + 1)
    assert score(capsys, files["refs"], *systems, *flags) == found


def test_moses_is_lower_cased_normalised_and_tokenised(
    files: dict[str, str], capsys: pytest.CaptureFixture[str]
) -> None:
    found = score(capsys, files["refs"], "--moses=de", files["a"])
    normalizer, tokenizer = sacremoses.MosesPunctNormalizer("de"), sacremoses.MosesTokenizer("de")
    hyps, refs = (
        [tokenizer.tokenize(normalizer.normalize(line.lower()), return_str=True) for line in lines]
        for lines in (corpus()["a"], corpus()["refs"])
    )
    wanted = BLEU(tokenize="none", lowercase=True, force=True).corpus_score(hyps, [refs])
    assert found["systems"][0]["scores"]["bleu_moses"]["score"] == pytest.approx(wanted.score)
    assert "case:lc|eff:no|tok:moses-de-norm-sacremoses-" in found["signatures"]["bleu_moses"]
    assert "knows no language 'xx'" in refused(capsys, files["refs"], files["a"], "--moses=xx")


def test_moses_tokens_are_those_of_multi30k() -> None:
    """As its scripts write them (lowercase.perl, normalize-punctuation.perl, tokenizer.perl)."""
    assert (
        scores.MosesBLEU("de")._preprocess_segment(
            "Ein „rot-weißes“ Boot namens „Nordstern“, z.B. hier."
        )
        == "ein &quot; rot-weißes &quot; boot namens &quot; nordstern &quot; , z.b. hier ."
    )
    assert scores.MosesBLEU("fr")._preprocess_segment("L’eau d'hier") == "l&apos; eau d&apos; hier"


def test_rouge_and_length(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--samples=20", "--rouge", "--source", files["src"]]
    found = score(capsys, files["refs"], files["a"], files["b"], *flags)
    data = corpus()
    scorer = RougeScorer(["rouge1", "rouge2", "rougeL"], use_stemmer=True)
    for name, system in zip("ab", found["systems"], strict=True):
        scored = [scorer.score(r, o) for r, o in zip(data["refs"], data[name], strict=True)]
        for kind in ("rouge1", "rouge2", "rougeL"):
            wanted = 100 * np.mean([one[kind].fmeasure for one in scored])
            assert system["scores"][kind]["score"] == pytest.approx(wanted)
        lengths = [len(source.split()) for source in data["src"]]
        bounds = {"1_10": 10, "11_20": 20, "21_30": 30, "31_50": 50, "51_up": 1000}
        least = 1
        for bucket, most in bounds.items():
            picked = [i for i, length in enumerate(lengths) if least <= length <= most]
            hyps, refs = ([lines[i] for i in picked] for lines in (data[name], data["refs"]))
            wanted = BLEU().corpus_score(hyps, [refs]).score
            assert system["bleu_by_length"][bucket] == pytest.approx(wanted)
            assert found["lengths"][bucket] == len(picked)
            least = most + 1
    assert "rouge-score-" in found["signatures"]["rougeL"]


def test_the_table_has_it_all(files: dict[str, str], capsys: pytest.CaptureFixture[str]) -> None:
    flags = ["--samples=20", "--rouge", "--moses=de", "--source", files["src"]]
    assert main(["score", files["refs"], files["a"], files["b"], *flags]) == 0
    out = capsys.readouterr().out
    for label in ("BLEU", "chrF", "TER", "BLEU moses", "ROUGE-1", "ROUGE-2", "ROUGE-L", "51+ ("):
        assert label in out
    assert re.search(r"b\.txt +\d+\.\d\d ± \d+\.\d\d p=0\.\d{4}", out)
    assert "tok:13a" in out


def test_baselines_of_dialogues(tmp_path: Path, capsys: pytest.CaptureFixture[str]) -> None:
    turns = ["#A#: Hi.", "#B#: Good morning to you.", "#A#: Yes.", "#B#: The long last one here.", "#A#: Me."]  # fmt: skip
    dialogue = "\n".join([*turns[:2], "", *turns[2:]])
    assert scoring.lead(dialogue, 3) == "#A#: Hi. #B#: Good morning to you. #A#: Yes."
    longest = "#B#: Good morning to you. #A#: Yes. #B#: The long last one here."
    assert scoring.longest(dialogue, 3) == longest
    assert scoring.lead("one", 3) == scoring.longest("one", 3) == "one"
    rows = [{"dialogue": dialogue, "summary": longest}, {"dialogue": "a b\nc", "summary": "a b"}]
    file = write(tmp_path / "d.jsonl", [json.dumps(row) for row in rows])
    found = score(
        capsys, f"{file}:summary", "--dialogues", f"{file}:dialogue", "--rouge", "--samples=10"
    )
    assert [system["system"] for system in found["systems"]] == ["lead-3", "longest-3"]
    second = found["systems"][1]["scores"]["rouge1"]["score"]
    assert second == pytest.approx((100 + 80) / 2)
    assert "no field 'text'" in refused(capsys, f"{file}:text", f"{file}:summary")
    assert "d.jsonl: which field of it?" in refused(capsys, f"{file}:summary", "--dialogues", file)


def test_what_cannot_be_scored_is_named(
    files: dict[str, str], tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    short = write(tmp_path / "short.txt", ["one", "two"])
    told = refused(capsys, files["refs"], files["a"], short)
    assert "refs.txt has 80 lines" in told
    assert "short.txt has 2" in told
    assert "short.txt has 2" in refused(capsys, files["refs"], files["a"], "--source", short)
    empty = tmp_path / "empty.txt"
    empty.touch()
    assert "empty.txt is empty" in refused(capsys, files["refs"], str(empty))
    assert "nothing to score" in refused(capsys, files["refs"])
    assert "No such file" in refused(capsys, files["refs"], "nowhere.txt")
    (tmp_path / "latin.txt").write_bytes("gut\nschön\n".encode("latin-1"))
    assert "latin.txt, line 2: byte 4 (0xf6)" in refused(capsys, short, str(tmp_path / "latin.txt"))
    bad = write(tmp_path / "bad.jsonl", ['{"a": "b"}', "{"])
    assert "bad.jsonl, line 2: not JSON" in refused(capsys, short, f"{bad}:a")
    assert "--seed 0" in refused(capsys, files["refs"], files["a"], "--seed=0")


def test_lines_are_what_line_feeds_end(tmp_path: Path) -> None:
    path = tmp_path / "a.txt"
    path.write_bytes("\ufeffone\u2028still\r\n\ntwo".encode())
    assert scoring.read(str(path)) == ["one\u2028still", "", "two"]


def test_a_test_leaves_signatures(tmp_path: Path) -> None:
    from lit_lm.csv_log import CSVLog

    tiny.write(tmp_path)
    task, data = tiny.make("pairs", tmp_path)
    run = tiny.trainer(tmp_path, max_steps=1, logger=CSVLog(tmp_path / "run" / "test"))
    run.fit(task, data)
    (found,) = run.test(task, data, verbose=False)
    assert {"test/bleu", "test/chrf", "test/ter", "test/exact_match", "test/bleu_len_1_10"} < set(found)  # fmt: skip
    lines = (tmp_path / "run" / "test" / "signatures.txt").read_text().splitlines()
    assert [line.split()[0] for line in lines] == ["test/bleu", "test/chrf", "test/ter"]
    assert all("|version:" in line for line in lines)


@pytest.mark.data
def test_baselines_of_dialogsum(real_corpora: Path) -> None:
    """What they reach on the dev split."""
    file = real_corpora / "dialogsum" / "dev.jsonl"
    summaries, dialogues = (scoring.read(f"{file}:{f}") for f in ("summary", "dialogue"))
    kinds = scores.metrics(rouge=True)
    for baseline, wanted in (
        (scoring.lead, {"rouge1": 28.36, "rouge2": 7.80, "rougeL": 21.47}),
        (scoring.longest, {"rouge1": 26.02, "rouge2": 7.65, "rougeL": 18.92}),
    ):
        outputs = [baseline(dialogue, 3) for dialogue in dialogues]
        rouge = {kind: kinds[kind] for kind in wanted}
        (found,) = scoring.evaluate(summaries, [("", outputs)], rouge).systems
        values = {kind: value.score for kind, value in found.scores.items()}
        assert values == pytest.approx(wanted, abs=0.01)
