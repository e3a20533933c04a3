import pytest

from lit_lm.curve import load
from lit_lm.curve.plan import plan, pretrainings, steps
from lit_lm.errors import InputError


def flags(job):
    """What a run is told, the last word on each setting."""
    return dict(flag.split("=", 1) for flag in job.payload["overrides"])


@pytest.fixture
def made(house, tmp_path):
    """Plans the house's curve, with these bytes as what pre-training left."""

    def make(content="weights", where="best.ckpt"):
        path = tmp_path / where
        path.write_text(content)
        found = plan(load(house.write()), {"bert": path}, 1, "code")
        return {(p.encoder.name, p.start, p.labels, p.seed): p.job for p in found}

    return make


def test_every_combination_once_in_a_folder_of_its_own(made):
    jobs = made()
    # Two encoders, one without weights; three numbers of labels, two seeds.
    assert len(jobs) == (2 + 1) * 3 * 2
    assert len({job.folder for job in jobs.values()}) == len(jobs)
    assert len({job.name for job in jobs.values()}) == len(jobs)
    assert [seed for *_, seed in jobs] == [0] * 9 + [1] * 9  # a stopped curve has whole seeds


def test_the_starts_differ_in_their_weights_alone(made):
    jobs = made()
    scratch, pretrained = (flags(jobs["bert", start, 10, 1]) for start in ("scratch", "pretrained"))
    assert {key for key in scratch if scratch[key] != pretrained[key]} == {"--pretrained.weights"}
    assert (scratch["--pretrained.weights"], pretrained["--pretrained.weights"]) == (
        "false",
        "true",
    )
    assert pretrained["--pretrained.path"].endswith("best.ckpt")


def test_all_encoders_see_the_same_examples(made):
    jobs = made()
    keys = ("--data.init_args.examples", "--data.init_args.examples_seed", "--data.init_args.seed")
    keys += ("--seed_everything", "--trainer.max_steps", "--data.init_args.batch_size")
    for labels in (10, 100, "all"):
        told = [flags(jobs[name, "scratch", labels, 1]) for name in ("bert", "lstm")]
        assert [told[0].get(key) for key in keys] == [told[1].get(key) for key in keys]
        assert told[0]["--data.init_args.examples_seed"] == told[0]["--seed_everything"] == "1"
    assert "pretrained" not in str(told[1])
    assert told[1]["--model.init_args.net"].endswith("net.yaml")


def test_no_label_beyond_these_chooses_anything(made, house):
    house.settings["overrides"] = ["--trainer.limit_val_batches=1.0", "--trainer.max_steps=3"]
    house.settings["overrides"] += ["--budget.amount=1", "--trainer.limit_test_batches=2"]
    told = flags(made()["bert", "pretrained", 10, 0])
    assert told["--trainer.limit_val_batches"] == "0"
    assert told["--trainer.enable_checkpointing"] == "false"
    assert told["--trainer.callbacks"] == "[]"
    assert told["--trainer.max_steps"] == "200"
    assert told["--budget.amount"] == "null"
    assert told["--trainer.limit_test_batches"] == "1.0"


def test_how_long_a_run_is(made, house):
    house.settings |= {"epochs": 10, "least_steps": 200, "batch_size": 16}
    curve = load(house.write())
    # 330 examples are 21 batches of at most 16.
    assert [steps(curve, labels) for labels in (1, 320, 330)] == [200, 200, 210]
    told = flags(made()["bert", "scratch", "all", 0])
    assert (told["--trainer.max_epochs"], told["--trainer.max_steps"]) == ("10", "-1")
    assert "--data.init_args.examples" not in told


def test_overrides_from_the_general_to_the_special(made, house):
    keys = [f"--{letter}" for letter in "abcde"]
    house.settings["overrides"] = [f"{key}=curve" for key in keys]
    house.settings["tasks"][0]["overrides"] = [f"{key}=task" for key in keys[1:]]
    house.settings["encoders"][0] |= {
        "overrides": [f"{key}=encoder" for key in keys[2:]],
        "task_overrides": {house.settings["tasks"][0]["name"]: [f"{key}=both" for key in keys[3:]]},
        "scratch_overrides": ["--e=scratch"],
        "pretrained_overrides": ["--e=pretrained"],
    }
    for start in ("scratch", "pretrained"):
        told = flags(made()["bert", start, 10, 0])
        assert [told[key] for key in keys] == ["curve", "task", "encoder", "both", start]


@pytest.mark.parametrize("key", ["overrides", "scratch_overrides", "pretrained_overrides"])
def test_an_encoder_cannot_have_examples_of_its_own(house, key):
    house.settings["encoders"][0][key] = ["--data.init_args.source.init_args.train=mine.tsv"]
    with pytest.raises(InputError, match=rf"encoders\[0\].{key}: .*other examples than the others"):
        load(house.write())
    house.settings["encoders"][0][key] = []
    house.settings["encoders"][0]["task_overrides"] = {"no such": []}
    with pytest.raises(
        InputError, match=r"encoders\[0\].task_overrides: there is no task 'no such'"
    ):
        load(house.write())


def test_a_result_belongs_to_the_weights_not_to_their_place(made):
    def identities(**where):
        return {key: job.identity for key, job in made(**where).items()}

    first = identities()
    assert identities(where="moved.ckpt") == first
    other = identities(content="other weights")
    assert {key for key in first if other[key] != first[key]} == {
        k for k in first if k[0] == "bert"
    }
    starts = {first["bert", start, 10, 0] for start in ("scratch", "pretrained")}
    assert len(starts | {first["bert", "scratch", 10, 1], first["bert", "scratch", 100, 0]}) == 4


def test_what_was_pretrained_before_is_a_file_or_a_folder(house, tmp_path):
    house.settings["encoders"] = [{"name": "minilm", "checkpoint": "weights"}]
    with pytest.raises(InputError, match="minilm: there is no checkpoint 'weights'"):
        plan(load(house.write()), {}, 1, "code")
    (tmp_path / "weights").mkdir()
    (tmp_path / "weights" / "config.json").write_text("{}")
    before = plan(load(house.write()), {}, 1, "code")[0].job
    assert flags(before)["--pretrained.path"] == str(tmp_path / "weights")
    (tmp_path / "weights" / "config.json").write_text('{"layers": 2}')
    assert plan(load(house.write()), {}, 1, "code")[0].job.identity != before.identity


def test_pretraining_is_a_job_of_its_own(house):
    house.settings["encoders"][0]["pretrain_overrides"] = ["--trainer.max_steps=9"]
    house.settings["overrides"] = ["--data.init_args.max_length=32"]
    ((name, job),) = pretrainings(load(house.write()), 1, "code").items()
    assert (name, job.folder) == ("bert", house.output / "pretraining" / "bert")
    assert job.payload["overrides"] == ["--trainer.max_steps=9"]
    assert job.payload["config"] == str(house.folder / "lm.yaml")
