"""Corpora that nobody would write by hand, and what may be made of them."""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

from hypothesis import strategies as st

# Words that meet in every text, so that there is something to learn, and what no tokenizer expects.
PLAIN = ["a", "b", "the", "cat", "sat", "on", "mat", "ran.", "Home!", "don't"]
ODD = [
    *("<eos>", "<pad>", "<mask>", "<unk>", "<bos>", "[MASK]", "[CLS]", "[SEP]", "[UNK]", "<|endoftext|>"),
    *("\0", "\ufeff", "\u2028", "\x85", "\x0b", "\x1c", "\u200b", "\u3000", "\xa0", "\ufffd", "\x7f"),
    *("e\u0301\u0323", "\u0301", "\U0001f469\u200d\U0001f680", "\u202eabc", "\U0010ffff", "ﬁ", "İ", "ß", "한국어"),
    *("##a", "▁a", "Ġa", "<0x41>", "$", "{x}", "'", '"', "\\", "x" * 300, "9" * 40),
]  # fmt: skip
WORDS = st.one_of(st.sampled_from(PLAIN), st.sampled_from(PLAIN), st.sampled_from(ODD))
NEWLINES = st.sampled_from([b"\n"] * 6 + [b"\r\n"])
HOLDOUTS = ["last", "random", "characters"]


@st.composite
def texts(draw: Any) -> str:
    """A line of words; now and then empty, blank, any characters at all, or of 100 kB."""
    kind = draw(st.integers(0, 79))
    if kind == 0:
        return draw(st.sampled_from(["cat ", "y", "<eos>", "é. A "])) * 26_000
    if kind < 6:
        return draw(st.sampled_from(["", " ", "\u3000"]))
    if kind < 12:
        return draw(st.text(st.characters(blacklist_categories=["Cs"]), max_size=20)).replace(
            "\n", ""
        )
    return " ".join(draw(st.lists(WORDS, min_size=1, max_size=9)))


@dataclass(frozen=True)
class Corpus:
    """Files by name, and the source that reads them.

    Args:
        files: their bytes.
        source: name of the source's class.
        settings: its arguments; names of files stand for their paths.
        hostile: what was done to the files to break them; nothing when empty.
    """

    files: dict[str, bytes]
    source: str
    settings: dict[str, Any]
    hostile: str = ""


HOSTILE = [
    *[""] * 12,
    "bytes",
    "invalid",
    "utf-16",
    "empty",
    "blank",
    "cut",
    "tab",
    "json",
    "short",
    "cr",
]
BROKEN_JSON = [
    *('{"a": ', "[]", "null", '"text"', "{}", '{"a": 1, "b": 2}', '{"a": null, "b": "x"}', "NaN", "{'a': 'b'}"),
    *(r'{"a": "\ud800", "b": "x"}', '{"a": ["x"], "b": "x"}', '{"a": "x", "b": "y"} {"a": "x"}', "[" * 5000),
    *('{"a": {"a": "x"}, "b": "x"}', "{" * 60, '{"a": 1e999, "b": "x"}', "9" * 5000, '{"a": "x"'),
]  # fmt: skip


@st.composite
def corpora(draw: Any, pairs: bool) -> Corpus:
    """A corpus of texts or of pairs in one of the formats, whole or broken."""
    kind = draw(st.sampled_from(["plain", "json", "tsv"]))
    rows = draw(st.lists(st.tuples(texts(), texts()), min_size=1, max_size=14))
    files = {
        "tgt" if i else "train": _render(draw, kind, pairs, i, rows)
        for i in range(_number(kind, pairs))
    }
    hostile = draw(st.sampled_from(HOSTILE))
    if hostile:
        files["train"] = draw(_broken(hostile, files["train"]))
    names = sorted(files, reverse=True)
    settings: dict[str, Any] = {"train": names if len(names) > 1 else names[0]}
    if draw(st.booleans()):
        by = draw(st.sampled_from(HOLDOUTS[: 2 if pairs else 3]))
        settings["holdout"] = {"val": draw(st.sampled_from([0.1, 0.5])), "by": by}
    else:
        settings["val"] = settings["train"]
    if kind == "plain":
        if not pairs:
            settings["documents"] = draw(st.sampled_from(["blank_line", "line", "file"]))
        return Corpus(files, "ParallelFiles" if pairs else "TextFiles", settings, hostile)
    named = kind == "json" or draw(st.booleans())
    columns: list[Any] = ["a", "b"] if named else [1, 2]
    names = ["source", "target"] if pairs else ["field" if kind == "json" else "column"]
    settings |= dict(zip(names, columns, strict=False))
    return Corpus(
        files,
        f"{'JsonLines' if kind == 'json' else 'Tsv'}{'Pairs' if pairs else 'Text'}",
        settings,
        hostile,
    )


