"""Fixtures of the data tests."""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

import pytest


@pytest.fixture
def write(tmp_path: Path) -> Callable[[str, str | bytes], str]:
    """Write a file into the test's folder; gives its path."""

    def write(name: str, content: str | bytes) -> str:
        path = tmp_path / name
        path.write_bytes(content if isinstance(content, bytes) else content.encode())
        return str(path)

    return write


@pytest.fixture(scope="session")
def corpora() -> Path:
    """The folder of real corpora."""
    folder = os.environ.get("LIT_LM_DATA")
    if not folder:
        pytest.skip("needs real corpora: set LIT_LM_DATA to their folder")
    return Path(folder)
