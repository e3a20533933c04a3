"""Tokenizers: round trips, special tokens, determinism, state."""

from __future__ import annotations

import os
import warnings
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import example, given
from hypothesis import strategies as st

from lit_lm.data import BuiltinText, Tokenizer, TokenizerConfig
from lit_lm.data.subwords import join_words
from lit_lm.data.tokenizers import pieces
from lit_lm.errors import InputError
from lit_lm.specs import NUM_CHARACTERS

KINDS = ["byte", "char", "word", "bpe", "wordpiece", "unigram"]
TEXTS = [
    *BuiltinText(train=30).items("train"),
    *("<eos> <eos> <eos>", "<pad><bos>", "naïve café, straße — 東京 🙂 don't state-of-the-art") * 5,
]
STRANGE = [
    "",
    " ",
    "\n",
    "  a  \n\n b\t",
    "\x00\x07\x1b",
    "🙂👩‍👩‍👧",
    "東京都",
    "e\u0301",
    "<eos>",
    "\u2028",
    "a\r\nb",
]


@pytest.fixture(scope="module")
def tokenizers() -> dict[str, Tokenizer]:
    return {k: Tokenizer.train(TokenizerConfig(k, vocab_size=600), iter(TEXTS)) for k in KINDS}


@pytest.fixture(scope="module", params=KINDS)
def tokenizer(request, tokenizers) -> Tokenizer:
    return tokenizers[request.param]


@pytest.mark.parametrize("kind", ["byte", "bpe", "unigram"])
def test_any_text_round_trips(kind: str, tokenizers) -> None:
    tokenizer = tokenizers[kind]

    @given(st.text())
    @example("".join(STRANGE))
    def check(text: str) -> None:
        ids = tokenizer.encode(text)
        assert tokenizer.decode(ids) == text
        assert tokenizer.unk_id not in ids

    check()
    for text in STRANGE + TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text


def test_known_characters_round_trip(tokenizers) -> None:
    tokenizer = tokenizers["char"]
    for text in TEXTS:
        assert tokenizer.decode(tokenizer.encode(text)) == text
    assert tokenizer.encode("aЖ")[1] == tokenizer.unk_id
    assert tokenizer.decode(tokenizer.encode("aЖ")) == "a<unk>"


@pytest.mark.parametrize(
    "text",
    [
        *BuiltinText(train=3).items("train"),
        'He said: "Do come (soon), please!" and left; she\'d stay...',
        "It's the well-known state-of-the-art, isn't it?\nYes: 100%.",
        "She paid $5 [or £4].\n\n\"Really?\" 'Really.'",
        "“Well,” she said… “no.”",
    ],
)
def test_plain_prose_round_trips_through_words(text: str) -> None:
    tokenizer = Tokenizer.train(TokenizerConfig("word"), [text])
    assert tokenizer.decode(tokenizer.encode(text)) == text


def test_words(tokenizers) -> None:
    tokenizer = Tokenizer.train(TokenizerConfig("word", min_frequency=2), ["a b\na b, c"])
    assert [tokenizer.token(i) for i in tokenizer.encode("b\n b, a")] == [
        "b",
        "<unk>",
        "b",
        "<unk>",
        "a",
    ]
    assert tokenizer.vocab_size == 7
    assert join_words(["<unk>", ",", "a"]) == "<unk>, a"


def test_special_ids(tokenizer: Tokenizer) -> None:
    t = tokenizer
    assert (t.pad_id, t.bos_id, t.eos_id, t.unk_id, t.mask_id) == (0, 1, 2, 3, 4)
    assert t.decode([1, *t.encode("Jordan"), 2, 0, 0]) == t.decode(t.encode("Jordan"))
    assert t.decode([2], skip_special=False) == "<eos>" == t.token(2)
    assert t.vocab_size <= 600
    assert all(isinstance(t.token(i), str) for i in range(t.vocab_size))
    with pytest.raises(InputError, match="not in the vocabulary"):
        t.decode([t.vocab_size])


def test_text_never_becomes_a_special_token(tokenizer: Tokenizer) -> None:
    special = {tokenizer.pad_id, tokenizer.bos_id, tokenizer.eos_id}
    for text in ["<eos>", "a<eos>b", "<pad> <bos> <eos>", "<EOS>", *TEXTS]:
        assert not special & set(tokenizer.encode(text)), text


