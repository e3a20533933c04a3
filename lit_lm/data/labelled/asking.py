"""The data module for questions on texts."""

from __future__ import annotations

from collections.abc import Hashable, Sequence

from lit_lm.data.labelled.answers import Window, windows
from lit_lm.data.labelled.base import LabelledData
from lit_lm.data.labelled.rows import LabelledRow, Reader
from lit_lm.data.labelled.sources import (
    AnswerSource,
    Example,
)
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.errors import check_counts
from lit_lm.specs import Form


class AnswerData(LabelledData):
    """Questions on texts in which the answers stand (extractive question answering).

    Args:
        source: where the examples come from.
        tokenizer: which tokenizer to load or, for encoders without pre-training, to train on the training texts.
        form: how the encoder reads texts: the architecture's ``form``. The command line fills it in.
        max_length: most tokens of a row: the question and a window of the text.
        stride: how far the windows of a long text are apart, in tokens.
        characters: characters of a token that networks over characters (ELMo) read; 0 for networks over ids.
        examples: train on so many of the training questions only: a seeded subset that contains those of smaller
            numbers. None for all.
        examples_seed: which of these subsets.
        batch_size: rows of similar lengths in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    target = "answer"
    source: AnswerSource

    def __init__(
        self,
        source: AnswerSource,
        tokenizer: TokenizerConfig = TokenizerConfig(kind="wordpiece"),  # noqa: B008 (frozen)
        form: Form | None = None,
        max_length: int = 384,
        stride: int = 128,
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
        self.stride = stride
        check_counts(self, "stride")
        self._windows: dict[str, list[Window]] = {}

    def stratum(self, example: Example) -> Hashable:
        return "answered" if example.label else "no answer"

    def find_labels(self, examples: Sequence[Example]) -> tuple[str, ...]:
        return ()

    def make_labelled(self, split: str, reader: Reader) -> list[LabelledRow]:
        examples, out = self.examples(split), []
        for i, (example, question) in enumerate(
            zip(examples, reader.texts([e.text for e in examples]), strict=True)
        ):
            out += windows(
                i,
                example,
                question,
                reader,
                self.tokenizer,
                self.required_form,
                self.max_length,
                self.stride,
            )
        rows = [window.row._replace(number=n) for n, window in enumerate(out)]
        self._windows[split] = out
        if len(out) > len(examples):
            self._tell(split, f"{len(examples):,} questions in {len(out):,} windows of their texts")
        return rows

    def window(self, split: str, row: int) -> Window:
        """A row with its words."""
        self.rows(split)
        return self._windows[self.source.actual(split)][row]

    def answer(self, split: str, row: int, first: int, last: int) -> str:
        """The text of words `first` to `last` of a row's window; empty for word 0."""
        window = self.window(split, row)
        text = self.examples(split)[window.row.example].second
        assert text is not None
        return "" if not first else text[window.words[first].begin : window.words[last].end]
