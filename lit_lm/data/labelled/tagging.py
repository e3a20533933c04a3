"""The data module for words with tags."""

from __future__ import annotations

from collections.abc import Hashable, Sequence
from typing import Any, Literal, NamedTuple

import numpy as np

from lit_lm.data.labelled import tags
from lit_lm.data.labelled.base import LabelledData
from lit_lm.data.labelled.forms import frame
from lit_lm.data.labelled.rows import LabelledRow, Reader, array
from lit_lm.data.labelled.sources import (
    Example,
    TagSource,
)
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.specs import Form


class Piece(NamedTuple):
    """A sentence, or a part of it: the number of the example, and of its words the first one here."""

    example: int
    begin: int


class TaggingData(LabelledData):
    """Sentences in words, each word with a tag; the first token of a word carries it.

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row, special ones included. Longer sentences are read in pieces, cut between words; in
            training an entity that is cut is two, and in evaluation pieces are put together again.
        scheme: the tags to learn: "iob2", or "bioes". The files may have others.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training sentences only (or of what the source's ``context_words`` joins of them):
            a seeded subset that contains those of smaller numbers, stratified by the kinds of entities in it. None for all.
        examples_seed: which of these subsets.
        batch_size: rows of similar lengths in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    target = "tags"
    source: TagSource

    def __init__(
        self,
        source: TagSource,
        tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece"),  # noqa: B008 (frozen)
        form: Form | None = None,
        max_length: int = 128,
        scheme: Literal["iob2", "bioes"] = "iob2",
        characters: int = 0,
        examples: int | None = None,
        examples_seed: int = 0,
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(
            source,
            tokenizer,
            form,
            max_length,
            characters,
            examples,
            examples_seed,
            batch_size,
            batch_tokens,
            num_workers,
            seed,
        )
        self.scheme = scheme
        self._pieces: dict[str, list[Piece]] = {}

    def more_of_spec(self) -> dict[str, Any]:
        return {"context_words": getattr(self.source, "context_words", 0)}

    def stratum(self, example: Example) -> Hashable:
        return "+".join(sorted({span.kind for span in tags.spans(example.label, "iob2")})) or "none"

    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        kinds = sorted({span.kind for e in examples for span in tags.spans(e.label, "iob2")})
        if not kinds:
            raise InputError(
                f"no word of the {len(examples)} training sentences has a tag but O: is data.source.tag the tags' column?"
            )
        return tuple(tags.tag_names(kinds, self.scheme))

    def make_labelled(self, split: str, reader: Reader) -> list[LabelledRow]:
        examples, ids = self.examples(split), {name: i for i, name in enumerate(self.labels)}
        kinds = {tags.split(name)[1] for name in self.labels} - {""}
        room, form, longer, shortened = self._room(False), self.required_form, 0, 0
        out: list[LabelledRow] = []
        its: list[Piece] = []
        for i, example in enumerate(examples):
            entities = tags.spans(example.label, "iob2")
            if unknown := [e.kind for e in entities if e.kind not in kinds]:
                raise InputError(
                    f"{example.where}: an entity of type {unknown[0]!r}, which no training sentence has: they have "
                    f"{', '.join(sorted(kinds))}. Is this file of another task?"
                )
            pieces, long = pieces_of(reader.words(spaced(example.words)), room)
            longer, shortened = longer + (len(pieces) > 1), shortened + long
            at = 0
            for piece in pieces:
                framed = frame(self.tokenizer, form, [t for word in piece for t in word])
                sizes = [len(word) for word in piece]
                first = framed.first + np.cumsum([0, *sizes[:-1]])
                names = tags.written(
                    clipped(entities, at, at + len(piece)), len(piece), self.scheme
                )
                label = array(ids[name] for name in names)
                text = sum(len(w.encode()) + 1 for w in example.words[at : at + len(piece)])
                its.append(Piece(i, at))
                ids_L, segments_L = array(framed.ids), array(framed.segments)
                out.append(LabelledRow(ids_L, segments_L, label, i, text, first, len(out)))
                at += len(piece)
        self._pieces[split] = its
        if longer or shortened:
            long_words = f", and {shortened:,} words to so many" if shortened else ""
            self._tell(
                split,
                f"{longer:,} of {len(examples):,} sentences are longer than {self.max_length} tokens and read in "
                f"pieces{long_words}",
            )
        return out

    def piece(self, split: str, row: int) -> Piece:
        """What of its split a row is."""
        self.rows(split)
        return self._pieces[self.source.actual(split)][row]


def clipped(entities: Sequence[tags.Span], begin: int, end: int) -> list[tags.Span]:
    """What of entities is within words `begin` to `end`, counted from there."""
    return [
        tags.Span(e.kind, max(e.begin, begin) - begin, min(e.end, end) - begin)
        for e in entities
        if e.begin < end and e.end > begin
    ]


def spaced(words: Sequence[str]) -> list[str]:
    """Words as they stand in a text: all but the first behind a space."""
    return [*words[:1], *(f" {word}" for word in words[1:])]


def pieces_of(words: Sequence[list[int]], room: int) -> tuple[list[list[list[int]]], int]:
    """Words' ids cut into pieces of at most `room` tokens, as few as follow from taking as many words as fit; and how many
    words alone had more, which are cut.
    """
    pieces: list[list[list[int]]] = [[]]
    size, long = 0, 0
    for word in words:
        if len(word) > room:
            word, long = word[:room], long + 1
        if size + len(word) > room:
            pieces.append([])
            size = 0
        pieces[-1].append(word)
        size += len(word)
    return pieces, long
