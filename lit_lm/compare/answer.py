"""The answer in plain words: which member of each league won, by how much, and at which cost."""

from __future__ import annotations

from typing import Any

from lit_lm.compare.columns import BY_KEY, Row
from lit_lm.compare.numbers import one
from lit_lm.compare.results import UNKNOWN_LEAGUE, budget_text, join_names, leagues

# What decides a league: the first of these that every member that finished has.
_DECIDERS = ("bleu", "exact_match", "bits_per_byte", "loss")
_COSTS = (("flops", "compute"), ("seconds", "training time"), ("parameters", "parameters"))


def answer(found: dict[str, Any]) -> list[str]:
    """One sentence or two for each league, and one for what failed."""
    budget = found["budget"]
    opening = f"At {budget_text(budget)}, " if budget else "Each trained to its own length, "
    text = []
    for league, rows in leagues(found).items():
        done = [row for row in rows if row["status"] != "failed"]
        if league != UNKNOWN_LEAGUE and done:
            text.append(_league(league, done, opening))
            opening = ""
    failed = [row["name"] for row in found["members"] if row["status"] == "failed"]
    if failed:
        verb = "is" if len(failed) == 1 else "are"
        text.append(f"{join_names(failed)} failed and {verb} missing here.")
    return text


def _league(league: str, rows: list[Row], opening: str) -> str:
    decider = next(
        (key for key in _DECIDERS if all(row.get(key) is not None for row in rows)), None
    )
    among = f"{opening}among the {league}, " if opening else f"Among the {league}, "
    if decider is None or len(rows) == 1:
        sentences = [f"{row['name']} {_reached(row)}{_after(row)}." for row in rows]
        return (opening or among) + " ".join(sentences)
    ordered = sorted(rows, key=lambda row: row[decider], reverse=BY_KEY[decider].better == "high")
    best, second = ordered[0], ordered[1]
    if best[decider] == second[decider]:
        tied = [row["name"] for row in ordered if row[decider] == best[decider]]
        return f"{among}{join_names(tied)} tie: {_value(best, decider)} each."
    return (
        f"{among}{best['name']} wins with {_value(best, decider)}, "
        f"{_margin(best, second, decider)}{_cost(best, second)}. "
        f"It {_reached(best, besides=decider)}{_after(best)}."
    )


def _reached(row: Row, besides: str | None = None) -> str:
    if row["perplexity"] is not None and row["optimal_perplexity"] is not None:
        above = row["above_optimum"]
        apart = f"{above:.1%} above" if above < 1 else f"{above + 1:.2g} times"
        return (
            f"reaches perplexity {row['perplexity']:.3g}, {apart} "
            f"the optimum of {row['optimal_perplexity']:.3g},"
        )
    if row["bleu"] is not None and row["exact_match"] is not None and besides != "exact_match":
        exact = f"gets {row['exact_match']:.0%} of the test sentences exactly right"
        return f"{exact}," if besides == "bleu" else f"reaches {_value(row, 'bleu')} and {exact},"
    if row["perplexity"] is not None:
        return f"reaches perplexity {row['perplexity']:.3g}"
    return "ended without a finite loss"


def _after(row: Row) -> str:
    time = "" if row["seconds"] is None else f" after {one('seconds', row['seconds'])} of training"
    size = (
        "" if row["parameters"] is None else f" with {one('count', row['parameters'])} parameters"
    )
    return time + size


def _margin(best: Row, second: Row, key: str) -> str:
    gap = abs(best[key] - second[key])
    if key == "bleu":
        return f"{gap:.1f} points above {second['name']}"
    if key == "exact_match":
        return f"{100 * gap:.1f} points above {second['name']}"
    return f"{gap / second[key]:.1%} below {second['name']}"


def _cost(best: Row, second: Row) -> str:
    parts = [
        f"{best[key] / second[key]:.2g} times the {word}"
        for key, word in _COSTS
        if best.get(key) and second.get(key) and not 0.95 < best[key] / second[key] < 1.05
    ]
    return f", for {join_names(parts)}" if parts else ", at the same cost"


def _value(row: Row, key: str) -> str:
    value = row[key]
    forms = {
        "bleu": f"BLEU {value:.1f}",
        "exact_match": f"{value:.1%} exact matches",
        "bits_per_byte": f"{value:.3f} bits per byte",
    }
    return forms.get(key, f"a loss of {value:.3f} nats per token")
