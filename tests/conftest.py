"""Settings of all tests: a cache of their own, no network, and architectures taken from configs/model."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent


@pytest.fixture(scope="session", autouse=True)
def cache(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """Prepared data of the tests, shared among them."""
    folder = tmp_path_factory.mktemp("cache")
    os.environ["LIT_LM_CACHE"] = str(folder)
    return folder


@pytest.fixture(scope="session")
def corpora(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder laid out like the real corpora, to be used as LIT_LM_DATA."""
    from tests.corpora import write

    folder = tmp_path_factory.mktemp("corpora")
    write(folder)
    return folder


@pytest.fixture
def in_corpora(corpora: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """LIT_LM_DATA points to the stand-ins."""
    monkeypatch.setenv("LIT_LM_DATA", str(corpora))
    return corpora


@pytest.fixture(scope="session")
def real_corpora() -> Path:
    """The folder of real corpora."""
    folder = os.environ.get("LIT_LM_DATA")
    if not folder:
        pytest.skip("needs real corpora: set LIT_LM_DATA to their folder")
    return Path(folder)
