"""Whether the winner's lead could be chance: over seeds by Welch's t test, over test sentences by the paired bootstrap."""

from __future__ import annotations

from pathlib import Path
from typing import Any

from lit_lm import scores, scoring
from lit_lm.compare.columns import Row
from lit_lm.compare.ranking import contests
from lit_lm.compare.student import welch

OUTPUTS, REFERENCES = "outputs.txt", "references.txt"
"""What a translator's test leaves in its folder, a sentence a line."""


def tests(found: dict[str, Any]) -> list[dict[str, Any]]:
    """For each contest the winner against each of the others.

    Returns:
        ``first``, ``second``, the column ``key``, the p-value ``p`` (None where there is no test to be made) and ``test``,
        its name or why there is none.
    """
    out = []
    for rows, key in contests(found):
        first = rows[0]
        for second in rows[1:]:
            p, test = _test(first, second, key)
            pair = {"first": first["name"], "second": second["name"]}
            out.append({**pair, "key": key, "p": p, "test": test})
    return out


def _test(first: Row, second: Row, key: str) -> tuple[float | None, str]:
    values = first["values"][key], second["values"][key]
    p = welch(*values)
    if p is not None:
        return p, f"Welch's t test over {len(values[0])} and {len(values[1])} seeds"
    if key == "bleu":
        return _bootstrap(Path(first["folder"]), Path(second["folder"]))
    return None, "one seed says nothing about chance: set seeds to 3 or more"


def _bootstrap(first: Path, second: Path) -> tuple[float | None, str]:
    files = [folder / name for folder in (first, second) for name in (OUTPUTS, REFERENCES)]
    if not all(file.is_file() for file in files):
        return None, "no outputs were kept"
    ours, references, theirs, same = (
        file.read_text(encoding="utf-8").split("\n")[:-1]
        for file in files  # also of empty outputs
    )
    if references != same:
        return None, "their references are not the same"
    report = scoring.evaluate(
        references, [("first", ours), ("second", theirs)], {"bleu": scores.metrics()["bleu"]}
    )
    p = report.systems[1].scores["bleu"].p
    return p, f"paired bootstrap over {len(references):,} sentences"
