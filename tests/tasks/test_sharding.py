"""Weights, gradients and optimizers in shards (FSDP2): the losses, weights and checkpoints of one process. On CPUs."""

from __future__ import annotations

import math
import pickle
import shutil
from pathlib import Path
from types import SimpleNamespace
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback
from lightning.pytorch.strategies import FSDPStrategy

from lit_lm import InputError, OptimConfig, Watchdog, checkpoints, load_task, sharding
from lit_lm.callbacks import EMA, KeepLast
from lit_lm.strategies import FullyShard
from tests import ranks, tiny
from tests.callbacks.test_watchdog import poison
from tests.tasks.test_exact_resume import assert_equal

# An epsilon that rounding does not reach: where a gradient is rounding alone, Adam's usual one makes steps of it.
OPTIM = OptimConfig(lr=3e-3, eps=1e-4, weight_decay=0.1, warmup_steps=2, schedule="linear")
STEPS = 6


class Spy(Callback):
    """Keeps each step's loss and norm, saves in the middle of a window, and looks at outputs on one process alone."""

    def __init__(self, folder: Path, world_size: int) -> None:
        self.folder, self.world_size = folder, world_size
        self.steps: list[float] = []
        self.shards: list[bool] = []
        self.outputs: list[str] = []

    def on_train_batch_end(
        self, trainer: Any, pl_module: Any, out: Any, batch: Any, i: int
    ) -> None:
        self.shards.append(sharding.is_sharded(pl_module))
        done = trainer.fit_loop.total_batch_idx + 1
        if not trainer.fit_loop.epoch_loop._should_accumulate():
            self.steps += [pl_module.step_losses.mean.item(), pl_module.gradient_norm.item()]
        if done == 5 and self.world_size > 1:  # in the middle of the third window
            trainer.save_checkpoint(self.folder / "middle.ckpt")

    def on_validation_end(self, trainer: Any, pl_module: Any) -> None:
        if trainer.is_global_zero:
            rows = pl_module.samples(trainer.datamodule, "val", 2)
            self.outputs += [value for row in rows for value in row.values()]


def run(
    world_size: int, kind: str, data: Path, folder: Path, start: Path | None = None, **settings: Any
) -> tuple[Any, Spy, Any]:
    """Trains a few steps of several micro-batches each, the same rows whatever the number of processes."""
    seed_everything(0)
    task, module = tiny.make(kind, data, OPTIM, batch_size=4)
    spy = Spy(folder, world_size)
    shards = settings.pop("shards", True)
    callbacks = [spy, Watchdog("skip", peer_timeout=0), *settings.pop("callbacks", ())]
    bad = settings.pop("bad", None)
    if bad is not None:
        poison(task, {bad}, rank=1)
    if world_size > 1:
        strategy = FullyShard(save_distributed_checkpoint=shards, timeout_seconds=240)
        settings |= {"devices": world_size, "strategy": strategy}
    trainer = tiny.trainer(
        folder, max_steps=STEPS, max_epochs=-1, accumulate_grad_batches=4 // world_size, val_check_interval=12 // world_size,
        limit_val_batches=3, gradient_clip_val=0.5, callbacks=callbacks, **settings,
    )  # fmt: skip
    trainer.fit(task, module, ckpt_path=start)
    return task, spy, trainer


