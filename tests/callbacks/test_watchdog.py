"""Steps that are not finite: found, named, stopped or left out without a trace."""

from __future__ import annotations

import copy
import os
from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch import seed_everything
from lightning.pytorch.callbacks import Callback, ModelCheckpoint
from lightning.pytorch.plugins import MixedPrecision

from lit_lm import InputError, OptimConfig, Watchdog
from tests import tiny

NAN, INF = float("nan"), float("inf")


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("tiny")
    tiny.write(folder)
    return folder


def poison(task: Any, at: set[int], factor: float = NAN, rank: int = 0) -> None:
    """Multiplies the loss of training micro-batches, counted from the start of training, on one rank."""
    loss, seen = task.loss, iter(range(10**6))

    def poisoned(batch: Any) -> Any:
        found = loss(batch)
        if task.training and next(seen) in at and task.global_rank == rank:
            found = found._replace(total=found.total * factor)
        return found

    task.loss = poisoned


class States(Callback):
    """Copies of weights, optimizer state and skipped steps after every optimizer step; the batches' rows."""

    def __init__(self) -> None:
        self.states: list[Any] = []
        self.logged: list[float | None] = []

    def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
        states = (pl_module.state_dict(), trainer.optimizers[0].state_dict())
        self.states.append(copy.deepcopy(states))
        logged = trainer.callback_metrics.get("skipped_steps")
        self.logged.append(None if logged is None else float(logged))


def same(a: Any, b: Any) -> bool:
    """Whether two nested states are equal, bit for bit; learning rates are the schedule's affair."""
    if isinstance(a, torch.Tensor):
        return torch.equal(a, b)
    if isinstance(a, dict):
        return a.keys() == b.keys() and all(
            same(a[k], b[k]) for k in a if k not in ("lr", "param_groups")
        )
    if isinstance(a, list | tuple):
        return len(a) == len(b) and all(same(x, y) for x, y in zip(a, b, strict=True))
    return bool(a == b)


