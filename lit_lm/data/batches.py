"""The batch types, where data and models meet. Made in collate; testable without a model.

Shape letters: B rows, L positions, S source positions, T target positions.
Masks are boolean, True means "real token, may be attended to". Labels are -100 where nothing is predicted.
"""

from __future__ import annotations

from typing import NamedTuple

from torch import Tensor

IGNORE = -100


class BatchSize(NamedTuple):
    """How much work and how much text a batch is, in plain integers (no device synchronisation).

    Args:
        rows: rows (windows, documents or sentence pairs).
        tokens: predicted tokens: labels that are not -100.
        bytes: raw UTF-8 bytes of text that those tokens stand for.
        input_tokens: real tokens read by the encoder beside the predicted ones (the source of a pair), else 0.
        positions: all positions computed, padding included (source and target).
    """

    rows: int
    tokens: int
    bytes: int
    input_tokens: int
    positions: int


class TextBatch(NamedTuple):
    """Rows of text for causal language modelling.

    Args:
        ids_BL: int64 inputs; row i's input at position t is the token before its label at t.
        labels_BL: int64 targets, -100 at padding.
        mask_BL: bool, True at real tokens. Padding is on the right.
        size: the batch's size in integers.
    """

    ids_BL: Tensor
    labels_BL: Tensor
    mask_BL: Tensor
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
