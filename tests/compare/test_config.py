import pytest
import yaml

from lit_lm.compare import Budget, Comparison, Member, load
from lit_lm.compare.config import Parameters
from lit_lm.compare.identity import architecture, identity, read_config
from lit_lm.errors import InputError

GOOD = {"name": "small", "members": [{"name": "gpt", "config": "a.yaml"}]}


def write(folder, value):
    path = folder / "file.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def test_everything_a_comparison_can_say(tmp_path):
    path = write(
        tmp_path,
        """
        name: small
        output_dir: elsewhere
        budget: {unit: flops, amount: 2e15}
        parameters: {amount: 3e6, embeddings: false}
        curves: [runs/curve/a]
        overrides: [--trainer.accelerator=cpu]
        members:
          - {name: gpt, config: a, overrides: [--model.init_args.optim.lr=0.002]}
          - {name: 7, config: b.yaml}
        """,
    )
    assert load(path) == Comparison(
        name="small",
        members=(Member("gpt", "a", ("--model.init_args.optim.lr=0.002",)), Member("7", "b.yaml")),
        output_dir="elsewhere",
        budget=Budget("flops", 2e15),
        parameters=Parameters(3e6, embeddings=False),
        curves=("runs/curve/a",),
        overrides=("--trainer.accelerator=cpu",),
        path=path,
    )


def test_only_members_are_required(tmp_path):
    found = load(write(tmp_path, {"members": GOOD["members"], "budget": None}))
    assert (found.name, found.budget, found.output_dir) == ("file", None, "runs/compare")


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"budgets": 3}, ["unknown key 'budgets'", "did you mean 'budget'", "output_dir"]),
        (
            {"members": [{"name": "a", "config": "b", "lr": 1}]},
            ["members[0]", "'lr'", "name, config, overrides"],
        ),
        ({"members": [{"name": "a"}]}, ["members[0]", "'config' is missing"]),
        ({"members": []}, ["members"]),
        ({"members": ["gpt"]}, ["members[0]", "'gpt'"]),
        ({"members": GOOD["members"] * 2}, ["two members", "'gpt'"]),
        ({"members": [{"name": "../a", "config": "b"}]}, ["members[0].name", "'../a'"]),
        (
            {"members": [{"name": "a", "config": "b", "overrides": "--x=1"}]},
            ["members[0].overrides", "'--x=1'"],
        ),
        (
            {"members": [{"name": "a", "config": "b", "overrides": ["lr=1"]}]},
            ["'lr=1'", "--key=value"],
        ),
        (
            {"budget": {"unit": "hours", "amount": 1}},
            ["budget.unit", "'hours'", "tokens, bytes, flops"],
        ),
        ({"budget": {"unit": "tokens", "amount": 0}}, ["budget.amount", "above 0"]),
        ({"budget": {"unit": "tokens", "amount": "many"}}, ["budget.amount", "'many'"]),
        ({"budget": {"unit": "tokens"}}, ["budget", "'amount' is missing"]),
        ({"budget": 5}, ["budget", "unit, amount"]),
        ({"parameters": {"amount": "big"}}, ["parameters.amount", "'big'"]),
        ({"parameters": {"amount": 1e6, "embeddings": "no"}}, ["parameters.embeddings", "'no'"]),
        ({"samples": 2}, ["samples is 2", "true or false"]),
        ({"curves": "runs/curve/a"}, ["curves is 'runs/curve/a'", "list of folders"]),
        ({"name": "a b"}, ["name", "'a b'"]),
        ({"members": [{"name": "Results.json", "config": "b"}]}, ["members[0].name", "another"]),
    ],
)
def test_mistakes_name_the_place_and_the_way_out(tmp_path, change, words):
    with pytest.raises(InputError) as error:
        load(write(tmp_path, GOOD | change))
    for word in [*words, "file.yaml"]:
        assert word in str(error.value)


def test_no_file_and_no_yaml(tmp_path):
    with pytest.raises(InputError, match=r"nothing\.yaml"):
        load(tmp_path / "nothing.yaml")
    with pytest.raises(InputError, match="yaml, line 1: no valid YAML"):
        load(write(tmp_path, "a: [1"))
    with pytest.raises(InputError, match="line 2: no valid YAML: found duplicate key seeds"):
        load(write(tmp_path, "seeds: 1\nseeds: 2\n"))
    (tmp_path / "wide.yaml").write_text("members: []", encoding="utf-16")
    with pytest.raises(InputError, match=r"wide\.yaml is not UTF-8 text"):
        load(tmp_path / "wide.yaml")


def test_nested_files_are_part_of_an_experiment(tmp_path):
    (tmp_path / "model").mkdir()
    (tmp_path / "data").mkdir()
    net = tmp_path / "model" / "net.yaml"
    net.write_text("class_path: lit_lm.models.GPTConfig\n")
    text = tmp_path / "data" / "text.txt"
    text.write_text("words")
    (tmp_path / "data" / "data.yaml").write_text("file: text.txt\nname: no such file\n")
    path = write(
        tmp_path, {"model": {"init_args": {"net": "model/net.yaml"}}, "data": "data/data.yaml"}
    )

    def current(*overrides, **rest):
        config, files = read_config(path)
        assert architecture(config) == "GPT"
        assert len(files) == 4
        return identity(files, overrides, **rest)

    first = current()
    assert first == current()
    seen = {first, current("--a=1"), current(budget=1), current(f"--data={text}")}
    text.write_text("other words")
    seen |= {current(), current(f"--data={text}")}
    net.write_text("class_path: lit_lm.models.GPTConfig\ninit_args: {num_layers: 2}\n")
    assert len(seen | {current()}) == 7