def planned_rows(data: Any, epoch: int, batch: int) -> str:
    """The rows of a batch, as an error names them."""
    rows = data.train_dataloader().batch_sampler.plan(epoch)[batch].tolist()
    return ", ".join(map(str, rows[:8]))


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize(("accumulate", "bad"), [(1, 10), (3, 13)])
def test_a_loss_that_is_not_finite_stops_and_is_named(
    kind: str, accumulate: int, bad: int, folder: Path
) -> None:
    """The micro-batch, its rows, and the step: in the second epoch, so that nothing is right by accident."""
    task, data = tiny.make(kind, folder)
    poison(task, {bad})
    run = tiny.trainer(
        folder,
        max_epochs=3,
        limit_val_batches=0,
        accumulate_grad_batches=accumulate,
        callbacks=[Watchdog()],
    )
    with pytest.raises(InputError) as stop:
        run.fit(task, data)
    batches = len(data.train_dataloader())
    epoch, batch = divmod(bad, batches)
    steps = -(-batches // accumulate) * epoch + batch // accumulate
    message = str(stop.value)
    for words in (
        f"optimizer step {steps} (counted from 0, in epoch {epoch})",
        f"batch {batch} of the epoch on rank 0 has the loss nan",
        f"(rows {planned_rows(data, epoch, batch)}",
        "gradients of",
        "group 0 of 2: lr 0.00",
        "model.init_args.optim.lr",
        "gradient_clip_val",
        "--watchdog.nonfinite=skip",
    ):
        assert words in message, (words, message)
    assert message.count("has the loss") == 1
    assert run.global_step == steps


def test_weights_that_are_not_finite_are_named(folder: Path) -> None:
    """The losses of all ranks' batches are bad then; the parameter's name and group are in the error."""
    task, data = tiny.make("causal", folder)

    class Spoil(Callback):
        def on_train_batch_start(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            if trainer.global_step == 3:
                dict(pl_module.named_parameters())[NORM].data.fill_(NAN)

    NORM = next(n for n, p in task.named_parameters() if p.dim() == 1)
    run = tiny.trainer(folder, max_steps=9, callbacks=[Spoil(), Watchdog()], gradient_clip_val=1.0)
    with pytest.raises(
        InputError, match=r"optimizer step 3 .*gradients of \d+ of \d+ parameters"
    ) as stop:
        run.fit(task, data)
    assert "gradient_clip_val" not in str(stop.value)  # it is set


def test_a_gradient_alone_can_be_bad(folder: Path) -> None:
    task, data = tiny.make("causal", folder)
    name, parameter = list(task.named_parameters())[-1]
    parameter.register_hook(
        lambda grad: torch.full_like(grad, INF) if run.global_step == 2 else grad
    )
    run = tiny.trainer(folder, max_steps=9, callbacks=[Watchdog()], accumulate_grad_batches=2)
    with pytest.raises(InputError) as stop:
        run.fit(task, data)
    assert "the loss of its batches 4 to 5 of the epoch is finite, the gradient is not" in str(
        stop.value
    )
    assert f"gradients of 1 of {len(list(task.parameters()))} parameters" in str(stop.value)
    assert f"first {name} (group" in str(stop.value)


@pytest.mark.parametrize("kind", tiny.KINDS)
@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_a_skipped_step_leaves_no_trace(
    kind: str, optimizer: str, folder: Path, caplog: pytest.LogCaptureFixture
) -> None:
    task, data = tiny.make(kind, folder, OptimConfig(optimizer=optimizer, weight_decay=0.1))
    poison(task, {2, 3, 5}, INF)
    states, watchdog = States(), Watchdog("skip")
    run = tiny.trainer(
        folder,
        max_steps=8,
        limit_val_batches=0,
        callbacks=[states, watchdog],
        gradient_clip_val=1.0,
    )
    run.fit(task, data)
    equal = [same(a, b) for a, b in zip(states.states, states.states[1:], strict=False)]
    assert equal == [False, True, True, False, True, False, False]
    assert states.logged == [0, 0, 1, 2, 2, 3, 3, 3]
    assert (watchdog.skipped, watchdog.in_a_row) == (3, 0)
    assert caplog.text.count("Skipped: optimizer step") == 3
    assert "3 of 8 optimizer steps were not finite and were skipped" in caplog.text


def test_skipping_stops_after_so_many_in_a_row(folder: Path) -> None:
    task, data = tiny.make("causal", folder)
    poison(task, {1, 2, 4, 5, 6, 7})
    watchdog = Watchdog("skip", max_skipped=3)
    run = tiny.trainer(folder, max_steps=20, callbacks=[watchdog])
    with pytest.raises(
        InputError, match=r"3 optimizer steps in a row .*max_skipped=3.*optimizer step 6"
    ):
        run.fit(task, data)
    assert (watchdog.skipped, watchdog.in_a_row) == (5, 3)


def test_a_checkpoint_goes_on_counting(folder: Path, tmp_path: Path) -> None:
    task, data = tiny.make("causal", folder)
    poison(task, {1, 3})
    keep = ModelCheckpoint(tmp_path, filename="last", every_n_train_steps=4)
    settings: Any = {"limit_val_batches": 0, "enable_checkpointing": True}
    tiny.trainer(tmp_path, max_steps=4, callbacks=[keep, Watchdog("skip")], **settings).fit(
        task, data
    )
    again, data = tiny.make("causal", folder)
    poison(again, {0})
    watchdog = Watchdog("skip")
    run = tiny.trainer(tmp_path, max_steps=6, limit_val_batches=0, callbacks=[watchdog])
    run.fit(again, data, ckpt_path=tmp_path / "last.ckpt", weights_only=True)
    assert watchdog.skipped == 3


def test_a_finite_run_is_the_same_with_and_without(folder: Path) -> None:
    found = []
    for callbacks in ([], [Watchdog()], [Watchdog("skip")]):
        seed_everything(0)
        task, data = tiny.make("causal", folder)
        tiny.trainer(folder, max_steps=5, callbacks=callbacks, limit_val_batches=0).fit(task, data)
        found.append(task.state_dict())
    assert same(found[0], found[1])
    assert same(found[0], found[2])


@pytest.mark.parametrize("bad", ["gradient", "loss"])
def test_a_gradient_scaler_keeps_its_infinite_gradients(bad: str, folder: Path) -> None:
    """Infinite gradients are how it finds its scale; a loss that is not finite is not."""
    task, data = tiny.make("causal", folder)
    watchdog, states = Watchdog("skip"), States()
    if bad == "loss":
        poison(task, {2})
    else:
        parameter = next(iter(task.parameters()))
        parameter.register_hook(lambda grad: grad * (INF if run.global_step == 2 else 1))
    half = MixedPrecision("16-mixed", "cpu", torch.amp.GradScaler("cpu"))
    run = tiny.trainer(
        folder, max_steps=5, callbacks=[states, watchdog], plugins=[half], limit_val_batches=0
    )
    run.fit(task, data)
    assert watchdog.skipped == (1 if bad == "loss" else 0)
    moved = [not same(a, b) for a, b in zip(states.states, states.states[1:], strict=False)]
    assert moved == [True, False, True, True]
    assert all(p.isfinite().all() for p in task.parameters())


@pytest.mark.parametrize(
    "settings", [{"nonfinite": "ignore"}, {"max_skipped": 0}, {"peer_timeout": -1.0}]
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    ((name, value),) = settings.items()
    with pytest.raises(InputError, match=rf"watchdog\.{name}={value!r}"):
        Watchdog(**settings)


def _one_of_two(rank: int, folder: str, port: int, policy: str, accumulate: int) -> None:
    os.environ |= {
        "MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "WORLD_SIZE": "2", "LOCAL_RANK": str(rank),
        "NODE_RANK": "0",
    }  # fmt: skip
    torch.set_num_threads(1)
    task, data = tiny.make("causal", Path(folder), batch_size=4)
    poison(task, {4}, rank=1)
    states, watchdog = States(), Watchdog(policy)  # type: ignore[arg-type]
    run = tiny.trainer(
        Path(folder), max_steps=6, limit_val_batches=0, devices=2, strategy="ddp",
        accumulate_grad_batches=accumulate, callbacks=[states, watchdog],
    )  # fmt: skip
    message = ""
    try:
        run.fit(task, data)
    except InputError as error:
        message = str(error)
    rows = data.train_dataloader().batch_sampler.plan(0)[4 * 2 + 1].tolist()
    torch.save(
        {"message": message, "skipped": watchdog.skipped, "states": states.states, "rows": rows},
        Path(folder) / f"rank{rank}.pt",
    )


@pytest.mark.slow
@pytest.mark.parametrize(("policy", "accumulate"), [("skip", 3), ("stop", 1), ("stop", 3)])
def test_two_processes_decide_alike(policy: str, accumulate: int, tmp_path: Path) -> None:
    """Only the second process's batch is bad, and both name it."""
    from lightning.fabric.plugins.environments.lightning import find_free_network_port

    tiny.write(tmp_path)
    tiny.make("causal", tmp_path)  # prepared once
    arguments = (str(tmp_path), find_free_network_port(), policy, accumulate)
    torch.multiprocessing.spawn(_one_of_two, arguments, nprocs=2)
    one, two = (torch.load(tmp_path / f"rank{r}.pt", weights_only=True) for r in (0, 1))
    step = 4 // accumulate
    if policy == "stop":
        assert one["message"] == two["message"]
        assert f"optimizer step {step} " in one["message"]
        rows = ", ".join(map(str, one["rows"]))
        assert f"batch 4 of the epoch on rank 1 has the loss nan (rows {rows} of" in one["message"]
        assert one["message"].count("has the loss") == 1
    else:
        assert one["skipped"] == two["skipped"] == 1
        assert not one["message"] + two["message"]
        last = step * accumulate + accumulate - 1  # micro-batches of the window's end
        assert same(one["states"][last - accumulate], one["states"][last])
        assert not same(one["states"][last], one["states"][last + accumulate])
        assert same(one["states"][-1][0], two["states"][-1][0])
