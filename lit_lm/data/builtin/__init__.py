"""A small language with a known answer: stories, their translations, entities and labels, and the exact surprisal of every word.

Start with :func:`generate`; `docs/builtin-language.md` shows what comes out.
"""

from lit_lm.data.builtin.documents import (
    OPTIMAL_EXACT_MATCH,
    SPLITS,
    Document,
    Sentence,
    document,
    generate,
    join,
    read,
    split_of,
    split_words,
)
from lit_lm.data.builtin.grammar import ENTITIES, LABELS, MAX_TOKENS, Entity, Grammar
from lit_lm.data.builtin.lexicon import LEXICON, Lexicon, Topic
from lit_lm.data.builtin.posterior import Cloze, ClozeTotals, cloze, cloze_totals, posterior

__all__ = [
    "ENTITIES",
    "LABELS",
    "LEXICON",
    "MAX_TOKENS",
    "OPTIMAL_EXACT_MATCH",
    "SPLITS",
    "Cloze",
    "ClozeTotals",
    "Document",
    "Entity",
    "Grammar",
    "Lexicon",
    "Sentence",
    "Topic",
    "cloze",
    "cloze_totals",
    "document",
    "generate",
    "join",
    "posterior",
    "read",
    "split_of",
    "split_words",
]
