"""A league whose members do different things: nothing is compared that does not compare."""

import csv
import io
import json
import math
import re

import pytest

from lit_lm.compare.answer import answer
from lit_lm.compare.charts import KINDS, charts
from lit_lm.compare.columns import COLUMNS
from lit_lm.compare.curves import read_curves
from lit_lm.compare.empty import NO_TEXT
from lit_lm.compare.files import read_json
from lit_lm.compare.layout import REMARKS, tables
from lit_lm.compare.results import leagues
from lit_lm.compare.samples import samples
from lit_lm.compare.tables import csv_text, markdown

from .conftest import BERT, ELMO, LM, TRANSLATOR

TEXT = ["loss", "bits_per_byte", "perplexity", "optimal_perplexity", "above_optimum"]
GAPS = {
    "masked_loss": "mlm_loss",
    "masked_accuracy": "mlm_accuracy",
    "next_sentence_loss": "nsp_loss",
    "next_sentence_accuracy": "nsp_accuracy",
    "pseudo_perplexity": "pll_ppl",
    "optimal_pseudo_perplexity": "pll_optimal_ppl",
    "pseudo_bits_per_byte": "pll_bpb",
    "cloze_accuracy": "pll_accuracy",
    "optimal_cloze_accuracy": "pll_optimal_accuracy",
}


def test_every_test_metric_has_its_column(five):
    gpt, elmo, bert, _, _ = five["members"]
    assert {key: bert[key] for key in GAPS} == {key: BERT["test"][m] for key, m in GAPS.items()}
    assert (elmo["forward_perplexity"], elmo["backward_perplexity"]) == (5.2, 5.31)
    assert not {"forward_perplexity", *GAPS} & {key for key, value in gpt.items() if value}
    row = list(csv.DictReader(io.StringIO(csv_text(five))))[2]
    assert {key: float(row[key]) for key in GAPS} == {key: bert[key] for key in GAPS}


def test_a_sum_of_two_losses_is_no_loss_over_a_text(five):
    bert = five["members"][2]
    for key in [*TEXT, "accuracy"]:
        assert bert[key] is None
        assert bert["empty"][key] == NO_TEXT
    assert bert["optimum"] == {}
    assert "0.930" not in markdown(five)  # its loss


def test_empty_cells_say_why(five):
    gpt, elmo, bert, _, transformer = (row["empty"] for row in five["members"])
    assert gpt["forward_perplexity"] == "it reads in one direction"
    assert bert["forward_perplexity"] == NO_TEXT
    assert {elmo[key] for key in GAPS} == {gpt[key] for key in GAPS} == {"it does not fill gaps"}
    assert {row["bleu"] for row in (gpt, elmo, bert)} == {gpt["exact_match"]}
    assert "no reference" in gpt["bleu"]
    assert transformer["optimal_perplexity"] == "this data does not say what is possible"


@pytest.mark.parametrize(
    ("without", "key", "reason"),
    [
        ("pll_optimal", "optimal_cloze_accuracy", "this data does not say what is possible"),
        ("pll_optimal", "optimal_pseudo_perplexity", "this data does not say what is possible"),
        ("pll", "pseudo_perplexity", "it was not measured"),
        ("nsp", "next_sentence_accuracy", "its data has no pairs of sentences"),
    ],
)
def test_a_masked_model_that_was_measured_less(house, without, key, reason):
    test = {name: value for name, value in BERT["test"].items() if not name.startswith(without)}
    house.add("bert", BERT | {"test": test})
    house.run()
    (row,) = read_json(house.output / "results.json")["members"]
    assert row["empty"][key] == reason
    (text,) = answer({"budget": None, "parameters": None, "members": [row], "tests": []})
    assert ("possible" in text, "next sentences" in text) == (without == "nsp", without != "nsp")


def test_a_diverged_masked_model(house):
    house.add("bert", BERT | {"test": BERT["test"] | {"mlm_loss": math.nan, "pll_ppl": math.inf}})
    house.run()
    (row,) = read_json(house.output / "results.json")["members"]
    assert "diverged" in row["empty"]["masked_loss"]
    assert row["empty"]["loss"] == NO_TEXT


