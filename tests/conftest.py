"""Settings of all tests: a cache of their own, no network, and architectures taken from configs/model."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

os.environ.setdefault("WANDB_MODE", "offline")
os.environ.setdefault("TOKENIZERS_PARALLELISM", "false")

ROOT = Path(__file__).parent.parent
PROJECTS = (
    "averaged",
    "bilstm",
    "builtin",
    "dialogsum",
    "iwslt",
    "multi30k",
    "shakespeare",
    "wiki",
)
"""What the sizes that are no paper's are named after."""


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


@pytest.fixture(scope="session")
def news() -> Any:
    """Texts with classes."""
    from lit_lm.data import BuiltinLabels, ClassificationData
    from tests import labelled

    source = BuiltinLabels(about="news", train=12, val=6, test=0)
    return labelled.data_of(ClassificationData, source)


@pytest.fixture(scope="session")
def entities() -> Any:
    """Words with tags, in texts of which some are longer than a row."""
    from lit_lm.data import BuiltinTags, TaggingData
    from tests import labelled

    source = BuiltinTags(train=2, val=1, test=0)
    return labelled.data_of(TaggingData, source, max_length=9, scheme="bioes")


@pytest.fixture
def real_wandb(monkeypatch: pytest.MonkeyPatch) -> Iterator[pytest.MonkeyPatch]:
    """The real wandb, which would be online, and is at rest afterwards."""
    import wandb

    wandb.teardown()
    monkeypatch.delenv("WANDB_MODE", raising=False)
    monkeypatch.setenv("WANDB_API_KEY", "a" * 40)
    monkeypatch.setenv("WANDB_SILENT", "true")
    yield monkeypatch
    wandb.finish()
    wandb.teardown()
