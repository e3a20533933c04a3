"""The data module for causal language models."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import TextBatch
from lit_lm.data.modules import Data
from lit_lm.data.rows import StreamRows
from lit_lm.data.sources import TextSource
from lit_lm.data.tokenizers import TokenizerConfig
from lit_lm.errors import InputError
from lit_lm.specs import DataSpec


class TextData(Data):
    """Running text for causal language models.

    Every token of a split, and the eos that ends each document, is predicted exactly once per
    epoch.

    Args:
        source: where the documents come from.
        tokenizer: which tokenizer to train or load.
        length: most tokens in a row: the context.
        rows: "windows": all documents as one stream, cut every `length` tokens; the last row is
            padded. "documents": a row a document, longer ones split.
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    stream = "text"
    batch_type = TextBatch

    def __init__(
        self,
        source: TextSource,
        tokenizer: TokenizerConfig = TokenizerConfig(),  # noqa: B008 (frozen)
        length: int = 256,
        rows: Literal["windows", "documents"] = "windows",
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(source, tokenizer, batch_size, batch_tokens, num_workers, seed)
        if length < 1:
            raise InputError(f"length={length} must be at least 1.")
        self.length, self.kind = length, rows

    @property
    def spec(self) -> DataSpec:
        t = self.tokenizer
        return DataSpec(t.vocab_size, self.length, 0, t.pad_id, t.bos_id, t.eos_id, t.unk_id)

    def make_rows(self, split: str) -> StreamRows:
        rows = StreamRows(self.store(split, "text"), self.tokenizer, self.length, self.kind)
        if rows.num_split:
            rank_zero_info(
                f"{split}: {rows.num_split} documents are longer than {self.length} tokens: split."
            )
        return rows
