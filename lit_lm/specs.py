"""The small frozen dataclasses that layers share. Knows nothing of torch, Lightning or files."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

MASK = "<mask>"
"""How a gap is written in a text."""

Form = Literal["bert", "gpt", "elmo", "elmo_bos", "source"]
"""How an encoder reads one or two labelled texts, as its pre-training has taught it (``data/labelled/forms.py``)."""

Target = Literal["class", "number", "tags", "answer"]
"""What a label is."""

NUM_CHARACTERS = 264
"""Ids of characters: filling, 256 bytes, the begin and end of a token, and five special tokens."""


@dataclass(frozen=True)
class DataSpec:
    """What a network must know about its data. Filled in by the data module, never by hand in YAML.

    Every field has a default, because the command line links the data module's value in only after
    the configuration has been validated.

    Args:
        vocab_size: number of token ids, special tokens included.
        max_length: most tokens in a row of inputs (for pairs: of the source), special tokens included.
        max_target_length: most tokens in a row of decoder inputs; 0 when the data has no targets.
        pad_id: id that fills rows up; never attended to, never predicted.
        bos_id: id that starts a decoder row.
        eos_id: id that ends a row, and separates the documents of a stream.
        unk_id: id of what the vocabulary does not hold.
        mask_id: id that stands for a word to be filled in.
        next_sentence: rows are of two segments, which may or may not follow each other in a text.
        consecutive: row b of a batch goes on where row b of the batch before it ended.
        max_characters: characters that a row carries of each token; 0 when it carries ids only.
        bos_first: a text starts with bos, and not with the eos of the text before it (AllenNLP's ELMo).
        form: how labelled texts are framed; None for text without labels.
        target: what a label is; None for text without labels.
        labels: names of the classes or tags, in the order of their ids; none for other data.
        paired: labelled texts are pairs; None for other data.
        context_words: sentences with tags are joined with their neighbours up to so many words; 0 where each stands alone.
    """

    vocab_size: int = 0
    max_length: int = 0
    max_target_length: int = 0
    pad_id: int = 0
    bos_id: int = 1
    eos_id: int = 2
    unk_id: int = 3
    mask_id: int = 4
    next_sentence: bool = False
    consecutive: bool = False
    max_characters: int = 0
    bos_first: bool = False
    form: Form | None = None
    target: Target | None = None
    labels: tuple[str, ...] = ()
    paired: bool | None = None
    context_words: int = 0
