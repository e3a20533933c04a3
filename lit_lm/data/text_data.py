"""The data module for language models that read running text."""

from __future__ import annotations

from typing import Literal

from lightning.pytorch.utilities import rank_zero_info

from lit_lm.data.batches import TextBatch
from lit_lm.data.modules import Data
from lit_lm.data.packed_rows import PackedRows
from lit_lm.data.rows import StreamRows
from lit_lm.data.shards.rows import ShardRows
from lit_lm.data.shards.source import ShardStore
from lit_lm.data.sources import TextSource
from lit_lm.data.store import TokenStore
from lit_lm.data.tokenizer_config import TokenizerConfig
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
            padded. "documents": a row a document, longer ones split. "packed": several documents a row,
            which do not see each other, as many as fit; longer ones split.
        batch_size: rows in a batch; or
        batch_tokens: most positions in a batch, padding included, of rows of similar lengths.
        consecutive: row b of a batch goes on where row b of the batch before it ended, so that networks
            with a state can carry it on; nothing is shuffled. For "windows" only.
        characters: most characters of a token that networks over characters (ELMo) read, two marks
            included; 0 for networks over ids. Longer tokens are read as far, and their number is reported.
            Words outside the vocabulary are read by their own characters; what is predicted is unk.
        eval_stride: for "windows", how far validation and test windows are apart: each goes on for so many
            tokens behind the one before, and only those are predicted in it, with at least `length` -
            `eval_stride` tokens before them (Press et al. 2021, https://aclanthology.org/2021.acl-long.427).
            None for windows side by side, in which the first tokens have little context.
        num_workers: processes that make batches; 0 makes them in the main process.
        seed: of the order in which rows are drawn.
    """

    stream = "text"
    batch_type = TextBatch
    takes_shards = True

    def __init__(
        self,
        source: TextSource,
        tokenizer: TokenizerConfig = TokenizerConfig(),  # noqa: B008 (frozen)
        length: int = 256,
        rows: Literal["windows", "documents", "packed"] = "windows",
        batch_size: int | None = None,
        batch_tokens: int | None = None,
        consecutive: bool = False,
        characters: int = 0,
        eval_stride: int | None = None,
        num_workers: int = 0,
        seed: int = 0,
    ) -> None:
        super().__init__(source, tokenizer, batch_size, batch_tokens, num_workers, seed)
        if consecutive and (rows != "windows" or batch_size is None):
            raise InputError("`consecutive: true` needs `rows: windows` and `batch_size`.")
        self.length, self.kind, self.characters = length, rows, characters
        self.consecutive, self.eval_stride = consecutive, eval_stride
        check_counts(self, "length")
        if characters:
            check_counts(self, "characters", least=3, most=10_000)  # two are marks; 0 is none
        if eval_stride is not None:
            check_counts(self, "eval_stride", most=length)
            if consecutive or rows != "windows":
                raise InputError(
                    "`eval_stride` needs `rows: windows`, and not `consecutive: true`."
                )

    @property
    def spec(self) -> DataSpec:
        return self.tokenizer.spec(
            self.length, consecutive=self.consecutive, max_characters=self.characters
        )

    def make_rows(self, split: str) -> StreamRows:
        store = self.store(split, "text")
        stride = None if split == "train" else self.eval_stride
        if isinstance(store, ShardStore):
            rows: StreamRows = self._sharded(store, stride)
        elif self.kind == "packed":
            rows = self._packed(split, store)
        else:
            rows = StreamRows(
                store, self.tokenizer, self.length, self.kind, self.characters, stride
            )
        if stride:
            rank_zero_info(
                f"{split}: {len(rows)} windows of {self.length} tokens, {stride} apart: all but the first "
                f"predict their last {stride}."
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

    def _sharded(self, store: ShardStore, stride: int | None) -> ShardRows:
        if self.kind != "windows" or self.consecutive:
            raise InputError(
                f"data.source is Shards, which are read by `rows: windows` and not `consecutive: true`, and rows is "
                f"{self.kind!r}, consecutive {str(self.consecutive).lower()}. Text that this machine holds can be read so."
            )
        kind = self.tokenizer.config.kind
        if self.characters and kind not in ("byte", "bpe", "unigram"):
            raise InputError(
                f"data.characters={self.characters}: shards do not keep the characters of words that a tokenizer of "
                f"kind {kind} does not know. Prepare them with bpe, unigram or byte."
            )
        return ShardRows(store, self.tokenizer, self.length, self.characters, stride)

    def _packed(self, split: str, store: TokenStore) -> PackedRows:
        rows = PackedRows(store, self.tokenizer, self.length, self.characters)
        what = "documents" if rows.num_pieces == len(store) else "documents and pieces of them"
        rank_zero_info(
            f"{split}: {rows.num_pieces} {what} packed into {len(rows)} rows of {self.length} "
            f"positions, {rows.padding:.1%} of them padding."
        )
        return rows
