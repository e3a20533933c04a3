"""Keeps some of a corpus's training text back, so that settings can be chosen without a look at what they are tested on."""

from __future__ import annotations

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