def _number(kind: str, pairs: bool) -> int:
    return 2 if kind == "plain" and pairs else 1


def _render(draw: Any, kind: str, pairs: bool, side: int, rows: list[tuple[str, str]]) -> bytes:
    lines: list[str] = []
    if kind == "json":
        ascii_only = draw(st.booleans())
        lines = [json.dumps({"a": a, "b": b}, ensure_ascii=ascii_only) for a, b in rows]
    elif kind == "tsv":
        lines = ["a\tb", *("\t".join(t.replace("\t", " ") for t in row) for row in rows)]
    else:
        lines = [row[side] for row in rows]
    if not (kind == "tsv" or pairs):  # line ends where documents may end
        gaps = draw(st.lists(st.integers(0, 2), min_size=len(lines), max_size=len(lines)))
        lines = [
            part for line, gap in zip(lines, gaps, strict=True) for part in (line, *[""] * gap)
        ]
    newline = draw(NEWLINES)
    data = newline.join(line.encode() for line in lines)
    bom = draw(st.sampled_from([b"", b"", b"", b"\xef\xbb\xbf"]))
    return bom + data + (newline if draw(st.booleans()) else b"")


@st.composite
def _broken(draw: Any, how: str, data: bytes) -> bytes:
    at = draw(st.integers(0, max(len(data) - 1, 0)))
    if how == "json":
        return data + b"\n" + draw(st.sampled_from(BROKEN_JSON)).encode()
    return {
        "bytes": draw(st.binary(max_size=200)),
        "invalid": data[:at] + b"\xff" + data[at:],
        "utf-16": data.decode().encode("utf-16"),
        "empty": b"",
        "blank": draw(st.sampled_from([b"\n", b"\r\n\r\n", b" \n\t\n", b" ", b"\xef\xbb\xbf"])),
        "cut": data[:at],
        "tab": data[:at] + b"\t" + data[at:],
        "short": data + b"\nmore",
        "cr": data.replace(b"\r\n", b"\n").replace(b"\n", b"\r"),
    }[how]


TOKENIZER_KINDS = ("byte", "char", "word", "bpe", "wordpiece", "unigram")


def tokenizers(kind: str) -> st.SearchStrategy[dict[str, Any]]:
    """Settings of a tokenizer of this kind, good and bad."""
    sizes = [8000] * 6 + [300] * 4 + [270, 40, 6, 5, 1, 1 << 24]
    return st.fixed_dictionaries(
        {"kind": st.just(kind), "vocab_size": st.sampled_from(sizes)},
        optional={"min_frequency": st.sampled_from([0, 1, 1, 2, 1000]), "lowercase": st.booleans()},
    )


BATCHES = st.sampled_from(
    [{"batch_size": 2}] * 3 + [{"batch_tokens": 64}] * 3 + [{"batch_tokens": 3}]
)
TEXT_MODULES = st.sampled_from(
    [
        ("causal", {"rows": "windows", "length": 16}),
        ("causal", {"rows": "documents", "length": 16}),
        ("causal", {"rows": "windows", "length": 1}),
        ("bidirectional", {"rows": "documents", "length": 8, "characters": 6}),
        ("bidirectional", {"rows": "windows", "length": 8, "characters": 6, "consecutive": True}),
        ("masked", {"max_length": 16}),
        ("masked", {"max_length": 16, "sentences": "punctuation"}),
        ("masked", {"max_length": 8, "next_sentence": False}),
        ("masked", {"max_length": 12, "next_sentence": False, "masking": {"whole_words": True}}),
    ]
)  # fmt: skip
PAIR_MODULES = st.sampled_from(
    [
        ("pairs", {"max_length": 200, "overlong": "skip"}),
        ("pairs", {"max_length": 24}),
        ("rnn", {"max_length": 64, "overlong": "skip"}),
    ]
)  # fmt: skip