def story(world_size: int, kind: str, data: Path, folder: Path) -> dict[str, Any]:
    """All that two processes are asked to do."""
    (folder / "file").mkdir(exist_ok=True)
    task, spy, trainer = run(world_size, kind, data, folder)
    trainer.save_checkpoint(folder / "end.ckpt")
    again, _, trainer = run(
        world_size, kind, data, folder / "file", folder / "middle.ckpt", shards=False
    )
    trainer.save_checkpoint(folder / "file" / "end.ckpt")
    _, _, trainer = run(world_size, kind, data, folder / "file", folder / "one.ckpt", shards=False)
    trainer.save_checkpoint(folder / "file" / "from_one.ckpt")
    _, _, trainer = run(world_size, kind, data, folder / "file", shards=False, bad=3)
    watchdog = next(c for c in trainer.callbacks if isinstance(c, Watchdog))
    refused = []
    for optim, callbacks in ((OptimConfig("muon"), []), (OPTIM, [EMA()])):
        other, module = tiny.make(kind, data, optim)
        strategy = FullyShard(timeout_seconds=240)
        try:
            tiny.trainer(
                folder, max_steps=1, devices=2, strategy=strategy, callbacks=callbacks
            ).fit(other, module)
        except InputError as error:
            refused.append(str(error))
    return {
        "steps": spy.steps,
        "outputs": spy.outputs,
        "sharded": all(spy.shards),
        "parts": [[p.numel(), sharding.local(p).numel()] for p in task.parameters()],
        "same": all(
            torch.equal(sharding.local(a), sharding.local(b))
            for a, b in zip(task.parameters(), again.parameters(), strict=True)
        ),
        "skipped": watchdog.skipped,
        "refused": refused,
    }


@pytest.mark.parametrize("kind", [pytest.param(k, marks=pytest.mark.slow) for k in tiny.KINDS])
def test_shards(kind: str, tmp_path: Path) -> None:
    data = tmp_path / "data"
    tiny.write(data, count=61)
    task, one, trainer = run(1, kind, data, tmp_path, callbacks=[SaveEpoch(tmp_path / "one.ckpt")])
    trainer.save_checkpoint(tmp_path / "whole.ckpt")
    found = ranks.run(2, story, kind, data, tmp_path)

    for rank in found:
        assert rank["sharded"]
        assert rank["steps"] == pytest.approx(one.steps, rel=1e-5)
        assert rank["same"], "going on from shards in the middle of a window is not exact"
        assert rank["skipped"] == 1
        assert "muon" in rank["refused"][0]
        assert "EMA" in rank["refused"][1]
    assert found[0]["steps"] == found[1]["steps"]
    assert found[0]["outputs"] == one.outputs  # of whole weights, on the first process alone
    whole = sum(size for size, _ in found[0]["parts"])
    held = [sum(part for _, part in rank["parts"]) for rank in found]
    assert sum(held) == whole
    assert max(held) < 0.6 * whole

    weights = task.state_dict()
    shards = checkpoints.load(tmp_path / "end.ckpt")
    file = checkpoints.load(tmp_path / "file" / "end.ckpt")
    reference = checkpoints.load(tmp_path / "whole.ckpt")
    for name, weight in weights.items():
        torch.testing.assert_close(shards["state_dict"][name], weight, rtol=0, atol=1e-5)
    # A folder made whole is what one file holds; both are laid out as one process does.
    assert_equal(dict(shards["state_dict"]), dict(file["state_dict"]))
    assert_equal(shards["optimizer_states"], file["optimizer_states"])
    state, its = (c["optimizer_states"][0] for c in (reference, file))
    assert_equal(state["param_groups"], its["param_groups"])
    for number, values in state["state"].items():
        torch.testing.assert_close(
            its["state"][number]["exp_avg"], values["exp_avg"], rtol=0, atol=1e-5
        )
    # From one process's file to shards, as if nothing had happened.
    other = checkpoints.load(tmp_path / "file" / "from_one.ckpt")
    for name, weight in weights.items():
        torch.testing.assert_close(other["state_dict"][name], weight, rtol=0, atol=1e-5)
    use(tmp_path / "end.ckpt", tmp_path / "file" / "end.ckpt", tmp_path)
    refuse(tmp_path / "end.ckpt")


class SaveEpoch(Callback):
    """Saves behind the first epoch: in the middle of one the number of processes cannot change."""

    def __init__(self, path: Path) -> None:
        self.path = path

    def on_train_epoch_end(self, trainer: Any, *args: Any) -> None:
        if trainer.current_epoch == 0:
            trainer.save_checkpoint(self.path)


