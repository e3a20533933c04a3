"""Fixtures of the data tests."""

from __future__ import annotations

from pathlib import Path

import pytest

from lit_lm.data import TextFiles, write_shards
from tests.data.shards import BPE, Write, text


@pytest.fixture
def write(tmp_path: Path) -> Write:
    """Write a file into the test's folder; gives its path."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture
def own_cache(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A cache of the test's own."""
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    return tmp_path / "cache"


@pytest.fixture
def made(write: Write, tmp_path: Path) -> tuple[TextFiles, str]:
    """A text and its shards."""
    source = TextFiles(write("a.txt", text()), val=write("v.txt", text(1, 40)))
    write_shards(source, BPE, str(tmp_path / "out"), shards=7)
    return source, str(tmp_path / "out")


@pytest.fixture(scope="session")
def corpora(real_corpora: Path) -> Path:
    """Here the real ones."""
    return real_corpora