def test_literal_special_tokens_in_every_pre_tokenizer_position() -> None:
    corpus = ["<eos>"] * 50 + ["x<eos> <eos>y\n<eos>"] * 50
    for kind in KINDS:
        tokenizer = Tokenizer.train(TokenizerConfig(kind, vocab_size=300), corpus)
        for text in corpus[::50]:
            assert not {0, 1, 2} & set(tokenizer.encode(text)), kind


def test_training_is_deterministic_and_state_is_complete(
    tokenizer: Tokenizer, tmp_path: Path
) -> None:
    again = Tokenizer.train(tokenizer.config, iter(TEXTS))
    assert again.state() == tokenizer.state()
    torch.save({"state_dict": {}, "tokenizer": tokenizer.state()}, tmp_path / "a.ckpt")
    tokenizer.save(tmp_path / "t.json")
    restored = torch.load(tmp_path / "a.ckpt", weights_only=True)["tokenizer"]
    for copy in (
        Tokenizer.from_state(restored),
        Tokenizer.load(tmp_path / "t.json"),
        Tokenizer.train(TokenizerConfig(path=str(tmp_path / "a.ckpt")), []),
    ):
        assert copy.state() == tokenizer.state()
        assert [copy.encode(t) for t in TEXTS] == [tokenizer.encode(t) for t in TEXTS]
        assert copy.vocab_size == tokenizer.vocab_size


def test_batches_equal_single_texts(tokenizer: Tokenizer) -> None:
    texts = [*TEXTS, *STRANGE]
    batch = tokenizer.encode_batch(texts)
    assert [ids.tolist() for ids in batch] == [tokenizer.encode(text) for text in texts]
    assert all(ids.dtype == np.uint32 for ids in batch)


@pytest.mark.parametrize("kind", KINDS)
def test_lowercase(kind: str) -> None:
    tokenizer = Tokenizer.train(TokenizerConfig(kind, vocab_size=400, lowercase=True), TEXTS)
    assert tokenizer.encode("Brought HER fox") == tokenizer.encode("brought her fox")
    assert tokenizer.decode(tokenizer.encode("Her")).strip() == "her"


@pytest.mark.parametrize("kind", ["char", "word", "bpe", "wordpiece", "unigram"])
def test_too_small_a_vocabulary(kind: str) -> None:
    with pytest.raises(InputError, match="vocab_size=4 is too small"):
        Tokenizer.train(TokenizerConfig(kind, vocab_size=4), TEXTS)


def test_export_loads_as_foreign(tokenizers, tmp_path: Path) -> None:
    tokenizers["bpe"].export(tmp_path / "tokenizer.json")
    foreign = Tokenizer.load(tmp_path / "tokenizer.json")
    assert (foreign.pad_id, foreign.bos_id, foreign.eos_id, foreign.unk_id) == (0, 1, 2, 3)
    assert [foreign.encode(t) for t in TEXTS] == [tokenizers["bpe"].encode(t) for t in TEXTS]
    assert Tokenizer.from_state(foreign.state()).encode("a <eos>") == foreign.encode("a <eos>")
    with pytest.raises(InputError, match=r"has no tokenizer.json"):
        tokenizers["byte"].export(tmp_path / "x")


