"""A batch of full rows, of any of the batch types, made from settings alone: no text is read."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor

from lit_lm.data.batches import (
    IGNORE,
    BatchSize,
    Characters,
    LabelledBatch,
    MaskedBatch,
    PairBatch,
    TextBatch,
)
from lit_lm.errors import InputError
from lit_lm.full_rows import distinct
from lit_lm.specs import DataSpec


@dataclass(frozen=True)
class Shape:
    """What full rows of some data look like.

    Args:
        kind: the batch's type.
        spec: what a network knows of the data.
        hidden: of masked rows, the share that is predicted.
        packed: rows carry the documents that they are packed of; each is taken as one.
    """

    kind: type
    spec: DataSpec
    hidden: float = 0.0
    packed: bool = False

    @property
    def lengths(self) -> tuple[int, ...]:
        """Tokens of a row; source and target for pairs."""
        target = (self.spec.max_target_length,) if self.kind is PairBatch else ()
        return (self.spec.max_length, *target)


def batch(shape: Shape, rows: int, lengths: tuple[int, ...]) -> tuple[Any, BatchSize]:
    """A batch, and its size.

    Args:
        shape: what its rows look like.
        rows: how many.
        lengths: tokens of a row; source and target for pairs.

    Raises:
        InputError: an unknown type of batch.
    """
    kinds = {TextBatch: _text, MaskedBatch: _masked, PairBatch: _pairs, LabelledBatch: _labelled}
    if shape.kind not in kinds:
        known = ", ".join(kind.__name__ for kind in kinds)
        raise InputError(
            f"a full batch of {shape.kind.__name__} cannot be made without data: plan knows {known}"
        )
    return kinds[shape.kind](shape, rows, lengths)


def _text(shape: Shape, B: int, lengths: tuple[int, ...]) -> tuple[TextBatch, BatchSize]:
    (L,) = lengths
    chars = _characters(shape.spec, B, 2 * L if shape.packed else L + 1)
    size = BatchSize(
        rows=B,
        tokens=B * L,
        bytes=0,
        input_tokens=0,
        positions=B * L,
        labels=B * L,
        distinct=0 if chars is None else len(chars.chars_UW),
        squares=B * L * L if shape.packed else 0,
    )
    docs_BL = torch.zeros(B, L, dtype=torch.long) if shape.packed else None
    ids_BL, labels_BL = (_ids(shape.spec, B, L) for _ in range(2))
    return TextBatch(ids_BL, labels_BL, _full(B, L), size, chars, docs_BL), size


def _masked(shape: Shape, B: int, lengths: tuple[int, ...]) -> tuple[MaskedBatch, BatchSize]:
    (L,) = lengths
    gaps = max(1, round(shape.hidden * L))
    size = BatchSize(
        rows=B, tokens=B * L, bytes=0, input_tokens=0, positions=B * L, labels=B * gaps
    )
    ids_BL, labels_BL = _ids(shape.spec, B, L), torch.full((B, L), IGNORE)
    labels_BL[:, :gaps] = 5
    next_B = torch.full((B,), 0 if shape.spec.next_sentence else IGNORE)
    segments_BL = torch.zeros(B, L, dtype=torch.long)
    return MaskedBatch(ids_BL, labels_BL, _full(B, L), segments_BL, next_B, size), size


def _pairs(shape: Shape, B: int, lengths: tuple[int, ...]) -> tuple[PairBatch, BatchSize]:
    S, T = lengths
    size = BatchSize(
        rows=B,
        tokens=B * T,
        bytes=0,
        input_tokens=B * S,
        positions=B * (S + T),
        labels=B * T,
    )
    src_BS, tgt_BT, labels_BT = (_ids(shape.spec, B, n) for n in (S, T, T))
    return PairBatch(src_BS, _full(B, S), tgt_BT, labels_BT, size, torch.arange(B)), size


def _labelled(shape: Shape, B: int, lengths: tuple[int, ...]) -> tuple[LabelledBatch, BatchSize]:
    (L,) = lengths
    spec, W = shape.spec, max(1, L - 2)  # without the two special tokens
    words = spec.target in ("tags", "answer")
    chars = _characters(spec, B, L)
    labels = {
        "number": torch.zeros(B),
        "tags": torch.zeros(B, W, dtype=torch.long),
        "answer": torch.zeros(B, 2, dtype=torch.long),
    }.get(str(spec.target), torch.zeros(B, dtype=torch.long))
    size = BatchSize(
        rows=B,
        tokens=B * L,
        bytes=0,
        input_tokens=0,
        positions=B * L,
        labels=labels.numel(),
        distinct=0 if chars is None else len(chars.chars_UW),
        words=B * W if words else 0,
    )
    first_BW = torch.arange(W).expand(B, W).contiguous() if words else None
    segments_BL = torch.zeros(B, L, dtype=torch.long)
    ids_BL, index_B = _ids(spec, B, L), torch.arange(B)
    made = LabelledBatch(ids_BL, _full(B, L), segments_BL, labels, size, index_B, first_BW, chars)
    return made, size


def _characters(spec: DataSpec, B: int, L: int) -> Characters | None:
    """Of as many different tokens as there are in text."""
    if not spec.max_characters:
        return None
    words = distinct(spec.vocab_size, B * L)
    chars_UW = torch.ones(words, spec.max_characters, dtype=torch.long)
    return Characters(chars_UW, torch.arange(B * L).view(B, L) % words)


def _ids(spec: DataSpec, *shape: int) -> Tensor:
    """Ids of text, each as often as any other."""
    low = min(5, spec.vocab_size - 1)
    return low + torch.arange(shape[0] * shape[1]).view(shape) % (spec.vocab_size - low)


def _full(*shape: int) -> Tensor:
    return torch.ones(shape, dtype=torch.bool)
