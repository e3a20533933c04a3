"""Means of checkpoints: by the command, by the callback, and running ones."""

from __future__ import annotations

import pytest
import torch
from lightning.pytorch import Callback

from lit_lm import checkpoints
from lit_lm.averaging import average
from lit_lm.cli import main
from lit_lm.errors import InputError
from lit_lm.training import run_cli

FIT = [
    "fit",
    "--config",
    "experiment/builtin_gpt",
    "--trainer.max_steps=8",
    "--budget.amount=null",
]
FIT += [
    "--trainer.val_check_interval=2",
    "--trainer.limit_val_batches=1",
    "--run.wandb=disabled",
    "--run.name=r",
]
FIT += [
    f"--data.init_args.source.init_args.{s}={n}"
    for s, n in (("train", 400), ("val", 20), ("test", 20))
]
FIT += ["--trainer.enable_progress_bar=false", "--model.net.d_model=16", "--model.net.d_ff=16"]


def content(**weights):
    return {"state_dict": weights, "tokenizer": {"a": 1}, "optimizer_states": [1], "epoch": 3}


@pytest.fixture
def save(tmp_path):
    def write(name, content):
        checkpoints.save(content, tmp_path / name)
        return tmp_path / name

    return write


def test_mean_of_three(save):
    generator = torch.Generator().manual_seed(0)
    weights = [torch.randn(3, 4, generator=generator) for _ in range(3)]
    paths = [
        save(f"{i}.ckpt", content(w=w, h=w.bfloat16(), n=torch.tensor(i)))
        for i, w in enumerate(weights)
    ]
    found = average(paths)
    assert torch.equal(found["state_dict"]["w"], torch.stack(weights).double().mean(0).float())
    assert found["state_dict"]["h"].dtype == torch.bfloat16
    assert found["state_dict"]["n"] == 2  # a counter has no mean
    assert "optimizer_states" not in found
    assert found["averaged"] == ["0.ckpt", "1.ckpt", "2.ckpt"]


def test_tied_weights_are_written_once(save):
    weights = [torch.randn(100, 100) for _ in range(2)]
    paths = [
        save(f"{i}.ckpt", content(w=w, tied=w, other=w.clone())) for i, w in enumerate(weights)
    ]
    found = average(paths)["state_dict"]
    assert found["w"].data_ptr() == found["tied"].data_ptr() != found["other"].data_ptr()
    assert torch.equal(found["w"], sum(weights) / 2)
    # Tied in the last alone: each keeps its own mean.
    paths[0] = save("0.ckpt", content(w=weights[0], tied=weights[0] + 1, other=weights[0]))
    found = average(paths)["state_dict"]
    torch.testing.assert_close(found["tied"], found["w"] + 0.5)


def test_one_checkpoint_is_its_own_mean(save):
    w = torch.randn(5)
    assert torch.equal(average([save("a.ckpt", content(w=w))])["state_dict"]["w"], w)


def test_other_networks_and_tokenizers_are_refused(save):
    a = save("a.ckpt", content(w=torch.ones(3)))
    with pytest.raises(InputError, match=r"of w, .*b.ckpt has \[4\] and .*a.ckpt has \[3\]"):
        average([save("b.ckpt", content(w=torch.ones(4))), a])
    with pytest.raises(InputError, match=r"of v, .*c.ckpt lacks it and .*d.ckpt has \[1\]"):
        average([save("c.ckpt", content()), save("d.ckpt", content(v=torch.ones(1)))])
    other = content(w=torch.ones(3)) | {"tokenizer": {}}
    with pytest.raises(InputError, match="different tokenizers"):
        average([save("e.ckpt", other), a])
    with pytest.raises(InputError, match="no checkpoints"):
        average([])


@pytest.fixture
def here(tmp_path, monkeypatch):
    monkeypatch.chdir(tmp_path)
    return tmp_path / "runs" / "r" / "checkpoints"


def test_callback_leaves_the_mean_of_the_last(here, capsys):
    assert main([*FIT, "--config", "trainer/average", "--trainer.callbacks.init_args.k=3"]) == 0
    kept = sorted(here.glob("kept-*.ckpt"))
    assert [path.stem for path in kept] == ["kept-step=4", "kept-step=6", "kept-step=8"]
    mean = checkpoints.load(here / "average.ckpt")
    assert mean["averaged"] == [path.name for path in kept]
    assert main(["average", *map(str, kept), "--output", str(here / "by_hand.ckpt")]) == 0
    by_hand = checkpoints.load(here / "by_hand.ckpt")
    for name, weight in average(kept)["state_dict"].items():
        assert torch.equal(mean["state_dict"][name], weight)
        assert torch.equal(by_hand["state_dict"][name], weight)
    # It can be tested by its name, and be used; not gone on from.
    test = [arg.replace("fit", "test") if arg == "fit" else arg for arg in FIT]
    test = [arg for arg in test if "max_steps" not in arg and "budget" not in arg]
    assert main([*test, "--ckpt_path=average", "--trainer.limit_test_batches=1"]) == 0
    assert main([*FIT, "--ckpt_path=average", "--trainer.max_steps=9"]) == 2
    assert "weights only" in capsys.readouterr().err


