"""A translation task as a function from texts to outputs: batches of similar lengths, long texts in parts, tags."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from itertools import product
from random import Random
from typing import Literal, NamedTuple

import torch

from lit_lm.data import Tokenizer
from lit_lm.data.multilingual import tag
from lit_lm.data.splitting import beginning, split
from lit_lm.errors import InputError
from lit_lm.generation import Beam, Hypothesis, Sampling
from lit_lm.tasks import Translation

Overlong = Literal["split", "truncate", "error"]

_SHORT = 16
"""Shorter sources count as so many tokens, for what a row costs besides its source."""


class Scored(NamedTuple):
    """An output, and its score in nats: see ``generation.Hypothesis``; of a text in parts the sum of theirs."""

    output: str
    score: float


@dataclass
class Tally:
    """How many lines something happened to, and the number of the first one."""

    count: int = 0
    first: int = 0

    def add(self, number: int) -> None:
        """One more."""
        self.count += 1
        self.first = min(self.first or number, number)


@dataclass
class Translator:
    """Texts to outputs.

    Args:
        task: a trained task.
        name: what the texts are of, for messages.
        beam: the search's settings.
        sampling: draw instead of searching.
        seed: of drawing; what is drawn for a line depends on it and the line's number, and on nothing else.
        n_best: outputs of a text.
        language: puts its tag before each source, and before each part of a long one (Johnson et al. 2017,
            https://arxiv.org/abs/1611.04558, section 3).
        overlong: what becomes of sources longer than the rows of the training data, or than the network's positions.
        batch_tokens: most positions of sources in a batch, padding included.

    Attributes:
        limit: most tokens of a source, special ones included; None for no limit.
        long: lines that had more.
        unfinished: lines whose best output was ended by its limit of length.

    Raises:
        InputError: the settings do not fit together, or not the task.
    """

    task: Translation
    name: str
    beam: Beam
    sampling: Sampling | None = None
    seed: int = 0
    n_best: int = 1
    language: str | None = None
    overlong: Overlong = "split"
    batch_tokens: int = 4096

    def __post_init__(self) -> None:
        most = 1 if self.sampling is not None else self.beam.size
        if self.n_best > most:
            raise InputError(
                f"--n_best={self.n_best} is more than the "
                + (f"beam of {most}: widen it (--beam)" if self.sampling is None else "one draw")
            )
        self.long, self.unfinished = Tally(), Tally()
        self._tokenizer = self.task.require_tokenizer()
        self._prefix = "" if self.language is None else f"{tag_of(self._tokenizer, self.language)} "
        self._head = self._tokenizer.encode(self._prefix.rstrip())
        lengths = (self.task.hparams["spec"]["max_length"], self.task.net.max_length)
        self.limit = min((length for length in lengths if length), default=None)
        self._room = None if self.limit is None else self.limit - len(self.task.frame([])[0])
        if self._room is not None and self._room <= len(self._head):
            raise InputError(
                f"this checkpoint's sources have at most {self.limit} tokens, which leaves no room for text"
            )

    def __call__(
        self,
        texts: Sequence[str],
        first: int = 1,
        ended: Callable[[list[int]], None] = lambda which: None,
    ) -> list[list[Scored]]:
        """Outputs for each text, best first; an empty one for a text without tokens.

        Args:
            texts: the sources.
            first: number of the first one in the input.
            ended: is told, while others are under way, which texts are done.

        Raises:
            InputError: a source is too long, if that is to be an error.
        """
        parts = self._parts(texts, first)
        places = [(i, j) for i, its in enumerate(parts) for j in range(len(its))]
        rows = [self.task.frame(parts[i][j])[0] for i, j in places]
        found: list[list[list[Hypothesis]]] = [[[] for _ in its] for its in parts]
        open_parts = Counter(i for i, _ in places)
        ended([i for i, its in enumerate(parts) if not its])
        for batch in batches([len(row) for row in rows], self.batch_tokens):
            outputs = self._decode([rows[k] for k in batch], [places[k] for k in batch], first)
            for k, hypotheses in zip(batch, outputs, strict=True):
                found[places[k][0]][places[k][1]] = hypotheses
            here = Counter(places[k][0] for k in batch)
            open_parts -= here
            ended([i for i in here if not open_parts[i]])
        for number, its in enumerate(found, first):
            if any(not hypotheses[0].finished for hypotheses in its):
                self.unfinished.add(number)
        return [self._joined(its) for its in found]

    def _parts(self, texts: Sequence[str], first: int) -> list[list[list[int]]]:
        """Ids of each text, of a long one in several parts."""
        encoded = self._tokenizer.encode_batch([self._prefix + text for text in texts])
        out: list[list[list[int]]] = []
        for number, (text, ids) in enumerate(zip(texts, encoded, strict=True), first):
            if not text.strip() or len(ids) <= len(self._head):
                out.append([])
            elif self._room is None or len(ids) <= self._room:
                out.append([ids.tolist()])
            else:
                self.long.add(number)
                out.append(self._long(text, ids.tolist(), number, self._room))
        return out

    def _long(self, text: str, ids: list[int], number: int, room: int) -> list[list[int]]:
        if self.overlong == "split":
            return split(text, self._tokenizer, room, self._prefix)
        if self.overlong == "truncate":
            return [ids[: beginning(ids[:room], self._tokenizer, room)]]
        raise InputError(
            f"{self.name}, line {number} has {len(self.task.frame(ids)[0]):,} tokens, more than the {self.limit:,} "
            "that this checkpoint's rows have: take it in parts (--overlong=split), read only its beginning "
            f"(--overlong=truncate), or leave it out. It starts: {text[:60]!r}"
        )

    def _decode(
        self, rows: list[list[int]], places: list[tuple[int, int]], first: int
    ) -> list[list[Hypothesis]]:
        if self.sampling is None:
            return self.task.decode_rows(rows, beam=self.beam, count=self.n_best)
        draws = [self._random(first + i, j) for i, j in places]
        return self.task.decode_rows(rows, sampling=self.sampling, generator=draws)

    def _random(self, number: int, part: int) -> torch.Generator:
        seed = Random(f"{self.seed} {number} {part}").getrandbits(63)
        return torch.Generator(self.task.device).manual_seed(seed)

    def _joined(self, parts: list[list[Hypothesis]]) -> list[Scored]:
        """The best ways to join one output of each part."""
        best = [Scored("", 0.0)]
        for hypotheses in parts:
            scored = [Scored(self.task.text(h), h.score) for h in hypotheses]
            pairs = (
                Scored(
                    f"{a.output} {b.output}" if a.output and b.output else a.output + b.output,
                    a.score + b.score,
                )
                for a, b in product(best, scored)
            )
            best = sorted(pairs, key=lambda joined: -joined.score)[: self.n_best]
        return best


def batches(lengths: Sequence[int], batch_tokens: int) -> Iterator[list[int]]:
    """Indices of rows, the longest first, in batches of at most so many positions, but at least one row."""
    order = sorted(range(len(lengths)), key=lambda k: -lengths[k])
    begin = 0
    while begin < len(order):
        count = max(batch_tokens // max(lengths[order[begin]], _SHORT), 1)
        yield order[begin : begin + count]
        begin += count


def tag_of(tokenizer: Tokenizer, language: str) -> str:
    """The tag that asks for a language.

    Raises:
        InputError: to this tokenizer it is no token.
    """
    name = tag(language)
    ids = tokenizer.encode(name)
    if len(ids) == 1 and ids[0] not in tokenizer.special_ids:
        return name
    known = [symbol[2:-1] for symbol in tokenizer.config.symbols if symbol == tag(symbol[2:-1])]
    raise InputError(
        f"--to={language}: {name} is no token of this checkpoint"
        + (f"; it knows {', '.join(known)}" if known else ", which was not trained with such tags")
    )
