"""Utilisation against a device's peak; what is logged, and when."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import torch
from lightning.pytorch.callbacks import Callback

from lit_lm import Watchdog
from lit_lm.callbacks import meter
from lit_lm.csv_log import CSVLog
from lit_lm.peaks import known_peak, peak_flops
from tests import tiny

FAKE = 1e9


@pytest.mark.parametrize(
    ("name", "precision", "tera"),
    [
        ("Tesla V100-SXM2-16GB", "16-mixed", 125),
        ("Tesla V100-SXM2-16GB", "bf16-mixed", None),
        ("Tesla T4", "16-mixed", 65),
        ("NVIDIA A10", "bf16-mixed", 125),
        ("NVIDIA A10G", "bf16-mixed", 70),
        ("NVIDIA A100-SXM4-80GB", "bf16-mixed", 312),
        ("NVIDIA A100 80GB PCIe", "bf16-true", 312),
        ("NVIDIA A100-PCIE-40GB", "32-true", 19.5),
        ("NVIDIA A100-SXM4-40GB MIG 1g.5gb", "bf16-mixed", None),
        ("NVIDIA L4", "16-mixed", 121),
        ("NVIDIA L40S", "16-mixed", 362),
        ("NVIDIA H100 80GB HBM3", "bf16-mixed", 989.4),
        ("NVIDIA H100 PCIe", "bf16-mixed", 756),
        ("NVIDIA H200", "bf16-mixed", 989.4),
        ("NVIDIA B200", "bf16-mixed", 2250),
        ("NVIDIA GeForce RTX 3090", "bf16-mixed", 71),
        ("NVIDIA GeForce RTX 4090", "bf16-mixed", 165.2),
        ("NVIDIA GeForce RTX 4090 Laptop GPU", "bf16-mixed", None),
        ("NVIDIA GeForce RTX 5090", "32-true", 104.8),
        ("NVIDIA H100 80GB HBM3", "64-true", None),
        ("something new", "bf16-mixed", None),
    ],
)
def test_peaks_are_dense_and_of_the_very_device(name: str, precision: str, tera: Any) -> None:
    found = known_peak(name, precision)
    assert found == (None if tera is None else pytest.approx(tera * 1e12))


def test_single_precision_counts_as_what_it_is_computed_in() -> None:
    before = torch.get_float32_matmul_precision()
    try:
        torch.set_float32_matmul_precision("high")
        assert known_peak("NVIDIA A100-SXM4-80GB", "32-true") == pytest.approx(156e12)
        assert known_peak("Tesla T4", "32-true") == pytest.approx(8.1e12)
    finally:
        torch.set_float32_matmul_precision(before)


def test_a_cpu_has_no_peak() -> None:
    assert peak_flops(torch.device("cpu"), "bf16-mixed") is None


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("meter")
    tiny.write(folder)
    return folder


def rows(folder: Path, into: Path, kind: str = "causal", **settings: Any) -> list[dict[str, float]]:
    task, data = tiny.make(kind, folder)
    settings = {"limit_val_batches": 0, "log_every_n_steps": 2, **settings}
    tiny.trainer(into, logger=[CSVLog(into)], **settings).fit(task, data)
    return list(CSVLog(into, keep_rows=100).read())


def test_utilisation_is_flops_a_second_over_the_peak(
    folder: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Of the steps since the last row, as the other rates are; no column where the device is not known."""
    assert all("mfu" not in row for row in rows(folder, tmp_path / "unknown", max_steps=4))
    monkeypatch.setattr(meter, "peak_flops", lambda device, precision: FAKE)
    known = rows(folder, tmp_path / "known", max_steps=6)
    assert len(known) == 3
    before = {"flops": 0.0, "seconds": 0.0}
    for row in known:
        passed = {name: row[name] - before[name] for name in before}
        assert row["mfu"] == pytest.approx(passed["flops"] / passed["seconds"] / FAKE)
        before = row


@pytest.mark.parametrize("accumulate", [1, 3])
@pytest.mark.parametrize("kind", tiny.KINDS)
def test_rows_are_of_their_own_step(
    kind: str, accumulate: int, folder: Path, tmp_path: Path
) -> None:
    """Logging rarely writes the very rows of logging always, losses of parts included; the last step has one, too."""
    settings = {"max_steps": 5, "accumulate_grad_batches": accumulate, "callbacks": [Watchdog()]}
    found = []
    for every in (1, 2):
        torch.manual_seed(0)
        found.append(rows(folder, tmp_path / str(every), kind, log_every_n_steps=every, **settings))
    always, rarely = found
    assert [row["step"] for row in rarely] == [1, 3, 4]
    for row in rarely:
        other = always[int(row["step"])]
        names = set(row) - {
            "seconds",
            "tokens_per_second",
            "data_wait_fraction",
            "padding_fraction",
        }
        assert {"train/loss", "gradient_norm", "tokens", "lr"} <= names
        assert {n: row[n] for n in names} == {n: other[n] for n in names}


def test_every_step_is_in_callback_metrics(folder: Path, tmp_path: Path) -> None:
    """Also those behind which no row is written; a row ended by a late callback has its values."""
    task, data = tiny.make("causal", folder)

    class Late(Callback):
        losses: list[float] = []  # noqa: RUF012

        def on_train_batch_end(self, trainer: Any, pl_module: Any, *args: Any) -> None:
            assert trainer.callback_metrics["train/loss"] == pl_module.step_losses.mean
            self.losses.append(trainer.callback_metrics["train/loss"].item())
            trainer.should_stop |= len(self.losses) == 3

    late = Late()
    log = CSVLog(tmp_path)
    tiny.trainer(tmp_path, max_steps=20, limit_val_batches=0, callbacks=[late], logger=[log]).fit(
        task, data
    )
    assert len(set(late.losses)) == 3
    (row,) = CSVLog(tmp_path, keep_rows=100).read()
    assert row["train/loss"] == pytest.approx(late.losses[-1])


class Looks(Callback):
    """Overrides the hook between the watchdog's look and clipping."""

    def on_before_optimizer_step(self, trainer: Any, pl_module: Any, optimizer: Any) -> None:
        for parameter in pl_module.parameters():
            if self.factor != 1 and parameter.grad is not None:
                parameter.grad.mul_(self.factor)

    def __init__(self, factor: float) -> None:
        self.factor = factor


@pytest.mark.parametrize("optimizer", ["adamw", "muon"])
def test_the_watched_norm_clips_as_lightning_does(
    optimizer: str, folder: Path, tmp_path: Path
) -> None:
    """Bit for bit; and a gradient that another callback changes in between is clipped by its own norm."""
    states = []
    for callbacks in ([], [Watchdog()], [Watchdog(), Looks(1)], [Watchdog(), Looks(1e6)]):
        torch.manual_seed(0)
        task, data = tiny.make("causal", folder, tiny.OptimConfig(optimizer=optimizer))
        tiny.trainer(
            tmp_path, max_steps=4, limit_val_batches=0, gradient_clip_val=0.01, callbacks=callbacks
        ).fit(task, data)
        states.append(task.state_dict())
        grown = task
    for other in states[1:3]:
        assert all(torch.equal(states[0][name], other[name]) for name in other)
    norm = torch.nn.utils.get_total_norm([p.grad for p in grown.parameters() if p.grad is not None])
    assert norm.item() == pytest.approx(0.01, rel=1e-3)
