"""Small stand-ins for the real corpora, in the same layout, written in the built-in language."""

from __future__ import annotations

from pathlib import Path

from lit_lm.data.builtin import generate


def write(folder: Path) -> None:
    """Writes wiki, shakespeare and multi30k look-alikes below ``folder``."""
    (folder / "wiki").mkdir(parents=True)
    (folder / "shakespeare").mkdir()
    (folder / "multi30k").mkdir()
    for split, count in (("train", 60), ("val", 12), ("test", 12)):
        documents = list(generate(0, split, count))
        text = "\n\n".join(d.text for d in documents) + "\n"
        if split != "test":
            (folder / "wiki" / f"{split}.txt").write_text(text)
        if split == "train":
            (folder / "shakespeare" / "input.txt").write_text(text)
        sentences = [s for d in documents for s in d.sentences]
        stem = "test_2016_flickr" if split == "test" else split
        for language in ("en", "de", "fr"):
            lines = [s.text if language == "en" else s.translation for s in sentences]
            (folder / "multi30k" / f"{stem}.{language}").write_text("\n".join(lines) + "\n")
