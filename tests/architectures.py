"""Every architecture under configs/model, found by glob, and the same ones small enough to test properties on."""

from __future__ import annotations

import dataclasses
from functools import cache
from pathlib import Path

from lit_lm import configs
from lit_lm.models import (
    Architecture,
    BidirectionalArchitecture,
    CausalArchitecture,
    EncoderArchitecture,
    MaskedArchitecture,
    Seq2SeqArchitecture,
)
from lit_lm.specs import DataSpec

ROOT = Path(__file__).parent.parent
FILES = sorted((ROOT / "configs" / "model").glob("*.yaml"))
SPEC = DataSpec(
    vocab_size=37, max_length=24, max_target_length=24, next_sentence=True, max_characters=8
)
SMALL = {
    "num_layers": 2,
    "num_decoder_layers": None,
    "d_model": 16,
    "d_hidden": 20,
    "d_encoder": None,
    "d_cell": 24,
    "filters": [(1, 8), (2, 8)],
    "num_highway": 1,
    "num_heads": 2,
    "d_ff": 24,
    "max_length": None,
    "init_range": 0.5,  # a toy's few small weights would hide what a token changes
}


@cache
def load(path: Path) -> Architecture:
    """The architecture that a file describes; read once, as many tests ask for it."""
    return configs.architecture(str(path))


def small(path: Path) -> Architecture:
    """The same architecture with the sizes of a toy; all its choices (norms, positions, ...) are kept."""
    return changed(load(path), **SMALL)


def changed(net: Architecture, **changes: object) -> Architecture:
    """The architecture with those of these settings that it has, or one inside it."""
    mine = {f.name: getattr(net, f.name) for f in dataclasses.fields(net)}
    known = {k: v for k, v in changes.items() if k in mine}
    inside = {k: changed(v, **changes) for k, v in mine.items() if isinstance(v, Architecture)}
    return dataclasses.replace(net, **known, **inside)


def _different(paths: list[Path]) -> list[Path]:
    """One file of each that are equal at a toy's size."""
    kept: list[Path] = []
    for path in paths:
        if small(path) not in map(small, kept):
            kept.append(path)
    return kept


FILES = _different(FILES)
CAUSAL = [p for p in FILES if isinstance(load(p), CausalArchitecture)]
SEQ2SEQ = [p for p in FILES if isinstance(load(p), Seq2SeqArchitecture)]
MASKED = [p for p in FILES if isinstance(load(p), MaskedArchitecture)]
BIDIRECTIONAL = [p for p in FILES if isinstance(load(p), BidirectionalArchitecture)]
ENCODERS = [p for p in FILES if isinstance(load(p), EncoderArchitecture)]
