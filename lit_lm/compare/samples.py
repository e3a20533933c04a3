"""Outputs of members side by side, as the page shows them."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from lit_lm.compare.columns import Row

# What members were asked to do, by what they were given.
_TASKS = {
    "prompt": "going on with a text",
    "gaps": "filling gaps",
    "source": "translating",
    None: "guessing each token from one side",
}


def samples(rows: Sequence[Row]) -> dict[str, list[dict[str, Any]]]:
    """A league's samples by what was asked; outputs stand together wherever the same was given."""
    groups: dict[tuple[tuple[str, str], ...], list[dict[str, Any]]] = {}
    for row in rows:
        for sample in row["samples"] or []:
            given = tuple((key, text) for key, text in sample.items() if not _is_output(key))
            groups.setdefault(given, []).extend(_outputs(row["name"], sample))
    out: dict[str, list[dict[str, Any]]] = {}
    for given, outputs in groups.items():
        prompts = [(key, text) for key, text in given if key != "reference"]
        reference = next((text.strip("\n") for key, text in given if key == "reference"), None)
        long = any("\n" in output["text"] or len(output["text"]) > 200 for output in outputs)
        first = prompts[0][0] if prompts else None
        out.setdefault(_TASKS.get(first, first or ""), []).append(
            {"given": prompts, "reference": reference, "outputs": outputs, "long": long}
        )
    return out


def _is_output(key: str) -> bool:
    """Whether a member made it: "output", or one of several, such as "output from the right"."""
    return key == "output" or key.startswith("output ")


def _outputs(name: str, sample: dict[str, str]) -> list[dict[str, Any]]:
    return [
        {
            "name": name,
            "which": key.removeprefix("output").strip(),
            "text": text.strip("\n"),
            "exact": sample.get("reference") == text,
        }
        for key, text in sample.items()
        if _is_output(key)
    ]