def test_each_league_has_its_own_columns(five):
    found = [
        (table.group, list(table.leagues), [column.key for column in table.columns])
        for table in tables(five)
    ]
    assert found[:2] == [
        ("quality", ["language models"], [*TEXT, "forward_perplexity", "backward_perplexity"]),
        ("quality", ["translators"], [*TEXT[:3], "bleu", "exact_match"]),
    ]
    group, members, columns = found[2]
    assert (group, members) == ("gaps", ["language models"])
    assert set(columns) == set(GAPS) - {"next_sentence_loss"}
    cost = [column.key for column in COLUMNS if column.group == "cost"]
    assert found[3:] == [("cost", ["language models", "translators"], cost)]


def test_a_table_without_any_value_is_not_there(house):
    house.add("gpt", LM)
    house.run()
    found = read_json(house.output / "results.json")
    assert [table.group for table in tables(found)] == ["quality", "cost"]
    assert "What it fills in" not in markdown(found)


def test_best_is_who_is_best_among_those_that_have_a_value(five):
    bold = re.findall(r"^\| (\w+) \|.*\*\*", markdown(five), re.M)
    assert set(bold) == {"gpt", "transformer"}


def test_the_terminal_is_wide_enough(five, house_of_five):
    lines = house_of_five.console.file.getvalue().splitlines()
    assert not any("…" in line for line in lines)  # that is how a cell without room ends
    rows = [line.split() for line in lines if line.startswith("  bert ")]
    assert [row[1] for row in rows] == ["–", "0.810", "0.81"]
    assert "– gpt and elmo: it does not fill gaps" in lines


def test_pseudo_is_explained_beside_its_numbers(five, house_of_five):
    page, text = (house_of_five.output / "index.html").read_text(), markdown(five)
    remark = REMARKS["gaps"]
    assert "no probability of a text" in remark
    assert text.index("pseudo perplexity") < text.index(remark) < text.index("What it cost")
    assert page.index("pseudo perplexity") < page.index(remark) < page.index("What it cost")
    assert remark.split()[-1] in house_of_five.console.file.getvalue()


def test_the_page_gives_a_row_without_values_one_reason(five, house_of_five):
    page = (house_of_five.output / "index.html").read_text()
    assert f'<td class="whole" colspan="7"><span>{NO_TEXT}</span></td>' in page
    assert page.count('<td class="whole" colspan="8"><span>it does not fill gaps</span></td>') == 2
    assert "<sup>1</sup>" in page
    assert "<li>it reads in one direction</li>" in page


def drawn(found):
    return {chart["title"]: chart for chart in charts(leagues(found))}


def test_a_chart_holds_one_unit(five):
    text, gaps, pairs, translators = drawn(five).values()
    assert list(drawn(five)) == [
        "language models",
        "language models: filling gaps",
        "language models: telling the next sentence",
        "translators",
    ]
    assert [chart["first"] for chart in drawn(five).values()] == ["bpb", "loss", "loss", "bpb"]
    members = [[member["name"] for member in chart["members"]] for chart in drawn(five).values()]
    assert members == [["gpt", "elmo"], ["bert"], ["bert"], ["rnn", "transformer"]]
    assert list(text["axes"]) == list(translators["axes"]) == ["bpb", "loss", "accuracy"]
    assert gaps["axes"] == {"loss": "loss, nats per gap", "accuracy": "gaps filled right"}
    curves = gaps["members"][0]["curves"]
    assert curves["loss"]["value"][-1] == pytest.approx(0.83, abs=0.02)
    assert curves["accuracy"]["value"][-1] == pytest.approx(0.705, abs=0.01)
    assert pairs["members"][0]["curves"]["accuracy"]["value"][-1] == pytest.approx(0.96, abs=0.01)
    assert text["members"][0]["optimum"]["loss"] == pytest.approx(1.6)
    assert text["members"][0]["optimum"]["bpb"] == pytest.approx(1.6 / 4.2 / math.log(2))
    assert gaps["members"][0]["optimum"] == {}


