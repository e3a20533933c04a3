import base64
import csv
import html
import io
import math
import re
from html.parser import HTMLParser

import pytest

from lit_lm.compare import MembersFailed
from lit_lm.compare.answer import answer
from lit_lm.compare.columns import COLUMNS
from lit_lm.compare.curves import read_curves
from lit_lm.compare.files import read_json, write_json
from lit_lm.compare.layout import tables
from lit_lm.compare.numbers import EMPTY, clock, compact, one, scale
from lit_lm.compare.tables import csv_text, markdown

from .conftest import LM, SAMPLES, TRANSLATOR


@pytest.fixture
def found(house):
    house.add("gpt", LM | {"samples": SAMPLES})
    house.add(
        "wide",
        LM
        | {"loss": 1.7, "samples": SAMPLES, "parameters": 3_000_000, "flops": 4e13, "seconds": 200},
    )
    house.add("transformer", TRANSLATOR)
    house.add("broken", LM | {"fail": "out of luck"})
    with pytest.raises(MembersFailed):
        house.run()
    return read_json(house.output / "results.json")


def test_results_hold_what_is_compared(found, house):
    gpt, _, transformer, broken = found["members"]
    assert gpt["perplexity"] == pytest.approx(math.exp(1.62))
    assert gpt["optimal_perplexity"] == pytest.approx(math.exp(1.6))
    assert gpt["above_optimum"] == pytest.approx(math.exp(0.02) - 1)
    assert gpt["exact_match"] is None
    assert gpt["tokens_per_second"] == pytest.approx(2_001_432 / 85.2)
    assert (transformer["optimal_perplexity"], transformer["exact_match"]) == (None, 0.931)
    assert gpt["optimum"]["val/loss"] == pytest.approx(1.6)
    assert gpt["optimum"]["val/bpb"] == pytest.approx(1.6 / 4.2 / math.log(2))
    for row in found["members"]:
        assert all(column.key in row for column in COLUMNS)
        assert all(row["empty"].get(c.key) for c in COLUMNS if row[c.key] is None)
    assert "no reference" in gpt["empty"]["bleu"]
    assert broken["empty"]["loss"] == "failed: out of luck"
    assert found["command"] == f"lit-lm compare {house.folder / 'small.yaml'}"


def test_tables_agree_with_the_results(found, house):
    text = (house.output / "results.csv").read_text()
    assert text == csv_text(found)
    rows = list(csv.DictReader(io.StringIO(text)))
    shown = (house.output / "results.md").read_text()
    assert shown == markdown(found)
    cells = [
        [cell.strip(" *") for cell in line.split("|")[1:-1]]
        for line in shown.splitlines()
        if "|" in line
    ]
    terminal = house.console.file.getvalue()
    for table in tables(found):
        titles = [column.title for column in table.columns]
        start = next(
            i for i, line in enumerate(cells) if [c.split(" (")[0] for c in line[2:]] == titles
        )
        lines = iter(cells[start + 2 :])
        for league, members in table.leagues.items():
            for member in members:
                row = next(row for row in rows if row["name"] == member["name"])
                name, where, *values = next(lines)
                assert (name, where) == (member["name"], league)
                for column, cell in zip(table.columns, values, strict=True):
                    value = member[column.key]
                    assert row[column.key] == ("" if value is None else str(value))
                    assert cell == table.scales[column.key](value)
                    assert cell == EMPTY or cell in terminal


def test_the_answer_is_plain(found):
    first, second, third = answer(found)
    assert "At 2.0\N{NO-BREAK SPACE}M tokens, among the language models, gpt wins" in first
    assert "4.7% below wide" in first
    assert "2.0% above the optimum of 4.95" in first
    assert "BLEU 97.2" in second
    assert third == "broken failed and is missing here."


def test_a_tie_and_no_budget(house):
    house.settings = {}
    house.add("a", LM)
    house.add("b", LM)
    house.run()
    (text,) = answer(read_json(house.output / "results.json"))
    assert text.startswith("Each trained to its own length, among the language models, a and b tie")


def test_a_loss_that_is_not_finite(house):
    house.add("gpt", LM | {"test": {"loss": math.nan, "ppl": math.inf}})
    house.run()
    (row,) = read_json(house.output / "results.json")["members"]
    assert row["perplexity"] is None
    assert "diverged" in row["empty"]["perplexity"]


class Loads(HTMLParser):
    """What a browser would fetch, and the elements there are."""

    def __init__(self) -> None:
        super().__init__()
        self.addresses: list[str] = []
        self.tags: list[str] = []

    def handle_starttag(self, tag, attrs):
        self.tags.append(tag)
        self.addresses += [
            value for key, value in attrs if key in ("src", "href", "srcset", "data", "action")
        ]


