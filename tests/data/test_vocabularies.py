"""Tokenizers from files of other programs: which file is read, what is wrong with it, what tokens are."""

from __future__ import annotations

import json
from pathlib import Path

import numpy as np
import pytest
import tokenizers as lib
from tokenizers import decoders, models, pre_tokenizers, trainers

from lit_lm.data import Tokenizer, TokenizerConfig
from lit_lm.data.alphabets import BYTES
from lit_lm.errors import InputError

BERT = [
    "[PAD]",
    "[UNK]",
    "[CLS]",
    "[SEP]",
    "[MASK]",
    "[",
    "]",
    "mask",
    "the",
    "cat",
    "##s",
    "é",
    "e",
]
TEXT = "the naïve cats don't 猫 sit, 1999<|endoftext|>\n"


def write_bert(folder: Path, tokens: list[str], **settings: object) -> Path:
    (folder / "vocab.txt").write_text("\n".join(tokens) + "\n", encoding="utf-8")
    if settings:
        (folder / "tokenizer_config.json").write_text(json.dumps(settings))
    return folder / "vocab.txt"


def write_gpt2(
    folder: Path, names: tuple[str, str] = ("encoder.json", "vocab.bpe")
) -> lib.Tokenizer:
    """A byte-level BPE in GPT-2's form, and what the library trained."""
    core = lib.Tokenizer(models.BPE())
    core.pre_tokenizer = pre_tokenizers.ByteLevel(add_prefix_space=False)
    core.train_from_iterator(
        [TEXT.replace("<|endoftext|>", "")] * 9,
        trainers.BpeTrainer(
            vocab_size=300,
            initial_alphabet=pre_tokenizers.ByteLevel.alphabet(),
            show_progress=False,
        ),
    )
    model = json.loads(core.to_str())["model"]
    vocab = {**model["vocab"], "<|endoftext|>": len(model["vocab"])}
    (folder / names[0]).write_text(json.dumps(vocab))
    merges = [" ".join(merge) for merge in model["merges"]]
    (folder / names[1]).write_text("\n".join(["#version: 0.2", *merges]) + "\n", encoding="utf-8")
    return core


def test_bert_ids_are_line_numbers_and_special_tokens_are_never_read(tmp_path: Path) -> None:
    t = Tokenizer.load(write_bert(tmp_path, BERT))
    assert (t.pad_id, t.unk_id, t.bos_id, t.eos_id, t.mask_id) == (0, 1, 2, 3, 4)
    assert t.encode("The CATS É [MASK] dogs") == [8, 9, 10, 12, 5, 7, 6, 1]
    assert t.decode(t.encode("The cats")) == "the cats"
    assert t.encode_masked("the <mask>s")[1] == t.mask_id
    goes_on, open_end = t.inner
    assert np.flatnonzero(goes_on).tolist() == [10]
    assert open_end.all()
    assert bytes(k - 1 for k in t.characters(9)[10].tolist() if 0 < k < 257) == b"s"


def test_who_decides_on_lower_case(tmp_path: Path) -> None:
    cased = [*BERT, "The"]
    for tokens, settings, ids in (
        (BERT, {}, [8]),
        (cased, {}, [13]),
        (cased, {"do_lower_case": True}, [8]),
        (BERT, {"do_lower_case": False}, [1]),
    ):
        folder = tmp_path / str(len(list(tmp_path.iterdir())))
        folder.mkdir()
        assert Tokenizer.load(write_bert(folder, tokens, **settings)).encode("The") == ids
    kept = Tokenizer.load(write_bert(folder, BERT, do_lower_case=True, strip_accents=False))
    assert kept.encode("É") == [11]


@pytest.mark.parametrize("names", [("encoder.json", "vocab.bpe"), ("vocab.json", "merges.txt")])
def test_gpt2_files_under_either_name(names: tuple[str, str], tmp_path: Path) -> None:
    core = write_gpt2(tmp_path, names)
    end = core.get_vocab_size()
    for path in (tmp_path, tmp_path / names[0], tmp_path / names[1]):
        t = Tokenizer.load(path)
        assert t.special_ids == [end] == [t.eos_id]
        assert t.encode(TEXT) == core.encode(TEXT).ids
        assert t.decode(t.encode(TEXT)) == TEXT
        copy = Tokenizer.from_state(json.loads(json.dumps(t.state())))
        assert copy.state() == t.state()
        assert copy.encode(TEXT) == t.encode(TEXT)
    t.export(tmp_path / "tokenizer.json")
    assert Tokenizer.load(tmp_path).encode(TEXT) == t.encode(TEXT)


