"""Fixtures of the fuzz tests."""

from __future__ import annotations

import logging
from pathlib import Path

import pytest


@pytest.fixture
def own_cache(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> Path:
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    caplog.set_level(logging.WARNING, "lightning.pytorch.utilities.rank_zero")
    return tmp_path