def test_callback_keeps_the_best(here):
    best = ["--trainer.callbacks.init_args.monitor=val/loss", "--trainer.callbacks.init_args.k=2"]
    assert main([*FIT, "--config", "trainer/average", *best, "--model.optim.lr=0.5"]) == 0
    assert len(list(here.glob("kept-*.ckpt"))) == 2
    assert len(checkpoints.load(here / "average.ckpt")["averaged"]) == 2


def test_running_mean_goes_on_where_it_stopped(here):
    ema = ["--config", "trainer/ema", "--trainer.callbacks.init_args.decay=0.5"]
    assert main([*FIT, *ema]) == 0
    whole = checkpoints.load(here / "last.ckpt")
    last = {n: w for n, w in whole["current_model_state"].items() if w.is_floating_point()}
    assert any(not torch.equal(whole["state_dict"][n], w) for n, w in last.items())
    assert main([*FIT, *ema, "--run.name=s", "--trainer.max_steps=5"]) == 0
    assert main([*FIT, *ema, "--run.name=s", "--ckpt_path=last"]) == 0
    resumed = checkpoints.load(here.parents[1] / "s" / "checkpoints" / "last.ckpt")
    for key in ("state_dict", "current_model_state"):
        for name, weight in whole[key].items():
            assert torch.equal(resumed[key][name], weight), (key, name)


@pytest.mark.slow
def test_a_run_whose_end_was_missed_still_leaves_its_mean(here, monkeypatch):
    flags = [*FIT, "--config", "trainer/average"]
    with monkeypatch.context() as patch:
        patch.setattr("lit_lm.callbacks.average.average", lambda paths: 1 / 0)
        with pytest.raises(ZeroDivisionError):
            main(flags)
    assert not (here / "average.ckpt").exists()
    assert main([*flags, "--ckpt_path=last"]) == 0
    assert checkpoints.load(here / "average.ckpt")["averaged"][-1] == "kept-step=8.ckpt"
    # A new start in the same folder takes nothing of it for its own.
    assert main([*flags, "--trainer.max_steps=2"]) == 0
    assert [path.stem for path in here.glob("kept-*")] == ["kept-step=2"]


def test_two_means_of_the_same_weights_are_refused(here, capsys):
    assert main([*FIT, "--config", "trainer/average", "--config", "trainer/ema"]) == 2
    assert "take one of them out" in capsys.readouterr().err


def test_running_mean_is_what_is_tested_and_saved(here):
    """In the process that trained, too, and in a checkpoint that is written in the middle of a validation."""
    cli = run_cli(
        [
            *FIT,
            "--config",
            "trainer/ema",
            "--trainer.callbacks.init_args.decay=0.5",
            f"--trainer.callbacks+={__name__}.SaveInValidation",
        ]
    )
    last = checkpoints.load(here / "last.ckpt")
    inside = checkpoints.load(here / "inside.ckpt")
    at_that_step = checkpoints.load(here / "best.ckpt")
    for key in ("state_dict", "current_model_state"):
        for name, weight in at_that_step[key].items():
            assert torch.equal(inside[key][name], weight), (key, name)
    cli.trainer.test(
        cli.model, cli.datamodule, ckpt_path=str(here / "last.ckpt"), weights_only=True
    )
    mean = {n: w for n, w in last["state_dict"].items() if w.is_floating_point()}
    assert any(not torch.equal(w, last["current_model_state"][n]) for n, w in mean.items())
    for name, weight in mean.items():
        assert torch.equal(cli.model.state_dict()[name], weight), name


class SaveInValidation(Callback):
    """Saves when the mean stands in the weights' place, at the step of the best checkpoint."""

    def on_validation_batch_end(self, trainer, *args):
        """Behind the first batch of every validation; the last one stays."""
        trainer.save_checkpoint(trainer.default_root_dir + "/checkpoints/inside.ckpt")


@pytest.mark.parametrize(
    "flags", [["EMA", "every_n_steps", 0], ["EMA", "decay", 1.0], ["AverageCheckpoints", "k", 0]]
)
def test_impossible_means_are_refused(flags):
    from lit_lm import callbacks

    name, key, value = flags
    with pytest.raises(InputError, match=key):
        getattr(callbacks, name)(**{key: value})
