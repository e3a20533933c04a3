"""Keeps some of a corpus's training text back, so that settings can be chosen without a look at what they are tested on.

    python -m benchmarks.held_back

writes ``left`` and ``kept`` of SST-2 and CoNLL-2003 (LIT_LM_DATA) below runs/adaptation/held_back.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from pathlib import Path

from lit_lm.compare.files import write_text

_SHARE = 10
"""One document in so many is kept back, the last ones."""
_SENTENCES, _WORDS = 1000, 12
"""So many rows of at least so many words are kept back, the last ones: whole sentences, as in the test."""


def conll(train: Path, folder: Path) -> tuple[Path, Path]:
    """Keeps back documents, which begin with ``-DOCSTART-``.

    Args:
        train: the training file.
        folder: where the two parts are written.

    Returns:
        What is left, and what is kept back.
    """
    mark = "-DOCSTART-"
    documents = [mark + text for text in train.read_text().split(mark)[1:]]
    count = max(1, len(documents) // _SHARE)
    return _write(folder, "".join(documents[:-count]), "".join(documents[-count:]))


def phrases(train: Path, folder: Path) -> tuple[Path, Path]:
    """Keeps back sentences of a table (text, tab, label; a header) whose rows are sentences and phrases of them, as SST-2's
    are. Phrases of what is kept back, and what it is a phrase of, are left out altogether.

    Args:
        train: the training file.
        folder: where the two parts are written.

    Returns:
        What is left, and what is kept back.
    """
    header, *rows = train.read_text().splitlines(keepends=True)
    words = [row.partition("\t")[0].split() for row in rows]
    kept = [i for i, its in enumerate(words) if len(its) >= _WORDS][-_SENTENCES:]
    parts = {part for i in kept for part in _parts(words[i])}
    whole = {tuple(words[i]) for i in kept}
    left = [
        row
        for row, its in zip(rows, words, strict=True)
        if tuple(its) not in parts and whole.isdisjoint(_parts(its))
    ]
    return _write(folder, header + "".join(left), header + "".join(rows[i] for i in kept))


SPLITS: dict[str, tuple[str, Callable[[Path, Path], tuple[Path, Path]]]] = {
    "conll2003": ("conll2003/eng.train", conll),
    "sst2": ("sst2/train.tsv", phrases),
}
"""By experiment: its training text, below LIT_LM_DATA, and what keeps some of that back."""


def keep_back(experiment: str, folder: Path) -> tuple[Path, Path]:
    """Keeps back some of an experiment's training text, in a folder of its name.

    Raises:
        SystemExit: nothing of it can be kept back.
    """
    if experiment not in SPLITS:
        raise SystemExit(
            f"--held_back: nothing of {experiment} can be kept back; leave it out of --only"
        )
    train, split = SPLITS[experiment]
    return split(Path(os.environ["LIT_LM_DATA"], train), folder / experiment)


def main() -> None:
    """All of them."""
    if "LIT_LM_DATA" not in os.environ:
        raise SystemExit("LIT_LM_DATA must name the folder that holds the corpora")
    for experiment in SPLITS:
        left, kept = keep_back(experiment, Path("runs/adaptation/held_back"))
        print(f"{experiment}: {left}, {kept}")


def _parts(words: list[str]) -> set[tuple[str, ...]]:
    """All runs of words."""
    count = len(words)
    return {tuple(words[i:j]) for i in range(count) for j in range(i + 1, count + 1)}


def _write(folder: Path, left: str, kept: str) -> tuple[Path, Path]:
    folder.mkdir(parents=True, exist_ok=True)
    paths = folder / "left", folder / "kept"
    for path, text in zip(paths, (left, kept), strict=True):
        if not path.is_file() or path.read_text() != text:
            write_text(path, text)
    return paths


if __name__ == "__main__":
    main()
