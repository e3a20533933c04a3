"""The notebooks run from top to bottom, and are kept without outputs."""

from __future__ import annotations

from pathlib import Path

import nbformat
import pytest
from nbclient import NotebookClient
from nbformat import NotebookNode

from tests.conftest import ROOT

NOTEBOOKS = sorted((ROOT / "notebooks").glob("*.ipynb"))
WANTED = {"bert", "compare", "elmo", "gpt", "rnn", "transformer"}


def test_there_is_one_for_each_architecture_and_one_for_comparisons() -> None:
    assert {path.stem for path in NOTEBOOKS} >= WANTED


@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_outputs_are_stripped(path: Path) -> None:
    notebook = nbformat.read(path, as_version=4)
    nbformat.validate(notebook)
    for cell in notebook.cells:
        assert not cell.metadata
        assert not cell.get("attachments")
        if cell.cell_type == "code":
            assert cell.outputs == []
            assert cell.execution_count is None


def run(notebook: NotebookNode, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Its own assertions hold, it draws, and it leaves nothing where it was started."""
    folders = {name: tmp_path / name for name in ("work", "temporary", "ipython")}
    for folder in folders.values():
        folder.mkdir()
    monkeypatch.setenv("TMPDIR", str(folders["temporary"]))
    monkeypatch.setenv("IPYTHONDIR", str(folders["ipython"]))
    monkeypatch.delenv("MPLBACKEND", raising=False)  # the notebook's own: pictures in the outputs
    resources = {"metadata": {"path": str(folders["work"])}}
    NotebookClient(notebook, timeout=180, kernel_name="python3", resources=resources).execute()
    outputs = [output for cell in notebook.cells for output in cell.get("outputs", [])]
    assert any("image/png" in output.get("data", {}) for output in outputs)
    assert list(folders["work"].iterdir()) == []


@pytest.mark.slow
@pytest.mark.parametrize("path", NOTEBOOKS, ids=lambda path: path.stem)
def test_it_runs(path: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    run(nbformat.read(path, as_version=4), tmp_path, monkeypatch)


def test_one_runs_on_little_text(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Every cell as it stands, but for how much is read and how long is trained."""
    notebook = nbformat.read(ROOT / "notebooks" / "gpt.ipynb", as_version=4)
    for old, new in (("train=2000", "train=200"), ("max_steps=120", "max_steps=30")):
        (cell,) = (cell for cell in notebook.cells if old in cell.source)
        cell.source = cell.source.replace(old, new)
    run(notebook, tmp_path, monkeypatch)
