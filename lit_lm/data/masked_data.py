"""The data module for masked language modelling and next-sentence prediction."""

from __future__ import annotations

from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import MaskedBatch
from lit_lm.data.masked_rows import Gaps, MaskedRows, Masking
from lit_lm.data.modules import Data
from lit_lm.data.prepare import Sentences
from lit_lm.data.shards.masked import MaskedWindows
from lit_lm.data.shards.source import ShardStore
from lit_lm.data.sources import TextSource
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.errors import InputError, check_counts
from lit_lm.specs import DataSpec


class MaskedTextData(Data):
    """Sentences of documents for BERT: rows with gaps, of one segment or of two.

    Which tokens are hidden, where a row is cut in two, and what the second segment is, is drawn anew in
    every epoch, and is the same in every evaluation.

    Args:
        source: where the documents come from.
        tokenizer: which tokenizer to train or load.
        max_length: most positions of a row, special tokens included.
        next_sentence: rows of two segments, of which half do not follow each other in a text (next-
            sentence prediction); otherwise rows of one segment.
        sentences: what a sentence is: a line of a document ("lines"), or also what ends in
            punctuation ("punctuation").
        masking: which tokens are predicted.
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn, and of everything that is random in them.
    """

    stream = "text"
    batch_type = MaskedBatch

    def __init__(
        self,
        source: TextSource,
        tokenizer: TokenizerConfig = TokenizerConfig(),  # noqa: B008 (frozen)
        max_length: int = 128,
        next_sentence: bool = True,
        sentences: Sentences = "lines",
        masking: Masking = Masking(),  # noqa: B008 (frozen)
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(source, tokenizer, batch_size, batch_tokens, num_workers, seed)
        self.max_length, self.next_sentence = max_length, next_sentence
        check_counts(self, "max_length", least=8)  # special tokens and some text
        self.sentences, self.masking = sentences, masking
        self.takes_shards = not next_sentence

    @property
    def spec(self) -> DataSpec:
        t = self.tokenizer
        if t.mask_id < 0:
            raise InputError(
                f"tokenizer {self.tokenizer_config.path} has no mask token ([MASK] or <mask>): choose one "
                "that has, or train one."
            )
        return t.spec(self.max_length, next_sentence=self.next_sentence)

    def make_rows(self, split: str) -> Gaps:
        store = self.store(split, "text")
        if isinstance(store, ShardStore):
            return MaskedWindows(
                store, self.tokenizer, self.max_length, masking=self.masking, seed=self.seed
            )
        documents = len(store.sentences) - 1
        if self.next_sentence and documents < 2:
            raise InputError(
                f"{split}: next-sentence prediction takes sentences of other documents, but there is one "
                "document only. Separate documents (in text files by a blank line), or set "
                "`next_sentence: false`."
            )
        rows = MaskedRows(
            store,
            self.tokenizer,
            self.max_length,
            next_sentence=self.next_sentence,
            masking=self.masking,
            seed=self.seed,
        )
        if rows.num_split:
            rank_zero_info(
                f"{split}: {rows.num_split} sentences are longer than a row: read in pieces."
            )
        if self.next_sentence and rows.num_single:
            rank_zero_info(
                f"{split}: {rows.num_single} of {len(rows)} rows are of one sentence: without a next "
                "one to predict."
            )
        if self.next_sentence and rows.num_single == len(rows):
            raise InputError(
                f"{split}: every row is of a single sentence, so there is no next one to predict. Raise "
                "max_length, set `sentences: punctuation` if lines are paragraphs, or `next_sentence: false`."
            )
        return rows
