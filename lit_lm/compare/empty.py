"""Why a cell is empty: what a member does not do, what its data does not tell, what went wrong."""

from __future__ import annotations

from lit_lm.compare.columns import BY_KEY, Row

NO_TEXT = "it reads both sides of a gap: it gives no probability of a text"
_NO_OPTIMUM = "this data does not say what is possible"
_BEST_OF = {
    "optimal_perplexity": "perplexity",
    "above_optimum": "perplexity",
    "optimal_cloze_accuracy": "cloze_accuracy",
    "optimal_pseudo_perplexity": "pseudo_perplexity",
}


def empty_reason(row: Row, key: str) -> str:
    """Why a member has no value in a column."""
    if row["status"] == "failed":
        return f"failed: {row['reason']}"
    if key in row["not_finite"] or _BEST_OF.get(key) in row["not_finite"]:
        return "not a finite number: training diverged"
    if _has(row, _BEST_OF.get(key)):
        return _NO_OPTIMUM
    if key == "peak_memory_bytes":
        return "this system does not report it"
    return _not_done(row, BY_KEY[key].part) or "it was not measured"


def _not_done(row: Row, part: str | None) -> str | None:
    """What the member does not do, if that is why it has no such value."""
    fills, reads = _has(row, "masked_loss"), _has(row, "loss")
    if part in ("text", "directions") and fills:
        return NO_TEXT
    if part == "directions" and reads:
        return "it reads in one direction"
    if part in ("gaps", "pairs") and not fills:
        return "it does not fill gaps"
    if part == "pairs":
        return "its data has no pairs of sentences"
    if part == "outputs" and row["league"] == "language models":
        return "it does not translate: there is no reference to score an output against"
    return None


def _has(row: Row, key: str | None) -> bool:
    return key is not None and (row.get(key) is not None or key in row["not_finite"])
