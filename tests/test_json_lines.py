"""Records and the texts in them."""

from __future__ import annotations

import pytest

from lit_lm.errors import InputError
from lit_lm.json_lines import member, record_of


@pytest.mark.parametrize(
    ("line", "message"),
    [
        ("", "input, line 7: not JSON"),
        ("{'a': 1}", "line 7: not JSON"),
        ("[1]", "line 7: a JSON object is wanted"),
        ("[" * 100_000, "line 7: cannot be read as JSON"),
        ("{}", "line 7: no field 'text'; the record has"),
        ('{"title": ""}', "the record has .'title'"),
        ('{"text": null}', "'text' is None, where a text is wanted"),
        (r'{"text": "a\ud83d"}', "half a character"),
    ],
)
def test_lines_without_a_text_are_named(line: str, message: str) -> None:
    with pytest.raises(InputError, match=message):
        member(record_of(line, "input, line 7"), "text", "input, line 7")


def test_a_text_may_lie_deep_and_hold_line_ends() -> None:
    record = record_of(r'{"a": {"b": "1\n2"}, "a.c": "3"}', "here")
    assert member(record, "a.b", "here") == "1\n2"
    assert member(record, "a.c", "here") == "3"