def use(folder: Path, file: Path, tmp_path: Path) -> None:
    """A folder is used like a file, and made one by the command line."""
    from lit_lm.cli import main

    assert main(["consolidate", str(folder), str(tmp_path / "made.ckpt")]) == 0
    made = torch.load(tmp_path / "made.ckpt", weights_only=True)
    assert_equal(dict(made["state_dict"]), dict(checkpoints.load(file)["state_dict"]))
    assert main(["consolidate", str(folder), str(tmp_path / "made.ckpt")]) == 2  # exists
    for path in (folder, tmp_path / "made.ckpt"):
        assert torch.equal(next(load_task(path).parameters()), next(load_task(file).parameters()))
    lazily = checkpoints.load(folder, lazily=True)
    assert lazily["global_step"] == STEPS
    assert {n: w.shape for n, w in lazily["state_dict"].items()} == {
        n: w.shape for n, w in made["state_dict"].items()
    }
    shutil.copytree(folder, tmp_path / "kept" / "last.ckpt")
    checkpoints.make_room(tmp_path / "kept", 2)
    assert checkpoints.find("last-intact", tmp_path / "kept") == tmp_path / "kept" / "last-1.ckpt"


class Code:
    """What runs code when it is unpickled."""

    def __reduce__(self) -> Any:
        return print, ("code of the checkpoint has run",)


def refuse(folder: Path) -> None:
    """Damage is named, and code is refused and does not run."""
    part = next(folder.glob("*.distcp"))
    content = part.read_bytes()
    part.write_bytes(content[:-100])
    with pytest.raises(checkpoints.DamagedError, match=part.name):
        checkpoints.load(folder)
    part.write_bytes(content)
    index = folder / ".metadata"
    index.write_bytes(pickle.dumps(Code()))
    with pytest.raises(InputError, match=r"builtins\.print.*could run code"):
        checkpoints.load(folder, lazily=True)
    (folder / "meta.pt").write_bytes(b"")
    with pytest.raises(checkpoints.DamagedError, match=r"meta\.pt"):
        checkpoints.check(folder)


class FlatOnCPU(FSDPStrategy):
    """Lightning refuses its own on a CPU, but not this."""


@pytest.mark.parametrize(
    ("strategy", "words"),
    [(FlatOnCPU(), "trainer/fsdp"), (SimpleNamespace(mesh=(1, 2)), "tensor_parallel_size=2")],
)
def test_other_ways_to_shard_are_refused(strategy: Any, words: str, tmp_path: Path) -> None:
    tiny.write(tmp_path)
    task, _ = tiny.make("causal", tmp_path)
    if mesh := getattr(strategy, "mesh", None):
        task._device_mesh = Mesh(mesh)
    task._trainer = SimpleNamespace(strategy=strategy, state=SimpleNamespace(fn="fit"))
    with pytest.raises(InputError, match=words):
        task.configure_model()


class Mesh:
    """Data and tensor parallel processes."""

    def __init__(self, sizes: tuple[int, ...]) -> None:
        self.sizes = sizes

    def size(self) -> int:
        return math.prod(self.sizes)

    def __getitem__(self, name: str) -> Mesh:
        return Mesh((self.sizes[["data_parallel", "tensor_parallel"].index(name)],))


def test_keep_last_takes_the_place_of_folders(tmp_path: Path) -> None:
    """A folder gives way to a file, and the other way round."""
    for kinds in ("folder file", "file folder", "folder folder", "file file"):
        paths = [tmp_path / kinds / f"{i}.ckpt" for i in range(2)]
        for path, kind in zip(paths, kinds.split(), strict=True):
            path.parent.mkdir(exist_ok=True)
            if kind == "folder":
                path.mkdir()
                (path / "x").touch()
            else:
                path.touch()
        checkpoints.put(paths[1], paths[0])
        assert paths[0].is_dir() == kinds.endswith("folder")
        assert not paths[1].exists()
    assert KeepLast(keep=1).keep == 1
