"""Who multiplies: a choice by facts of the processor, and never at the price of precision."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
import torch

from lit_lm import matmul


@pytest.fixture(autouse=True)
def _as_before(monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    yield
    matmul.route("default")


def setting() -> str:
    return torch.get_float32_matmul_precision()


def test_default_and_onednn_are_what_they_say() -> None:
    assert matmul.route("onednn")
    assert setting() == "medium"
    assert not matmul.route("default")
    assert setting() == "highest"


def test_where_there_is_a_gpu_nothing_is_changed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    torch.set_float32_matmul_precision("high")
    assert not matmul.route("onednn")
    assert setting() == "high"
    torch.set_float32_matmul_precision("highest")


@pytest.mark.parametrize("avx512", [True, False])
@pytest.mark.parametrize("intels", [True, False])
@pytest.mark.parametrize("error", [2e-7, 2e-3])
def test_auto_asks_for_three_things(
    avx512: bool, intels: bool, error: float, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(matmul, "_has_avx512", lambda: avx512)
    monkeypatch.setattr(matmul, "_is_intels", lambda: intels)
    monkeypatch.setattr(matmul, "error", lambda: error)
    wanted = avx512 and not intels and error < 1e-6
    assert matmul.route("auto") == wanted
    assert setting() == ("medium" if wanted else "highest")


def test_the_error_tells_single_precision_from_bfloat16(monkeypatch: pytest.MonkeyPatch) -> None:
    assert matmul.error() < matmul._WITHIN
    product = torch.Tensor.__matmul__

    def rounded(a: torch.Tensor, b: torch.Tensor) -> torch.Tensor:
        if a.dtype == torch.float64:
            return product(a, b)
        return product(a.bfloat16().float(), b.bfloat16().float())

    monkeypatch.setattr(torch.Tensor, "__matmul__", rounded)
    assert matmul.error() > 100 * matmul._WITHIN


def test_makers_are_told_apart(tmp_path: Path) -> None:
    file = tmp_path / "cpuinfo"
    for maker, intels in (("AuthenticAMD", False), ("GenuineIntel", True)):
        file.write_text(f"processor\t: 0\nvendor_id\t: {maker}\n")
        assert matmul._is_intels(file) == intels
    assert matmul._is_intels(tmp_path / "none")
