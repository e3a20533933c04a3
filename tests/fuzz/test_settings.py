"""Whatever a configuration holds: a step is trained, or one clear error names the key and the value."""

from __future__ import annotations

import warnings
from collections import Counter
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from lit_lm.cli import main
from tests import tiny
from tests.fuzz.settings import FILES, changes, experiment, write
from tests.fuzz.test_data import fuzz

KINDS = ["gpt", "bert", "elmo", "transformer", "rnn"]


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    folder = tmp_path_factory.mktemp("settings")
    tiny.write(folder, count=24)
    return folder


@pytest.fixture(autouse=True)
def _quiet() -> Iterator[None]:
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        yield


def fit(config: str, capsys: pytest.CaptureFixture[str]) -> str | None:
    """The error of a run in one line, or None if it has trained. Anything else is raised."""
    try:
        status: Any = main(["fit", "--config", config])
    except SystemExit as stop:
        status = stop.code
    error = capsys.readouterr().err
    if status == 0:
        return None
    assert status == 2
    lines = [line for line in error.splitlines() if "error: " in line]
    assert len(lines) == 1, error
    assert lines[0].startswith("lit-lm")
    assert "Traceback" not in error
    assert len(error) < 1500, "no wall of text"
    return lines[0]


def cases(kind: str, examples: int, folder: Path, capsys: Any) -> Counter[str]:
    counts: Counter[str] = Counter()
    base = experiment(folder, kind)
    assert fit(write(folder / "c.yaml", base), capsys) is None

    @fuzz(examples, change=changes(base))
    def test(change: Any) -> None:
        what, config, way = change
        error = fit(write(folder / "c.yaml", config), capsys)
        if what in ("unknown", "class"):
            assert error is not None, (way, config)
        if what == "fine":
            assert error is None, error
        if error is None:
            counts["trained"] += 1
        else:
            counts["refused"] += 1
            names = [key for key in way if key != "init_args"]
            assert names[-1] in error or (len(names) > 1 and names[-2] in error), (way, error)

    test()
    return counts


@pytest.mark.parametrize("kind", KINDS)
def test_settings_train_or_are_refused(
    kind: str, folder: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    counts = cases(kind, 16 if kind == "gpt" else 6, folder, capsys)
    assert counts["trained"] > 0, counts
    assert counts["refused"] > 1, counts


@pytest.mark.slow
@pytest.mark.parametrize("kind", KINDS)
def test_many_settings(kind: str, folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    counts = cases(kind, 300, folder, capsys)
    assert counts["trained"] > 40, counts
    assert counts["refused"] > 100, counts


def test_files_that_hold_no_settings(folder: Path, capsys: pytest.CaptureFixture[str]) -> None:
    for content in (*FILES, b"\xff\xfe\0", "run: {}".encode("utf-16"), b"\xef\xbb\xbf[]"):
        assert fit(write(folder / "broken.yaml", content), capsys), content
