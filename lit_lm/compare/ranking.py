"""Who is ranked with whom, and by what."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

from lit_lm.compare.columns import BY_KEY, Row
from lit_lm.compare.results import UNKNOWN_LEAGUE, leagues

# What decides among comparable members: the first of these that all of them have.
DECIDERS = ("bleu", "exact_match", "bits_per_byte", "loss")
GAP_DECIDERS = ("pseudo_bits_per_byte", "masked_accuracy")


class Contest(NamedTuple):
    """Members that compete.

    Args:
        rows: those that have the value, the best first.
        decider: the column that decides.
    """

    rows: list[Row]
    decider: str


def fills(row: Row) -> bool:
    """Whether a member fills gaps and gives no probability of a text."""
    return row["perplexity"] is None and row["masked_accuracy"] is not None


def contest(rows: Sequence[Row], deciders: Sequence[str]) -> Contest | None:
    """The members that have anything, ranked by what all of these have; None where there are not two."""
    measured = [row for row in rows if any(row[key] is not None for key in deciders)]
    decider = next((key for key in deciders if all(row[key] is not None for row in measured)), None)
    if decider is None or len(measured) < 2:
        return None
    better = BY_KEY[decider].better == "high"
    return Contest(sorted(measured, key=lambda row: row[decider], reverse=better), decider)


def contests(found: dict[str, Any]) -> Iterator[Contest]:
    """All of a comparison."""
    for league, rows in leagues(found).items():
        done = [row for row in rows if row["status"] != "failed"]
        if league == UNKNOWN_LEAGUE:
            continue
        groups = (
            ([row for row in done if not fills(row)], DECIDERS),
            ([row for row in done if fills(row)], GAP_DECIDERS),
        )
        for members, deciders in groups:
            if (its := contest(members, deciders)) is not None:
                yield its
