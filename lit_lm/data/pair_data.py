"""The data module for sequence-to-sequence models."""

from __future__ import annotations

from typing import Any, Literal

from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import PairBatch
from lit_lm.data.bpe_dropout import BpeDropout
from lit_lm.data.modules import Data
from lit_lm.data.rows import PairRows
from lit_lm.data.sources import PairSource
from lit_lm.data.tokenizer_config import TokenizerConfig
from lit_lm.errors import InputError, check_counts, check_reals
from lit_lm.specs import DataSpec


class PairData(Data):
    """Pairs of texts for sequence-to-sequence models, with one tokenizer for both sides.

    Args:
        source: where the pairs come from.
        tokenizer: which tokenizer to train or load.
        max_length: most tokens of a side, its special token included.
        overlong: what to do with longer pairs: "error", or "skip" them, in every split, and say how
            many.
        batch_size: pairs in a batch; or
        batch_tokens: most positions in a batch on either side, padding included, of pairs of
            similar lengths (as they are without `bpe_dropout`).
        bpe_dropout: probability that BPE leaves out a merge in training, on both sides, anew in every epoch
            (Provilkov et al. 2020, who use 0.1); texts get about a third longer at that. For tokenizers of kind
            "bpe".
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which pairs are drawn.
    """

    stream = "tgt"
    batch_type = PairBatch

    def __init__(
        self,
        source: PairSource,
        tokenizer: TokenizerConfig = TokenizerConfig(),  # noqa: B008 (frozen)
        max_length: int = 256,
        overlong: Literal["error", "skip"] = "error",
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        bpe_dropout: float = 0.0,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(source, tokenizer, batch_size, batch_tokens, num_workers, seed)
        self.max_length, self.overlong = max_length, overlong
        self.bpe_dropout = bpe_dropout
        check_reals(self, "bpe_dropout", most=1, below=True)
        check_counts(self, "max_length", least=2)  # a token and the special one

    @property
    def spec(self) -> DataSpec:
        return self.tokenizer.spec(self.max_length, self.max_length)

    def make_rows(self, split: str) -> PairRows:
        src, tgt = self.store(split, "src"), self.store(split, "tgt")
        drops = split == "train" and self.bpe_dropout > 0
        dropout = BpeDropout(self.tokenizer, self.bpe_dropout) if drops else None
        rows = PairRows(src, tgt, self.tokenizer, self.max_length, dropout, self.seed)
        count = len(rows.overlong)
        if count and (self.overlong == "error" or not len(rows)):
            first = int(rows.overlong[0])
            raise InputError(
                f"{split}: {count} of {len(src)} pairs are longer than max_length="
                f"{self.max_length}; the first is pair {first} with {src.lengths[first]} and "
                f"{tgt.lengths[first]} tokens, special ones included. Raise max_length, or leave "
                "them out with `overlong: skip`."
            )
        if count:
            rank_zero_info(
                f"{split}: {count} of {len(src)} pairs are longer than {self.max_length} tokens: "
                "skipped."
            )
        return rows

    def unused(self, split: str) -> str:
        rows: Any = self.rows(split)
        count = len(rows.overlong)
        return f"{count:,} pairs longer than max_length={self.max_length} left out" if count else ""

    def source_text(self, split: str, i: int) -> str:
        """Raw source text of pair `i` of a split (`PairBatch.index_B`)."""
        return str(self.store(split, "src").text(i))

    def reference(self, split: str, i: int) -> str:
        """Raw target text of pair `i` of a split (`PairBatch.index_B`)."""
        return str(self.store(split, "tgt").text(i))
