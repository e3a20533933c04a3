"""The answer in plain words: which member of each league won, by how much, and at which cost."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_lm.compare.columns import BY_KEY, Row
from lit_lm.compare.numbers import one
from lit_lm.compare.ranking import DECIDERS, GAP_DECIDERS, contest, fills
from lit_lm.compare.results import UNKNOWN_LEAGUE, budget_text, join_names, leagues

_COSTS = (("flops", "compute"), ("seconds", "training time"), ("parameters", "parameters"))


def answer(found: dict[str, Any]) -> list[str]:
    """One sentence or two for each league, and one for what failed."""
    budget, parameters = found["budget"], found["parameters"]
    at = budget_text(budget, parameters)
    opening = f"At {at}, " if budget or parameters else "Each trained to its own length, "
    text = []
    for league, rows in leagues(found).items():
        done = [row for row in rows if row["status"] != "failed"]
        if league != UNKNOWN_LEAGUE and done:
            text.append(_league(league, done, opening, found["tests"]))
            opening = ""
    failed = [row["name"] for row in found["members"] if row["status"] == "failed"]
    if failed:
        verb = "is" if len(failed) == 1 else "are"
        text.append(f"{join_names(failed)} failed and {verb} missing here.")
    return text


def _league(league: str, rows: list[Row], opening: str, tests: list[dict[str, Any]]) -> str:
    """Those that give a probability of a text compete among themselves, and so do those that fill gaps."""
    fillers = [row for row in rows if fills(row)]
    others = [row for row in rows if row not in fillers]
    among = f"{opening}among the {league}, " if opening else f"Among the {league}, "
    parts = [_ranked(others, DECIDERS, among, opening or among, tests)] if others else []
    if fillers and others:
        parts.append(_ranked(fillers, GAP_DECIDERS, "Among those that fill gaps, ", "", tests))
    elif fillers:
        parts.append(_ranked(fillers, GAP_DECIDERS, among, opening or among, tests))
    return " ".join(parts)


def _ranked(
    rows: list[Row],
    deciders: Sequence[str],
    among: str,
    alone: str,
    tests: list[dict[str, Any]],
) -> str:
    """The best of comparable members, by what all have that have anything; or each for itself."""
    found = contest(rows, deciders)
    if found is None:
        return alone + " ".join(_single(row) for row in rows)
    ordered, decider = found
    best, second = ordered[0], ordered[1]
    tied = [row["name"] for row in ordered if row[decider] == best[decider]]
    if len(tied) > 1:
        first = f"{join_names(tied)} tie: {_value(best, decider)} each."
    else:
        first = (
            f"{best['name']} wins with {_value(best, decider)}, "
            f"{_margin(best, second, decider)}{_chance(best, second, tests)}{_cost(best, second)}. "
            f"It {_reached(best, besides=decider)}{_after(best)}."
        )
    return among + " ".join([first, *(_single(row) for row in rows if row not in ordered)])


def _chance(best: Row, second: Row, tests: list[dict[str, Any]]) -> str:
    """Whether the lead could be chance, where that was tested."""
    names = (best["name"], second["name"])
    test = next((t for t in tests if (t["first"], t["second"]) == names), None)
    if test is None or test["p"] is None:
        return ""
    verdict = "" if test["p"] < 0.05 else "which may be chance: "
    p = "p < 0.001" if test["p"] < 0.001 else f"p = {test['p']:.2g}"
    return f" ({verdict}{p}, {test['test']})"


def _single(row: Row) -> str:
    apart = ", which gives no probability of a text," if fills(row) else ""
    return f"{row['name']}{apart} {_reached(row)}{_after(row)}."


def _reached(row: Row, besides: str | None = None) -> str:
    if fills(row):
        return _filled(row)
    if row["perplexity"] is not None and row["optimal_perplexity"] is not None:
        above = row["above_optimum"]
        apart = f"{above:.1%} above" if above < 1 else f"{above + 1:.2g} times"
        return (
            f"reaches perplexity {row['perplexity']:.4g}, {apart} "
            f"the optimum of {row['optimal_perplexity']:.4g},"
        )
    if row["bleu"] is not None and row["exact_match"] is not None and besides != "exact_match":
        exact = f"gets {row['exact_match']:.0%} of the test sentences exactly right"
        return f"{exact}," if besides == "bleu" else f"reaches {_value(row, 'bleu')} and {exact},"
    if row["perplexity"] is not None:
        return f"reaches perplexity {row['perplexity']:.4g}"
    return "ended without a finite loss"


def _filled(row: Row) -> str:
    lone = ""
    if row["cloze_accuracy"] is not None:
        best = row["optimal_cloze_accuracy"]
        possible = "" if best is None else f", where {best:.1%} is possible"
        lone = f" ({row['cloze_accuracy']:.1%} with one gap at a time{possible})"
    told = row["next_sentence_accuracy"]
    pairs = "" if told is None else f" and tells {told:.1%} of next sentences"
    return f"fills {row['masked_accuracy']:.1%} of gaps right{lone}{pairs},"


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
    if BY_KEY[key].kind == "percent":
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
        "pseudo_bits_per_byte": f"{value:.3f} pseudo bits per byte",
        "masked_accuracy": f"{value:.1%} of gaps filled",
    }
    return forms.get(key, f"a loss of {value:.3f} nats per token")
