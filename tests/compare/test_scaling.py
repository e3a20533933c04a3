"""Power laws, who leads when, and what configurations differ in."""

import math

import pytest

from lit_lm.compare.differences import differences
from lit_lm.compare.files import read_json
from lit_lm.compare.scaling import fit, leads, scaling

from .conftest import LM


def test_a_law_is_found_again():
    sizes = [1e5, 3e5, 1e6, 4e6]
    exact = fit(sizes, [7 * size**-0.08 for size in sizes])
    assert exact.factor == pytest.approx(7)
    assert exact.exponent == pytest.approx(-0.08)
    assert exact.error == pytest.approx(0, abs=1e-9)
    rough = fit(
        sizes, [7 * size**-0.08 * (1.1 if i % 2 else 1 / 1.1) for i, size in enumerate(sizes)]
    )
    assert 0.08 < rough.error <= math.log(1.1)


def test_architectures_of_three_sizes_have_a_law(house):
    for size in (1, 2, 4):
        house.add(f"gpt{size}", LM | {"parameters": size * 100_000, "loss": 2 * size**-0.1})
    house.run()
    found = read_json(house.output / "results.json")
    (law,) = scaling(found)
    assert law["league"] == "language models"
    assert law["fits"]["GPT"]["exponent"] == pytest.approx(-0.1)
    assert [point["size"] for point in law["points"]] == [100_000, 200_000, 400_000]
    page = (house.output / "index.html").read_text()
    assert "parameters^-0.100" in page
    assert scaling(found | {"members": found["members"][:2]}) == []


def curve(*points):
    return {"val/bpb": {"flops": [x for x, _ in points], "value": [y for _, y in points]}}


def row(name, *points):
    return {"name": name, "league": "language models", "curves": curve(*points)}


def test_who_leads_depends_on_the_budget():
    quick = row("quick", (1, 5.0), (10, 3.0), (100, 2.9), (1000, 3.5))
    slow = row("slow", (1, 6.0), (10, 4.0), (100, 2.0), (1000, 1.0))
    found = leads({"members": [quick, slow]})["language models"]
    assert [its.name for its in found] == ["quick", "slow"]
    assert found[0].start == pytest.approx(1)
    assert 90 < found[0].end <= 100 <= found[1].start * 1.05
    assert found[1].end == pytest.approx(1000)
    # What was reached stays reached: a curve that rises again does not take it back.
    assert [
        x.name
        for x in leads({"members": [quick, row("late", (1, 9.0), (1000, 2.95))]})["language models"]
    ] == ["quick"]
    assert leads({"members": [quick]}) == {}


def test_settings_that_differ_are_named_once(tmp_path):
    common = "trainer: {max_steps: 3}\nmodel: {init_args: {net: {init_args: {d_model: %d%s}}}}\nrun: {name: %s}\n"
    for name, width, more in (("a", 64, ""), ("b", 128, ", dropout: 0.1"), ("c", 64, "")):
        (tmp_path / name).mkdir()
        (tmp_path / name / "config.yaml").write_text(common % (width, more, name))
    (tmp_path / "failed").mkdir()
    folders = {name: tmp_path / name for name in ("a", "b", "c", "failed")}
    assert differences(folders) == [
        ("model.net.d_model", {"a": "64", "b": "128", "c": "64"}),
        ("model.net.dropout", {"b": "0.1"}),
    ]
