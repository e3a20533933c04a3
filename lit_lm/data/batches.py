"""The batch types, where data and models meet. Made in collate; testable without a model.

Shape letters: B rows, L positions, S source positions, T target positions, U distinct tokens, W characters.
Masks are boolean, True means "real token, may be attended to". Labels are -100 where nothing is predicted.
"""

from __future__ import annotations

from typing import Any, NamedTuple

import torch
from torch import Tensor

IGNORE = -100


class BatchSize(NamedTuple):
    """How much work and how much text a batch is, in plain integers (no device synchronisation).

    Args:
        rows: rows (windows, documents or sentence pairs).
        tokens: tokens of text that are learned from: the predicted ones of a row; all of it under masks.
        bytes: raw UTF-8 bytes of text that those tokens stand for.
        input_tokens: real tokens that are read beside them (the source of a pair, special tokens, context
            of overlapping windows), else 0.
        positions: all positions computed, padding included (source and target).
        labels: labels that are not -100.
        distinct: tokens that are read by their characters, each once; 0 where ids are read.
        squares: squared lengths of the documents that rows are packed of, summed; 0 where they are not packed.
        words: words that are scored each; 0 where they are not.
    """

    rows: int
    tokens: int
    bytes: int
    input_tokens: int
    positions: int
    labels: int
    distinct: int = 0
    squares: int = 0
    words: int = 0

    @property
    def texts(self) -> float:
        """How many texts of their mean length are read each on its own: the rows. Of packed rows, as many
        texts of one length as have the tokens, and need the attention, of the documents.
        """
        return self.tokens**2 / self.squares if self.squares else self.rows


class Characters(NamedTuple):
    """Tokens by their characters: the distinct ones of a batch, and where they stand.

    Args:
        chars_UW: int64 characters of each distinct token (``Tokenizer.characters``), 0 at padding.
        words_BL: int64, which of them stands at a position.
    """

    chars_UW: Tensor
    words_BL: Tensor


class TextBatch(NamedTuple):
    """Rows of text for causal language modelling.

    Args:
        ids_BL: int64 inputs; row i's input at position t is the token before its label at t.
        labels_BL: int64 targets, -100 at padding and at what is context only.
        mask_BL: bool, True at real tokens. Padding is on the right.
        size: the batch's size in integers.
        chars: of the inputs with the last label behind them, L + 1 positions, where they are asked for; of
            packed rows of the inputs with all labels behind them, 2 L positions.
        docs_BL: int64, for packed rows: equal at the positions of one document, which follow each other, and
            -1 at padding; None where a row is one text.
    """

    ids_BL: Tensor
    labels_BL: Tensor
    mask_BL: Tensor
    size: BatchSize
    chars: Characters | None = None
    docs_BL: Tensor | None = None


class MaskedBatch(NamedTuple):
    """Rows of one or two segments with gaps, for masked language modelling and next-sentence prediction.

    Args:
        ids_BL: int64 inputs: bos, the first segment, eos, and where there is one the second, eos.
        labels_BL: int64, what stood at the gaps; -100 elsewhere.
        mask_BL: bool, True at real tokens. Padding is on the right.
        segments_BL: int64, 0 up to the first eos, then 1; 0 at padding.
        next_B: int64, 0 where the second segment follows the first in its text, 1 where it is from
            another document, -100 for rows of one segment.
        size: the batch's size in integers.
    """

    ids_BL: Tensor
    labels_BL: Tensor
    mask_BL: Tensor
    segments_BL: Tensor
    next_B: Tensor
    size: BatchSize


class PairBatch(NamedTuple):
    """Source and target rows for sequence-to-sequence tasks.

    Args:
        src_ids_BS: int64 source ids, ending in eos; padding on the right.
        src_mask_BS: bool, True at real source tokens.
        tgt_ids_BT: int64 decoder inputs: bos, then the target.
        labels_BT: int64 targets: the target, then eos; -100 at padding.
        size: the batch's size in integers.
        index_B: int64 index of each pair in its split, so that outputs can be put back in order.
    """

    src_ids_BS: Tensor
    src_mask_BS: Tensor
    tgt_ids_BT: Tensor
    labels_BT: Tensor
    size: BatchSize
    index_B: Tensor


class LabelledBatch(NamedTuple):
    """Labelled rows for fine-tuning. B rows, L positions, W words.

    Args:
        ids_BL: int64 inputs, one or two texts in the encoder's form; padding on the right.
        mask_BL: bool, True at real tokens.
        segments_BL: int64, 0 for the first text and 1 for the second; all 0 in forms without segments.
        labels: int64 (B) classes; float32 (B) numbers; int64 (B, W) tags, -100 behind the last word; int64 (B, 2) first
            and last word of an answer, both 0 where there is none.
        size: the batch's size in integers.
        index_B: int64, each row's example in its split; of tags and answers, the row's own number.
        first_BW: int64, of words the position of the first token, -1 behind the last; None for whole texts. Of answers
            word 0 is a token of the row that stands for no answer.
        chars: characters of the tokens, for networks that read them.
    """

    ids_BL: Tensor
    mask_BL: Tensor
    segments_BL: Tensor
    labels: Tensor
    size: BatchSize
    index_B: Tensor
    first_BW: Tensor | None = None
    chars: Characters | None = None


def move(batch: Any, device: torch.device) -> Any:
    """A batch on another device; from pinned memory without waiting, as Lightning does."""
    wait = device.type == "cpu"

    def moved(value: Any) -> Any:
        if isinstance(value, Tensor):
            return value.to(device, non_blocking=not wait)
        return Characters(*map(moved, value)) if isinstance(value, Characters) else value

    return type(batch)(*map(moved, batch))