def test_the_page_needs_nothing_else(found, house):
    page = (house.output / "index.html").read_text()
    loads = Loads()
    loads.feed(page)
    assert loads.addresses == []
    assert "link" not in loads.tags
    assert page.count("plotly.js v") == 1
    styles = re.search(r"<style>(.*?)</style>", page, re.S)[1]
    assert "url(" not in styles
    assert "@import" not in styles


def test_the_page_shows_samples_as_text(found, house):
    page = (house.output / "index.html").read_text()
    assert "<script>alert" not in page
    assert "the quiet fox &lt;script&gt;alert(1)&lt;/script&gt;" in page
    assert "sing &#34;&amp;&#34; &lt;b&gt;rest&lt;/b&gt;" in page
    assert "&lt;script&gt;alert(3)" in page  # from a configuration


def test_without_samples_nothing_shows_texts_of_the_data(house):
    texts = [text for sample in SAMPLES for text in sample.values()]
    picture = b"an attention"
    house.add("gpt", LM | {"samples": SAMPLES})
    house.run()
    (house.output / "gpt" / "attention").mkdir()
    (house.output / "gpt" / "attention" / "test_0.png").write_bytes(picture)
    for setting in (True, False):
        house.settings["samples"] = setting
        page = html.unescape(house.run().read_text())
        found = read_json(house.output / "results.json")
        # The configuration of the fake member, which stands on the page, has the texts that it is to say.
        shown = page.split("<h2>How it was made</h2>")[0]
        assert [text in shown for text in texts] == [setting] * len(texts)
        assert (base64.b64encode(picture).decode() in page) == setting
        assert bool(found["members"][0]["samples"]) == setting
    assert house.starts() == ["gpt"]  # a choice of what is shown trains nothing


def test_the_page_says_why_a_cell_is_empty(found, house):
    page = (house.output / "index.html").read_text()
    assert "failed: out of luck" in page
    assert "nan" not in re.findall(r"<td[^>]*>([^<]*)", page)


def test_a_page_without_any_curve(house):
    house.add("broken", LM | {"fail": "out of luck"})
    with pytest.raises(MembersFailed) as error:
        house.run()
    assert "plotly" not in error.value.page.read_text()


def test_curves_come_from_lightnings_csv(tmp_path):
    (tmp_path / "metrics.csv").write_text(
        "step,tokens,seconds,train/loss,val/loss\n9,100,1.5,5.0,\n19,200,3.0,4.0,\n19,200,3.0,,4.5\n29,300,4.5,nan,\n"
    )
    curves = read_curves(tmp_path)
    assert curves["train/loss"]["tokens"] == [100, 200]
    counters = {"step": [19], "tokens": [200], "bytes": [None], "flops": [None], "seconds": [3.0]}
    assert curves["val/loss"] == {**counters, "value": [4.5]}
    assert read_curves(tmp_path / "nowhere") == {}


def test_long_curves_keep_their_ends(tmp_path):
    lines = [f"{i},{i}" for i in range(5000)]
    (tmp_path / "metrics.csv").write_text("step,train/loss\n" + "\n".join(lines))
    steps = read_curves(tmp_path)["train/loss"]["step"]
    assert (steps[0], steps[-1], len(steps)) == (0, 4999, 400)


def test_numbers_are_short_and_have_units():
    assert [scale("count", [812_288, 3_400_000])(v) for v in (812_288, 3_400_000)] == [
        "0.81",
        "3.40",
    ]
    assert one("bytes", 912_345_088) == "870\N{NO-BREAK SPACE}MiB"
    assert one("seconds", 85.2) == "85.2\N{NO-BREAK SPACE}s"
    assert one("seconds", 7200) == "120\N{NO-BREAK SPACE}min"
    assert one("percent", 0.031) == "3.1\N{NO-BREAK SPACE}%"
    assert scale("count", [None, 0])(0) == "0"
    assert compact(2e6) == "2.0\N{NO-BREAK SPACE}M"
    assert [clock(s) for s in (None, 12.3, 185, 3725)] == ["", "12 s", "3:05 min", "1:02 h"]


def test_json_knows_no_nan(tmp_path):
    write_json(tmp_path / "a.json", {"a": [math.nan, 1.0], "b": {"c": math.inf}})
    assert read_json(tmp_path / "a.json") == {"a": [None, 1.0], "b": {"c": None}}
    assert [path.name for path in tmp_path.iterdir()] == ["a.json"]
