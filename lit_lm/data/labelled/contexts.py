"""Sentences in their context: which of those that follow each other are read as one."""

from __future__ import annotations

from collections.abc import Hashable, Sequence


def joined(sizes: Sequence[int], documents: Sequence[Hashable], most: int) -> list[list[int]]:
    """Sentences of a document that follow each other, taken together as long as they have at most so many words.

    Args:
        sizes: words of each sentence.
        documents: which document each is of.
        most: words of what is taken together; a longer sentence stays on its own.

    Returns:
        Numbers of sentences, in order.
    """
    out: list[list[int]] = []
    size = 0
    for i, (words, document) in enumerate(zip(sizes, documents, strict=True)):
        if out and document == documents[i - 1] and size + words <= most:
            out[-1].append(i)
            size += words
        else:
            out.append([i])
            size = words
    return out