def test_a_gpt2_like_tokenizer_has_one_special_token(tmp_path: Path) -> None:
    import tokenizers as lib

    core = lib.Tokenizer(lib.models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    core.add_special_tokens(["<|endoftext|>"])
    core.save(str(tmp_path / "tokenizer.json"))
    tokenizer = Tokenizer.load(tmp_path / "tokenizer.json")
    assert tokenizer.pad_id == tokenizer.bos_id == tokenizer.eos_id == tokenizer.unk_id == 2
    assert 2 not in tokenizer.encode("ab<|endoftext|>")
    assert tokenizer.vocab_size == 3


def test_load_errors(tmp_path: Path) -> None:
    with pytest.raises(InputError, match="no such file"):
        Tokenizer.load(tmp_path / "none.json")
    for content, said in (
        ('{"a": 1,\nb}', r"a\.json, line 2: no JSON"),
        ("[]", "not a JSON object"),
        ('{"a": 1}', "neither a saved tokenizer"),
        ('{"config": {}}', "not as Tokenizer.save writes it"),
    ):
        (tmp_path / "a.json").write_text(content)
        with pytest.raises(InputError, match=said):
            Tokenizer.load(tmp_path / "a.json")
    (tmp_path / "b.json").write_text('{"model": {"type": "BPE", "vocab": {"a": 0}, "merges": []}}')
    with pytest.raises(InputError, match=r"cannot be read|no end token"):
        Tokenizer.load(tmp_path / "b.json")
    torch.save({"state_dict": {}}, tmp_path / "a.ckpt")
    with pytest.raises(InputError, match="holds no tokenizer"):
        Tokenizer.load(tmp_path / "a.ckpt")
    (tmp_path / "a.ckpt").write_bytes(b"")
    with pytest.raises(InputError, match=r"a\.ckpt cannot be read as a checkpoint"):
        Tokenizer.load(tmp_path / "a.ckpt")


@given(st.lists(st.sampled_from(["a", "bc", " ", "\n", "\n\n", "don't ", "d\ne"]), max_size=40))
def test_long_texts_are_cut_where_nothing_is_lost(parts: list[str]) -> None:
    text = "".join(parts)
    assert "".join(pieces(text, 5)) == text


@pytest.mark.parametrize("kind", ["word", "bpe", "wordpiece", "unigram"])
def test_cutting_long_texts_changes_no_id(
    kind: str, tokenizers, monkeypatch: pytest.MonkeyPatch
) -> None:
    text = "\n".join(TEXTS) + "\n\n  x \n y\n"
    whole = tokenizers[kind].encode(text)
    monkeypatch.setattr("lit_lm.data.tokenizers._LONG", 40)
    monkeypatch.setattr(pieces, "__defaults__", (40,))
    assert len(list(pieces(text))) > 10
    assert tokenizers[kind].encode(text) == whole


def test_forking_after_training_warns_of_nothing(
    tokenizers, capfd: pytest.CaptureFixture[str]
) -> None:
    tokenizers["bpe"].encode_batch(TEXTS)
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        child = os.fork()
    if child == 0:
        tokenizers["bpe"].encode_batch(TEXTS)
        os._exit(0)
    assert os.waitpid(child, 0)[1] == 0
    assert "parallelism" not in capfd.readouterr().err


def test_frames_of_one_and_two_segments() -> None:
    t = Tokenizer.train(TokenizerConfig("word"), ["a b c"])
    a, b, c = t.encode("a b c")
    assert t.frame([a, b]) == ([t.bos_id, a, b, t.eos_id], [0, 0, 0, 0])
    assert t.frame([a], [b, c]) == ([t.bos_id, a, t.eos_id, b, c, t.eos_id], [0, 0, 0, 1, 1, 1])


@pytest.mark.parametrize("kind", KINDS)
def test_a_gap_stands_for_a_token(kind: str) -> None:
    text = "the cat sat on the mat"
    t = Tokenizer.train(TokenizerConfig(kind, vocab_size=400), [text, text])
    ids = t.encode_masked("the cat <mask> on the mat")
    assert ids.count(t.mask_id) == 1
    at = ids.index(t.mask_id)
    restored = ids[:at] + t.encode("the cat sat on the mat")[at : len(t.encode(text)) - len(ids) + at + 1] + ids[at + 1 :]  # fmt: skip
    assert restored == t.encode(text)
    assert t.mask_id not in t.encode("a literal <mask> is text")


@pytest.mark.parametrize("kind", KINDS)
def test_characters_are_the_bytes_of_tokens(kind: str) -> None:
    t = Tokenizer.train(TokenizerConfig(kind, vocab_size=400), ["the cat sat on the mat, naïve 猫"])
    table = t.characters(12)
    assert table.shape == (t.vocab_size, 12)
    assert table.max() < NUM_CHARACTERS
    assert (table[:, 0] == 257).all()
    assert len({tuple(row) for row in table[:5].tolist()}) == 5, "special tokens differ"
    for index in t.encode("the cat"):
        inside = [k for k in table[index].tolist() if 0 < k < 257]
        assert bytes(k - 1 for k in inside) in b"the cat"
        assert table[index].tolist().count(258) == 1
    assert (t.characters(4) == 258).any(axis=1).all(), "the end mark is kept when a token is cut"
    texts = [t.decode([i]) for i in range(5, t.vocab_size)]
    if kind in ("word", "char"):
        assert t.num_cut(4) == sum(len(text.encode()) > 2 for text in texts)
    assert t.num_cut(100) == 0