def test_a_byte_level_token_is_its_bytes(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    own = Tokenizer.train(TokenizerConfig("bpe", vocab_size=300), [TEXT] * 9)
    text = TEXT + "京"  # never seen, so in three tokens
    for t in (own, Tokenizer.load(tmp_path)):
        table = t.characters(20)
        ids = t.encode(text)
        assert any(t._model.bytes_of(i) == b"\xe4" for i in ids), "part of a character"
        bytes_ = [bytes(k - 1 for k in table[i].tolist() if 0 < k < 257) for i in ids]
        assert b"".join(bytes_) == text.encode()
        texts = [i for i in range(t.vocab_size) if i not in t.special_ids]
        assert len({tuple(row) for row in table[texts].tolist()}) == len(texts)
    assert set(BYTES) == set(pre_tokenizers.ByteLevel.alphabet())
    assert sorted(BYTES.values()) == list(range(256))
    byte_level = decoders.ByteLevel()
    assert all(byte_level.decode([c]).encode() == bytes([b]) for c, b in BYTES.items() if b < 128)


def test_whole_words_begin_at_spaces(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    own = (Tokenizer.train(TokenizerConfig(k, vocab_size=300), [TEXT] * 9) for k in ("bpe", "byte"))
    for t in (*own, Tokenizer.load(tmp_path)):
        goes_on, open_end = t.inner
        words: list[list[int]] = []
        for i in t.encode("the cats sit naïve 猫京, 19"):
            if words and goes_on[i] and open_end[words[-1][-1]]:
                words[-1].append(i)
            else:
                words.append([i])
        found = [t.decode(word).removeprefix(" ") for word in words]
        assert [w for w in found if w] == ["the", "cats", "sit", "naïve", "猫京", ",", "19"]


def test_sentencepiece_names_show_their_spaces_and_bytes(tmp_path: Path) -> None:
    pieces = [("<pad>", 0.0), ("</s>", 0.0), ("<unk>", 0.0), ("▁the", -1.0), ("re", -2.0)]
    pieces += [("▁", -4.0), *((c, -5.0) for c in "</s>abt"), ("<0xE7>", -6.0)]
    core = lib.Tokenizer(models.Unigram(pieces, unk_id=2))
    core.pre_tokenizer = pre_tokenizers.Metaspace()
    core.decoder = decoders.Metaspace()
    core.save(str(tmp_path / "tokenizer.json"))
    t = Tokenizer.load(tmp_path)
    assert [t._model.bytes_of(i) for i in (3, 4, 12)] == [b" the", b"re", b"t"]
    assert t._model.bytes_of(13) == b"\xe7"
    goes_on, open_end = t.inner
    assert (goes_on[3], goes_on[4], open_end[3], goes_on[1]) == (False, True, True, False)
    assert core.encode("the</s>").ids == [3, 1], "the library reads the piece"
    assert [t.token(i) for i in t.encode("the</s>")] == ["▁the", "<", "▁", "/", "s", ">"]
    assert t.encode("the") == [3]


def test_names_of_special_tokens_stay_text_whatever_the_file_says(tmp_path: Path) -> None:
    words = {"[UNK]": 0, "[SEP]": 1, "[MASK]": 2, "a": 3, "[": 4}
    core = lib.Tokenizer(models.WordLevel(words, unk_token="[UNK]"))
    core.pre_tokenizer = pre_tokenizers.WhitespaceSplit()
    core.add_tokens(["[MASK]"])
    core.save(str(tmp_path / "tokenizer.json"))
    t = Tokenizer.load(tmp_path / "tokenizer.json")
    assert core.encode("a [SEP] [MASK]a").ids == [3, 1, 2, 3]
    for text in ("a [SEP] [MASK]a", "[SEP]" * 50, "[MASK][MASK] [SEP]", "[UNK]"):
        assert not {1, 2} & set(t.encode(text))
    assert t.encode("a [SEP] a") == [3, 4, 0, 3]


def test_a_folder_is_read_in_a_fixed_order(tmp_path: Path) -> None:
    with pytest.raises(
        InputError, match=r"the folder holds none of lit_lm_tokenizer.json, tokenizer"
    ):
        Tokenizer.load(tmp_path)
    write_gpt2(tmp_path)
    sizes = [Tokenizer.load(tmp_path).vocab_size]
    write_bert(tmp_path, BERT)
    sizes.append(Tokenizer.load(tmp_path).vocab_size)
    Tokenizer.train(TokenizerConfig("word"), ["a b"]).export(tmp_path / "tokenizer.json")
    sizes.append(Tokenizer.load(tmp_path).vocab_size)
    Tokenizer.train(TokenizerConfig("byte"), []).save(tmp_path / "lit_lm_tokenizer.json")
    sizes.append(Tokenizer.load(tmp_path).vocab_size)
    assert sizes == [283, len(BERT), 7, 261]


@pytest.mark.parametrize(
    ("tokens", "said"),
    [
        ([*BERT, "cat"], r"vocab\.txt, line 14: 'cat' stands already on line 10"),
        ([*BERT[:3], "", *BERT[3:]], r"vocab\.txt, line 4: empty"),
        (["a", "b"], r"no line reads \[UNK\]"),
        (["[UNK]", "b"], "has no end token"),
    ],
)
def test_damaged_vocabularies_of_bert(tokens: list[str], said: str, tmp_path: Path) -> None:
    with pytest.raises(InputError, match=said):
        Tokenizer.load(write_bert(tmp_path, tokens))


def test_damaged_settings_and_encodings(tmp_path: Path) -> None:
    file = write_bert(tmp_path, BERT, do_lower_case="yes")
    with pytest.raises(InputError, match=r"tokenizer_config\.json: do_lower_case is 'yes'"):
        Tokenizer.load(file)
    (tmp_path / "tokenizer_config.json").write_text("{\n\n")
    with pytest.raises(InputError, match=r"tokenizer_config\.json, line 3: no JSON"):
        Tokenizer.load(file)
    file.write_bytes(b"[UNK]\n\xff\n")
    with pytest.raises(InputError, match=r"vocab\.txt cannot be read as UTF-8"):
        Tokenizer.load(file)


def test_damaged_files_of_gpt2(tmp_path: Path) -> None:
    write_gpt2(tmp_path)
    vocab, merges = tmp_path / "encoder.json", tmp_path / "vocab.bpe"
    whole, lines = json.loads(vocab.read_text()), merges.read_text().split("\n")
    for bad in ("t", "t qq", "t h e", ""):
        merges.write_text("\n".join([*lines[:3], bad, *lines[3:]]))
        with pytest.raises(InputError, match=r"vocab\.bpe, line 4: '.*' is no merge"):
            Tokenizer.load(tmp_path)
    merges.write_text("\n".join(lines))
    for change, said in (
        ({"a": 1.5}, "'a' has the id 1.5"),
        ({"a": whole["b"]}, f"share the id {whole['b']}"),
        ({"a": -1}, "'a' has the id -1"),
    ):
        vocab.write_text(json.dumps(whole | change))
        with pytest.raises(InputError, match=said):
            Tokenizer.load(tmp_path)
    vocab.write_text(json.dumps({k: v for k, v in whole.items() if k != "Ġ"}))
    with pytest.raises(InputError, match="1 of the 256 bytes have no token, among them 'Ġ'"):
        Tokenizer.load(tmp_path)
    vocab.write_text('{"a": 0,\n"b" 1}')
    with pytest.raises(InputError, match=r"encoder\.json, line 2: no JSON"):
        Tokenizer.load(tmp_path)
    merges.unlink()
    with pytest.raises(InputError, match=r"vocab\.bpe must lie beside it"):
        Tokenizer.load(tmp_path)
