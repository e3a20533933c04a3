"""Text that is made for measurements: words by Zipf's law, of a vocabulary that no run exhausts; nothing is fetched."""

from __future__ import annotations

from functools import lru_cache
from pathlib import Path

import numpy as np

WORDS, EXPONENT = 400_000, 1.3
"""Words of the vocabulary, and how fast they get rare: 17 million of them have 250,000 different ones, as the 17 million
of English Wikipedia's text8 have. Capitals, numbers and marks come on top.
"""


_HEADS = "b c d f g h j k l m n p r s t v w st tr pl gr sh th ch br qu"
_TAILS = "a e i o u ai ea ou er an en in on al is at or el es é ü"


@lru_cache(maxsize=1)
def vocabulary() -> np.ndarray:
    """Words of one to five syllables, the frequent ones short, some with letters beyond ASCII."""
    draw = np.random.default_rng(0)
    heads, tails = np.array(_HEADS.split(" ")), np.array(_TAILS.split(" "))
    tails_p = np.array([1.0] * (len(tails) - 2) + [0.04, 0.04])
    count = (1 + np.log(np.arange(WORDS) + 1) / 4 + draw.random(WORDS) - 0.5).astype(int).clip(1, 4)
    total = int(count.sum())
    syllables = np.char.add(
        draw.choice(heads, total), draw.choice(tails, total, p=tails_p / tails_p.sum())
    ).tolist()
    ends = np.cumsum(count)
    return np.array(
        ["".join(syllables[e - n : e]) for e, n in zip(ends, count, strict=True)], dtype=object
    )


def lines(size: int, seed: int = 1) -> list[str]:
    """Paragraphs, together at least so many bytes of UTF-8: sentences with capitals, commas and numbers."""
    words = vocabulary()
    draw = np.random.default_rng(seed)
    chances = (np.arange(WORDS) + 2.7) ** -EXPONENT
    borders = np.cumsum(chances / chances.sum())
    out: list[str] = []
    done = 0
    while done < size:
        sentences = []
        numbers = np.searchsorted(borders, draw.random(24_000))
        text = words[np.minimum(numbers, WORDS - 1)]
        marks = draw.random(len(text))
        ends = np.cumsum(draw.integers(6, 30, 1200))
        start = 0
        for end in ends[ends < len(text)].tolist():
            sentence = [
                f"{w}," if m < 0.06 else str(int(m * 1e4)) if m > 0.985 else w
                for w, m in zip(text[start:end], marks[start:end], strict=True)
            ]
            sentences.append(" ".join(sentence).capitalize() + ".")
            start = end
        at = 0
        while at < len(sentences):
            step = int(draw.integers(2, 9))
            out.append(" ".join(sentences[at : at + step]))
            done += len(out[-1].encode()) + 1
            at += step
    return out


def write(path: Path, size: int, seed: int = 1) -> Path:
    """A file of them, a paragraph a line, in constant memory."""
    with path.open("w", encoding="utf-8") as file:
        left, part = size, 0
        while left > 0:
            found = lines(min(left, 1 << 22), seed + 1000 * part)
            left -= sum(len(line.encode()) + 1 for line in found)
            file.write("\n".join(found) + "\n")
            part += 1
    return path
