"""Which tokenizer to train or to load."""

from __future__ import annotations

from dataclasses import asdict, dataclass
from typing import Any, Literal

from lit_lm.errors import InputError, check_counts

SPECIALS = ("<pad>", "<bos>", "<eos>", "<unk>", "<mask>")
"""Names of the first ids of every tokenizer that is trained here."""


@dataclass(frozen=True)
class TokenizerConfig:
    """Which tokenizer to train on the training text, or to load.

    Args:
        kind: "byte" (UTF-8 bytes), "char" (characters of the training text), "word" (words and
            punctuation), "bpe" and "unigram" (subwords over bytes: no text is ever unknown),
            "wordpiece" (BERT's subwords).
        vocab_size: most ids, special tokens included; "byte" has always 261, and small texts may
            fill less.
        min_frequency: rarer words (or, for bpe and wordpiece, rarer merges) stay out of the
            vocabulary.
        lowercase: fold text to lower case first; decoding cannot bring the capitals back.
        symbols: pieces of text with an id of their own wherever they stand, such as `<2de>`; not for
            "byte" and "char".
        path: load this instead of training: a file written by `Tokenizer.save`, a `tokenizer.json`
            of the `tokenizers` library, BERT's `vocab.txt`, GPT-2's `encoder.json` and `vocab.bpe`
            (or `vocab.json` and `merges.txt`), a folder that holds one of these, or a checkpoint
            (`.ckpt`) that holds a tokenizer. The other settings then rest.
    """

    kind: Literal["byte", "char", "word", "bpe", "wordpiece", "unigram"] = "bpe"
    vocab_size: int = 8000
    min_frequency: int = 1
    lowercase: bool = False
    symbols: tuple[str, ...] = ()
    path: str | None = None

    def __post_init__(self) -> None:
        object.__setattr__(self, "symbols", tuple(dict.fromkeys(self.symbols)))  # JSON makes lists
        if self.symbols and self.kind in ("byte", "char") and self.path is None:
            raise InputError(
                f"tokenizer.symbols={list(self.symbols)}: a {self.kind} tokenizer has none: choose bpe, unigram, "
                "wordpiece or word."
            )
        if bad := [
            s
            for s in self.symbols
            if not s or len(s.split()) != 1 or s.strip() != s or s in SPECIALS
        ]:
            raise InputError(
                f"tokenizer.symbols: {bad[0]!r} must be one word without spaces, and none of {' '.join(SPECIALS)}."
            )
        check_counts(self, "vocab_size", most=1 << 24)
        check_counts(self, "min_frequency", least=0, most=1 << 32)
        if self.path is not None and not self.path.strip():
            raise InputError("tokenizer.path is empty: name a file, or drop it (null) to train.")

    def settings(self) -> dict[str, Any]:
        """In plain types. Symbols are left out where there are none: so it was before there were any, and checkpoints and
        prepared files of then stay what they are.
        """
        found = asdict(self)
        return found if self.symbols else {k: v for k, v in found.items() if k != "symbols"}
