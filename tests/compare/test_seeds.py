"""Several seeds, equally many trials, significance, and members that do not compare."""

import pytest
from scipy import stats

from lit_lm import InputError
from lit_lm.compare import MembersFailed, load
from lit_lm.compare.answer import answer
from lit_lm.compare.files import read_json
from lit_lm.compare.significance import tests as significance
from lit_lm.compare.student import welch

from .conftest import LM, TRANSLATOR

JITTER = [0.0, 0.01, -0.02]


def found(house):
    return read_json(house.output / "results.json")


def test_means_and_spreads_over_seeds(house):
    house.settings = {"seeds": 3}
    house.add("gpt", LM | {"jitter": JITTER})
    house.add("wide", LM | {"loss": 1.7, "jitter": JITTER})
    house.run()
    assert sorted(house.starts()) == sorted(
        ["gpt", "gpt-seed1", "gpt-seed2", "wide", "wide-seed1", "wide-seed2"]
    )
    gpt, wide = found(house)["members"]
    assert gpt["values"]["loss"] == pytest.approx([1.62, 1.63, 1.60])
    assert gpt["loss"] == pytest.approx(1.62 - 0.01 / 3)
    assert gpt["spread"]["loss"] == pytest.approx(0.0153, abs=1e-4)
    assert "flops" not in gpt["spread"]
    assert gpt["seeds"] == 3
    assert "1.617 ± 0.015" in (house.output / "results.md").read_text()
    (test,) = found(house)["tests"]
    assert test["p"] == pytest.approx(
        welch(gpt["values"]["bits_per_byte"], wide["values"]["bits_per_byte"])
    )
    (text,) = answer(found(house))
    assert "Welch's t test over 3 and 3 seeds" in text
    assert "may be chance" not in text
    # One more seed, one more run each: the others are kept.
    house.settings = {"seeds": 2}
    house.run()
    assert house.starts() == []


def test_a_lead_that_may_be_chance_is_called_so(house):
    house.settings = {"seeds": 3}
    house.add("gpt", LM | {"jitter": JITTER})
    house.add("twin", LM | {"loss": 1.621, "jitter": JITTER[::-1]})
    house.run()
    (text,) = answer(found(house))
    assert "which may be chance: p = 0." in text


def test_every_member_tries_as_many_rates_and_the_best_goes_on(house):
    house.settings = {"seeds": 2, "learning_rates": [0.5, 1, 2]}
    house.add("gpt", LM | {"by_rate": {"0.0005": -0.1, "0.002": 0.3}})
    house.add("wide", LM | {"by_rate": {"0.0005": 0.2, "0.002": 0.1}})
    house.run()
    assert sorted(house.starts()) == sorted(
        [
            "gpt",
            "gpt-x0.5",
            "gpt-x2",
            "gpt-x0.5-seed1",
            "wide",
            "wide-x0.5",
            "wide-x2",
            "wide-seed1",
        ]
    )
    gpt, wide = found(house)["members"]
    assert (gpt["learning_rate"], wide["learning_rate"]) == (0.5, 1.0)
    assert [t["factor"] for t in gpt["trials"]] == [0.5, 1.0, 2.0]
    assert gpt["loss"] == pytest.approx(1.52)
    notes = " ".join(found(house)["notes"])
    assert "tried 3 multiples" in notes
    assert "gpt 0.5, wide 1" in notes
    house.run()
    assert house.starts() == []


def test_a_seed_that_fails_is_told_and_leaves_the_mean_of_the_others(house):
    house.settings = {"seeds": 3}
    house.add("gpt", LM | {"jitter": JITTER, "fail_seeds": [1]})
    with pytest.raises(MembersFailed, match="gpt-seed1 failed"):
        house.run()
    (row,) = found(house)["members"]
    assert row["values"]["loss"] == pytest.approx([1.62, 1.60])
    assert "gpt-seed1 failed (RuntimeError: bad luck)" in " ".join(found(house)["notes"])


def test_members_tested_on_other_text_are_not_ranked(house):
    house.add("a", LM | {"evaluation": "one"})
    house.add("b", LM | {"evaluation": "one", "loss": 1.7})
    house.add("c", LM | {"evaluation": "two", "loss": 1.0})
    house.run()
    rows = {row["name"]: row["league"] for row in found(house)["members"]}
    assert rows["a"] == rows["b"] == "language models"
    assert rows["c"] == "language models, tested on other text (c)"
    text = " ".join(answer(found(house)))
    assert "a wins" in text
    assert "c was tested on other text than a: they are not compared" in " ".join(
        found(house)["notes"]
    )
    assert [(t["first"], t["second"]) for t in found(house)["tests"]] == [("a", "b")]


def test_translators_of_one_seed_are_tested_over_sentences(house):
    house.add("good", TRANSLATOR)
    house.add("bad", TRANSLATOR | {"test": {"bleu": 50.0, "exact_match": 0.1}})
    house.run()
    (test,) = found(house)["tests"]
    assert test["p"] is None
    assert test["test"] == "no outputs were kept"
    references = [f"the fox number {i} sees a small river" for i in range(40)]
    for name, outputs in (
        ("good", references),
        ("bad", [r.replace("sees", "eats") for r in references]),
    ):
        for file, lines in (("outputs.txt", outputs), ("references.txt", references)):
            (house.output / name / file).write_text("\n".join(lines) + "\n")
    (test,) = significance(found(house))
    assert test["p"] < 0.01
    assert test["test"] == "paired bootstrap over 40 sentences"


def test_empty_outputs_are_outputs(house):
    house.add("good", TRANSLATOR)
    house.add("mute", TRANSLATOR | {"test": {"bleu": 0.0, "exact_match": 0.0}})
    house.run()
    for name in ("good", "mute"):
        (house.output / name / "references.txt").write_text("a red fox sees the river\n" * 20)
        (house.output / name / "outputs.txt").write_text(
            ("a red fox sees the river" * (name == "good") + "\n") * 20
        )
    (test,) = significance(found(house))
    assert test["p"] < 0.01


def test_welch_is_scipys_where_degrees_of_freedom_are_whole_and_larger_elsewhere():
    same = [1.0, 2.0, 4.0], [2.5, 3.5, 5.5]  # equal variances: 4 degrees of freedom
    assert welch(*same) == pytest.approx(stats.ttest_ind(*same, equal_var=False).pvalue)
    for other in ([1.0, 9.0], [3.0, 3.1, 2.9, 8.0], [0.0, 0.1]):
        exact = stats.ttest_ind(same[0], other, equal_var=False).pvalue
        assert exact <= welch(same[0], other) <= exact + 0.15
    assert welch([1.0], [1.0, 2.0]) is None
    assert welch([1.0, 1.0], [1.0, 1.0]) == 1.0
    assert welch([1.0, 1.0], [2.0, 2.0]) == 0.0


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"seeds": 0}, r"seeds is 0: it must be a whole number"),
        ({"seeds": True}, r"seeds is True"),
        (
            {"learning_rates": [1, "x"]},
            r"learning_rates is \[1, 'x'\]: it must be a list of multiples",
        ),
        ({"learning_rates": [1, 1.0]}, r"one multiple stands there twice"),
    ],
)
def test_bad_counts_are_refused(house, settings, message):
    house.settings = settings
    house.add("a", LM)
    with pytest.raises(InputError, match=message):
        load(house.write())
