import pytest
import yaml

from lit_lm.curve import Curve, Encoder, LabelledTask, load
from lit_lm.errors import InputError

GOOD = {
    "tasks": [{"name": "news", "config": "a.yaml"}],
    "encoders": [{"name": "bert", "pretrain": "b.yaml"}],
    "labels": [10, "all"],
}


def write(folder, value):
    path = folder / "file.yaml"
    path.write_text(value if isinstance(value, str) else yaml.safe_dump(value))
    return path


def test_everything_a_curve_can_say(tmp_path):
    path = write(
        tmp_path,
        """
        name: few
        output_dir: elsewhere
        tasks:
          - {name: entities, config: b, metric: f1, overrides: [--data.init_args.max_length=32]}
        encoders:
          - {name: bert, pretrain: c, pretrain_overrides: [--trainer.max_steps=9], overrides: [--x=1]}
          - {name: minilm, checkpoint: minilm.ckpt}
          - {name: lstm, net: model/bilstm}
        labels: [10, 100]
        starts: [pretrained, scratch]
        seeds: 3
        epochs: 4
        least_steps: 50
        batch_size: 8
        overrides: [--trainer.accelerator=cpu]
        """,
    )
    assert load(path) == Curve(
        name="few",
        tasks=(LabelledTask("entities", "b", "f1", ("--data.init_args.max_length=32",)),),
        encoders=(
            Encoder(
                "bert", "c", overrides=("--x=1",), pretrain_overrides=("--trainer.max_steps=9",)
            ),
            Encoder("minilm", checkpoint="minilm.ckpt"),
            Encoder("lstm", net="model/bilstm"),
        ),
        labels=(10, 100),
        starts=("scratch", "pretrained"),
        seeds=3,
        epochs=4,
        least_steps=50,
        batch_size=8,
        output_dir="elsewhere",
        overrides=("--trainer.accelerator=cpu",),
        path=path,
    )


def test_most_of_it_can_be_left_out(tmp_path):
    found = load(write(tmp_path, GOOD))
    assert (found.name, found.seeds, found.starts) == ("file", 5, ("scratch", "pretrained"))
    assert found.tasks[0].metric == "accuracy"
    assert found.starts_of(Encoder("lstm", net="model/bilstm")) == ("scratch",)


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ({"label": [3]}, ["unknown key 'label'", "did you mean 'labels'"]),
        ({"labels": None}, ["'labels' is missing"]),
        ({"labels": [100, 10]}, ["labels is [100, 10]", "rising counts"]),
        ({"labels": [10, 10]}, ["rising counts"]),
        ({"labels": ["all", 10]}, ["rising counts"]),
        ({"labels": [0]}, ["rising counts"]),
        ({"labels": []}, ["rising counts"]),
        ({"labels": [True]}, ["rising counts"]),
        ({"starts": ["warm"]}, ["starts is ['warm']", "scratch and pretrained"]),
        ({"seeds": 0}, ["seeds is 0", "above 0"]),
        ({"epochs": 1.5}, ["epochs is 1.5"]),
        ({"tasks": []}, ["tasks must be a list"]),
        ({"tasks": [{"name": "news"}]}, ["tasks[0]", "'config' is missing"]),
        (
            {"tasks": [{"name": "news", "config": "a", "metric": "loss"}]},
            ["tasks[0].metric is 'loss'", "accuracy, f1"],
        ),
        ({"tasks": GOOD["tasks"] * 2}, ["two tasks", "'news'"]),
        ({"encoders": GOOD["encoders"] * 2}, ["two encoders", "'bert'"]),
        ({"encoders": [{"name": "bert"}]}, ["encoders[0]", "exactly one of pretrain", "none"]),
        (
            {"encoders": [{"name": "bert", "net": "a", "checkpoint": "b"}]},
            ["exactly one", "checkpoint and net"],
        ),
        (
            {"encoders": [{"name": "bert", "net": "a", "pretrain_overrides": ["--a=1"]}]},
            ["encoders[0].pretrain_overrides", "no pretrain"],
        ),
        (
            {"encoders": [{"name": "lstm", "net": "a"}], "starts": ["pretrained"]},
            ["lstm has no weights", "add scratch"],
        ),
        ({"overrides": ["lr=1"]}, ["'lr=1'", "--key=value"]),
        *(
            (
                {"encoders": [{"name": "bert", "net": "a", "overrides": [f"--{flag}"]}]},
                ["encoders[0].overrides", flag, "other examples"],
            )
            for flag in (
                "data.init_args.source.init_args.train=a",
                "data.source.train=a",
                "data=y.yaml",
                "config=z.yaml",
                "data.class_path=a.B",
                "data.init_args={a: 1}",
            )
        ),
    ],
)
def test_mistakes_name_the_place_and_the_way_out(tmp_path, change, words):
    with pytest.raises(InputError) as error:
        load(write(tmp_path, GOOD | change))
    for word in [*words, "file.yaml"]:
        assert word in str(error.value)


def test_no_file(tmp_path):
    with pytest.raises(InputError, match=r"cannot read .*nothing\.yaml"):
        load(tmp_path / "nothing.yaml")
