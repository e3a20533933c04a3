"""How an encoder reads one text or two: the forms of input of its pre-training, with bos and eos in the parts that BERT's
[CLS] and [SEP] and GPT-1's start, delimiter and extract tokens have.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import NamedTuple

from lit_lm.data.tokenizers import Tokenizer
from lit_lm.specs import Form


class Framed(NamedTuple):
    """A row: its ids, the segment of each (0 or 1), and where in it the two texts start (-1 without a second)."""

    ids: list[int]
    segments: list[int]
    first: int
    second: int


def frame(
    tokenizer: Tokenizer, form: Form, first: Sequence[int], second: Sequence[int] | None = None
) -> Framed:
    """One or two texts as a row.

    - "bert": bos, first, eos, and where there is a second: second, eos (Devlin et al. 2019, figure 1).
    - "gpt": eos, as a document starts in pre-training, first, and where there is a second: bos, second; then eos, at
      which the row is read (Radford et al. 2018, figure 1).
    - "elmo": eos, as a document starts in pre-training, first, eos, and where there is a second: second, eos.
    - "elmo_bos": the same with bos before the first, where pre-training had that (AllenNLP's ELMo).
    - "source": first, eos, and where there is a second: second, eos, as the source of a translation ends.

    Args:
        tokenizer: names the special tokens.
        form: one of these.
        first: ids of a text.
        second: ids of another.
    """
    t = tokenizer
    if form == "bert":
        ids, segments = t.frame(first, second)
        return Framed(ids, segments, 1, -1 if second is None else len(first) + 2)
    before = {"source": [], "elmo_bos": [t.bos_id]}.get(form, [t.eos_id])
    ids = [*before, *first]
    at = -1
    if second is not None:
        ids.append(t.bos_id if form == "gpt" else t.eos_id)
        at = len(ids)
        ids += second
    ids.append(t.eos_id)
    return Framed(ids, [0] * len(ids), len(before), at)


def num_special(form: Form, pair: bool) -> int:
    """How many special tokens :func:`frame` adds."""
    return (1 if form == "source" else 2) + pair
