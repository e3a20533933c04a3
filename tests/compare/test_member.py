import json
from types import SimpleNamespace

import pytest
import yaml
from lightning.pytorch import Trainer
from lightning.pytorch.demos.boring_classes import BoringModel

from lit_lm import checkpoints
from lit_lm.callbacks import AverageCheckpoints
from lit_lm.compare import load, run_comparison
from lit_lm.compare.columns import COLUMNS
from lit_lm.compare.files import read_json
from lit_lm.compare.member import arguments, best_checkpoint
from lit_lm.compare.pulse import Pulse

JOB = {
    "config": "/somewhere/gpt.yaml",
    "overrides": ["--model.init_args.optim.lr=0.002", "--run.name=stolen"],
    "budget": {"unit": "tokens", "amount": 2e6},
    "group": "small",
    "architecture": "GPT",
    "tags": ["compare", "small"],
}


def test_the_command_line_of_a_member(tmp_path):
    folder = tmp_path / "gpt"
    args = arguments(JOB, folder)
    assert args[:3] == ["fit", "--config=/somewhere/gpt.yaml", "--model.init_args.optim.lr=0.002"]
    assert "--budget.unit=tokens" in args
    assert "--budget.amount=2000000.0" in args
    assert '--run.tags=["compare", "small"]' in args
    assert args.index("--run.name=stolen") < args.index("--run.name=gpt")
    assert not any("budget" in arg for arg in arguments(JOB | {"budget": None}, folder))


@pytest.mark.parametrize(
    ("callback", "path", "words"),
    [
        ({"best_model_path": "b", "monitor": "val/loss"}, "b", "best val/loss"),
        ({"best_model_path": "b", "monitor": None}, "b", "last"),
        ({"best_model_path": "", "last_model_path": "l"}, "l", "last"),
        ({"best_model_path": "", "last_model_path": ""}, None, "weights at the end"),
    ],
)
def test_the_best_checkpoint_is_tested(callback, path, words, tmp_path):
    def trainer(callback, others=()):
        return SimpleNamespace(
            checkpoint_callback=callback, checkpoint_callbacks=[*others], global_step=400
        )

    found, kind = best_checkpoint(trainer(SimpleNamespace(**callback)))
    assert found == path
    assert words in kind
    assert best_checkpoint(trainer(None))[0] is None
    averaging = AverageCheckpoints(k=10, dirpath=str(tmp_path))
    assert best_checkpoint(trainer(SimpleNamespace(**callback), [averaging])) == (found, kind)
    content = {"state_dict": {}, "averaged": ["a", "b", "c"]}
    checkpoints.save(content, averaging.average)
    told = best_checkpoint(trainer(SimpleNamespace(**callback), [averaging]))
    assert told == (str(tmp_path / "average.ckpt"), "average of 3")
    for first, averaged in ((200, True), (199, False)):  # of the second half of the training only
        content["averaged"] = [f"kept-step={step}.ckpt" for step in (first, 300, 400)]
        checkpoints.save(content, averaging.average)
        told = best_checkpoint(trainer(SimpleNamespace(**callback), [averaging]))
        assert (told != (found, kind)) == averaged


def test_pulse_says_how_it_goes(tmp_path):
    path = tmp_path / "progress.json"
    seen = []

    class Model(BoringModel):
        progress = 0.25

        def on_validation_start(self) -> None:
            seen.append(json.loads(path.read_text()))

    trainer = Trainer(
        max_epochs=1,
        limit_train_batches=3,
        limit_val_batches=1,
        limit_test_batches=1,
        num_sanity_val_steps=0,
        callbacks=[Pulse(str(path), interval=0.0)],
        logger=False,
        enable_checkpointing=False,
        enable_progress_bar=False,
        enable_model_summary=False,
        accelerator="cpu",
    )
    model = Model()
    trainer.fit(model)
    assert [state["stage"] for state in seen] == ["validating"]
    assert (seen[0]["fraction"], seen[0]["step"]) == (0.25, 3)
    trainer.test(model, verbose=False)
    assert read_json(path)["stage"] == "sampling"


@pytest.mark.slow
def test_a_real_comparison(tmp_path):
    names = ("gpt", "transformer")
    overrides = [
        "--trainer.val_check_interval=2",
        "--run.wandb=disabled",
        "--trainer.accelerator=cpu",
    ]
    comparison = {
        "output_dir": str(tmp_path),
        "budget": {"unit": "tokens", "amount": 20_000},
        "overrides": overrides,
        "members": [{"name": name, "config": f"experiment/builtin_{name}"} for name in names],
    }
    path = tmp_path / "real.yaml"
    path.write_text(yaml.safe_dump(comparison))
    page = run_comparison(load(path))
    gpt, transformer = read_json(page.with_name("results.json"))["members"]
    assert gpt["optimal_perplexity"] < gpt["perplexity"]
    assert transformer["exact_match"] is not None
    for member in (gpt, transformer):
        assert member["tokens"] >= 20_000
        assert len(member["curves"]["val/loss"]["value"]) > 1
        assert member["samples"]
        fixed = {"bleu", "exact_match", "optimal_perplexity", "above_optimum"}
        others = {column.key for column in COLUMNS if column.part not in ("text", "outputs", None)}
        assert set(member["empty"]) <= fixed | others