def test_every_curve_that_is_drawn_is_read(tmp_path):
    drawn = sorted({key for kind in KINDS for key, _ in kind.curves.values()})
    lines = [",".join(["step", *drawn]), ",".join(["9", *["0.5"] * len(drawn)])]
    (tmp_path / "metrics.csv").write_text("\n".join(lines))
    assert sorted(read_curves(tmp_path)) == drawn
    assert "val/nsp_accuracy" in drawn


def test_the_page_offers_the_metrics_that_there_are(five, house_of_five, house):
    page = (house_of_five.output / "index.html").read_text()
    assert re.findall(r'name="metric" value="(\w+)"', page) == ["bpb", "loss", "accuracy"]
    data = json.loads(re.search(r'id="data">(.*?)</script>', page, re.S)[1])
    assert data["charts"] == charts(leagues(five))
    assert page.count('class="chart"') == 4
    house.add("bert", BERT)
    assert re.findall(r'name="metric" value="(\w+)"', house.run().read_text()) == [
        "loss",
        "accuracy",
    ]


def test_the_answer_for_members_that_do_different_things(five):
    first, second = answer(five)
    assert "among the language models, gpt wins with 0.556 bits per byte, 2.4% below elmo" in first
    assert (
        "bert, which gives no probability of a text, fills 71.2% of gaps right "
        "(77.9% with one gap at a time, where 79.5% is possible) "
        "and tells 96.3% of next sentences, after 91" in first
    )
    assert second.startswith("Among the translators, transformer wins with BLEU 97.2")


def test_those_that_fill_gaps_compete_among_themselves(house):
    worse = BERT["test"] | {"pll_bpb": 0.3, "mlm_accuracy": 0.8}
    house.add("gpt", LM)
    house.add("small", BERT | {"test": worse})
    house.add("large", BERT)
    house.run()
    (text,) = answer(read_json(house.output / "results.json"))
    assert "gpt reaches perplexity" in text
    assert "Among those that fill gaps, large wins with 0.226 pseudo bits per byte" in text
    assert "24.7% below small" in text
    house.members = house.members[1:]
    house.run()
    (text,) = answer(read_json(house.output / "results.json"))
    assert "among the language models, large wins" in text


def test_who_diverged_does_not_stop_the_others_from_competing(house):
    house.add("a", LM)
    house.add("b", LM | {"loss": 1.7})
    house.add("c", LM | {"test": {"loss": math.nan, "ppl": math.nan, "bpb": math.nan}})
    house.run()
    (text,) = answer(read_json(house.output / "results.json"))
    assert "a wins with" in text
    assert "c ended without a finite loss" in text


def test_samples_stand_by_what_was_asked(five):
    rows = leagues(five)
    found = samples(rows["language models"])
    assert list(found) == [
        "going on with a text",
        "guessing each token from one side",
        "filling gaps",
    ]
    (both,) = found["guessing each token from one side"]
    assert both["given"] == []
    assert both["reference"] == ELMO["samples"][0]["reference"]
    assert [(o["which"], o["exact"]) for o in both["outputs"]] == [
        ("", False),
        ("from the right", True),
    ]
    (gaps,) = found["filling gaps"]
    assert gaps["given"] == [("gaps", "the <mask> sees a river")]
    assert [o["text"] for o in gaps["outputs"]] == ["the bird sees a river"]
    (pair,) = samples(rows["translators"])["translating"]
    assert [o["name"] for o in pair["outputs"]] == ["rnn", "transformer"]
    assert TRANSLATOR["samples"][0]["reference"] == pair["reference"]


def test_the_page_shows_every_kind_of_sample(five, house_of_five):
    page = (house_of_five.output / "index.html").read_text()
    assert "</i>elmo, from the right</b>" in page
    assert "<h3>language models: filling gaps</h3>" in page
    assert "the &lt;mask&gt; sees a river" in page
