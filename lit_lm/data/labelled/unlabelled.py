"""Texts, words and questions that nobody has labelled, as the rows that an encoder under a task with labels was trained on."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence

import numpy as np

from lit_lm.data.batches import LabelledBatch
from lit_lm.data.labelled.answers import Window, windows
from lit_lm.data.labelled.forms import frame, num_special
from lit_lm.data.labelled.rows import LabelledRow, LabelledRows, Reader, array, cut
from lit_lm.data.labelled.sources import Example
from lit_lm.data.labelled.tagging import pieces_of, spaced
from lit_lm.data.samplers import plan_batches
from lit_lm.data.tokenizers import Tokenizer
from lit_lm.errors import InputError
from lit_lm.specs import Form

_ROOM = 8
"""Tokens of a text that a question must leave room for."""

Told = Callable[[int, int], None]
"""What is told of texts that are too long: their numbers from 0, and how many tokens their rows would have."""


class Unlabelled:
    """Makes rows, and batches of rows of similar lengths. Words outside the vocabulary that a network reads by their
    characters are kept for as long as this is: make one for each stretch of a long stream.

    Args:
        tokenizer: makes the ids.
        form: how the encoder reads texts.
        limit: most tokens of a row, special ones included.
        characters: characters of a token that the network reads; 0 for networks over ids.
        paired: the encoder was trained on pairs of texts, or on single ones; None where that is not known.
    """

    def __init__(
        self,
        tokenizer: Tokenizer,
        form: Form,
        limit: int,
        characters: int,
        paired: bool | None = None,
    ) -> None:
        self.limit, self.paired = limit, paired
        self._tokenizer, self._form = tokenizer, form
        self._reader = Reader(tokenizer, characters)

    def texts(
        self, texts: Sequence[str], seconds: Sequence[str] | None = None, told: Told | None = None
    ) -> list[LabelledRow]:
        """A row for each text, or pair of texts.

        Args:
            texts: the texts, or the first ones of pairs.
            seconds: the second ones.
            told: is told of texts that are too long, which are then cut; they are errors when None.

        Raises:
            InputError: a text is too long, or pairs are given where single texts are wanted, or the other way round.
        """
        if seconds is not None and len(seconds) != len(texts):
            raise InputError(f"{len(texts)} texts and {len(seconds)} second ones: pairs are wanted")
        if self.paired is not None and self.paired != (seconds is not None):
            raise InputError(
                "the checkpoint was trained on pairs of texts: give the second ones too (--pairs or --second, or `seconds`)"
                if self.paired
                else "the checkpoint was trained on single texts: give no second ones"
            )
        firsts = self._reader.texts(texts)
        others: Sequence[list[int] | None] = (
            [None] * len(texts) if seconds is None else self._reader.texts(seconds)
        )
        special = num_special(self._form, seconds is not None)
        out = []
        for i, (first, second) in enumerate(zip(firsts, others, strict=True)):
            size = special + len(first) + len(second or ())
            if size > self.limit:
                if told is None:
                    raise InputError(
                        f"text {i + 1} has {size:,} tokens, more than the {self.limit:,} of this task's rows: shorten it, "
                        f"or say that its beginning will do. It starts: {texts[i][:60]!r}"
                    )
                told(i, size)
                first, second = cut(first, second, self.limit - special)
            framed = frame(self._tokenizer, self._form, first, second)
            out.append(LabelledRow(array(framed.ids), array(framed.segments), 0, i, 0))
        return out

    def sentences(self, sentences: Sequence[Sequence[str]]) -> list[LabelledRow]:
        """Rows of words, in order: one for each sentence that has any, several for a long one, cut between words. Words are
        read as in training, each but the first behind a space.
        """
        out = []
        for i, words in enumerate(sentences):
            pieces, _ = pieces_of(
                self._reader.words(spaced(words)), self.limit - num_special(self._form, False)
            )
            for piece in pieces if words else ():
                framed = frame(self._tokenizer, self._form, [t for word in piece for t in word])
                first = framed.first + np.cumsum([0, *(len(word) for word in piece[:-1])])
                out.append(
                    LabelledRow(array(framed.ids), array(framed.segments), 0, i, 0, first=first)
                )
        return out

    def questions(
        self,
        questions: Sequence[str],
        contexts: Sequence[str],
        stride: int,
        names: Sequence[str] | None = None,
    ) -> list[Window]:
        """Rows of each question with windows of its text; none for texts without words.

        Args:
            questions: the questions.
            contexts: the text of each.
            stride: how far the windows of a long text are apart, in tokens.
            names: what messages call the questions.

        Raises:
            InputError: a question leaves hardly any room for its text.
        """
        out: list[Window] = []
        read = self._reader.texts(questions)
        for i, (question, context, ids) in enumerate(zip(questions, contexts, read, strict=True)):
            where = names[i] if names is not None else f"question {i + 1}"
            if len(ids) + num_special(self._form, True) + _ROOM > self.limit:
                raise InputError(
                    f"{where}: the question has {len(ids):,} tokens, which leaves no room for its text in rows of "
                    f"{self.limit:,}: shorten it. It starts: {question[:60]!r}"
                )
            found = windows(
                i,
                Example(question, context, (), where),
                ids,
                self._reader,
                self._tokenizer,
                self._form,
                self.limit,
                stride,
            )
            out += found if len(found[0].words) > 1 else []
        return out

    def batches(
        self, rows: Sequence[LabelledRow], batch_tokens: int
    ) -> Iterator[tuple[list[int], LabelledBatch]]:
        """Batches of at most so many positions, but at least one row, each with the numbers of its rows."""
        if not rows:
            return
        its = LabelledRows(rows, self._reader, self._tokenizer)
        most = max(batch_tokens, int(its.lengths.max()))
        for chosen in plan_batches(its.lengths, batch_tokens=most, shuffle=False, seed=0, epoch=0):
            which = chosen.tolist()
            yield which, its.collate([its[i] for i in which])
