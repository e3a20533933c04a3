"""The data module for language models that read running text."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import TextBatch
from lit_lm.data.modules import Data
from lit_lm.data.rows import StreamRows
from lit_lm.data.sources import TextSource
from lit_lm.data.tokenizers import TokenizerConfig
from lit_lm.errors import InputError, check_counts
from lit_lm.specs import DataSpec


class TextData(Data):
    """Running text for language models that predict the next token, or the one before.

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
        consecutive: row b of a batch goes on where row b of the batch before it ended, so that networks
            with a state can carry it on; nothing is shuffled. For "windows" only.
        characters: most characters of a token that networks over characters (ELMo) read, two marks
            included; 0 for networks over ids. Longer tokens are read as far, and their number is reported.
            Words outside the vocabulary are read by their own characters; what is predicted is unk.
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
        consecutive: bool = False,
        characters: int = 0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(source, tokenizer, batch_size, batch_tokens, num_workers, seed)
        if consecutive and (rows != "windows" or batch_size is None):
            raise InputError("`consecutive: true` needs `rows: windows` and `batch_size`.")
        self.length, self.kind, self.characters = length, rows, characters
        check_counts(self, "length")
        if characters:
            check_counts(self, "characters", least=3, most=10_000)  # two are marks; 0 is none
        self.consecutive = consecutive

    @property
    def spec(self) -> DataSpec:
        return self.tokenizer.spec(
            self.length, consecutive=self.consecutive, max_characters=self.characters
        )

    def make_rows(self, split: str) -> StreamRows:
        rows = StreamRows(
            self.store(split, "text"), self.tokenizer, self.length, self.kind, self.characters
        )
        if self.characters and (cut := self.tokenizer.num_cut(self.characters)):
            rank_zero_info(
                f"{split}: {cut} of {self.tokenizer.vocab_size} tokens of the vocabulary have more than "
                f"{self.characters - 2} bytes: their first ones are read."
            )
        if rows.num_split:
            rank_zero_info(
                f"{split}: {rows.num_split} documents are longer than {self.length} tokens: split."
            )
        return rows
