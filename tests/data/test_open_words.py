"""Words outside the vocabulary: read by their own characters, predicted as unk, everything else as before."""

from __future__ import annotations

import copy
from multiprocessing.reduction import ForkingPickler
from pathlib import Path

import numpy as np
import pytest
import torch
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from lit_lm.data import TextData, TextFiles, Tokenizer, TokenizerConfig
from lit_lm.data.open_words import OpenWords
from lit_lm.data.tokenizers import pieces, spelled
from lit_lm.errors import InputError

KNOWN = ["the", "cat", "sat", "."]
UNKNOWN = ["Ünglück", "dog", "doggy", "doggies", "猫", "7.5"]
WORD = TokenizerConfig("word", min_frequency=2)


def tokenizer_file(folder: Path, kind: str = "word", texts: tuple[str, ...] = ("the cat sat .",)):
    path = folder / f"{kind}.json"
    Tokenizer.train(TokenizerConfig(kind, vocab_size=300), texts * 2).save(path)
    return TokenizerConfig(path=str(path))


def data(folder: Path, text: str, tokenizer: TokenizerConfig = WORD, **options) -> TextData:
    path = folder / "a.txt"
    path.write_text(text)
    options = {"batch_size": 2, "length": 4, "characters": 7, **options}
    return TextData(TextFiles(str(path), val=str(path)), tokenizer, **options)


def spell(words: list[str], width: int) -> torch.Tensor:
    out = torch.zeros(len(words), width, dtype=torch.int64)
    for row, word in zip(out, words, strict=True):
        inside = [257, *(byte + 1 for byte in word.encode()[: width - 2]), 258]
        row[: len(inside)] = torch.tensor(inside)
    return out


@settings(suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None, max_examples=25)  # fmt: skip
@given(
    st.lists(
        st.lists(st.sampled_from(KNOWN + UNKNOWN), min_size=1, max_size=6), min_size=1, max_size=4
    ),
    st.sampled_from(["windows", "documents"]),
)
def test_inputs_are_spelled_and_labels_stay_in_the_vocabulary(tmp_path, documents, rows) -> None:
    config = tokenizer_file(tmp_path)
    text = "\n\n".join(" ".join(words) for words in documents)
    made = data(tmp_path, text, config, rows=rows)
    t = made.tokenizer
    plain = data(tmp_path, text, config, rows=rows, characters=0)
    # "7.5" is three words of this tokenizer.
    whole = [
        w for words in documents for w in [*" ".join(words).replace("7.5", "7 . 5").split(), None]
    ]
    read = []
    for batch, other in zip(made.val_dataloader(), plain.val_dataloader(), strict=True):
        for one, two in zip(batch[:3], other[:3], strict=True):
            assert torch.equal(one, two)
        assert batch.size[:6] == other.size[:6]
        assert batch.labels_BL.max() < t.vocab_size
        assert batch.ids_BL.max() < t.vocab_size
        chars_UW, words_BL = batch.chars
        assert chars_UW.dtype == torch.int64
        assert batch.size.distinct == len(chars_UW) == len(words_BL.unique())
        for row, mask in enumerate(batch.mask_BL.sum(1).tolist()):
            read.append(chars_UW[words_BL[row, 1 : mask + 1]])
            # The first input stands before the row: the last row's last label, or an end.
            before = read[-2][-1] if len(read) > 1 else torch.from_numpy(t.characters(7)[t.eos_id])
            assert torch.equal(chars_UW[words_BL[row, 0]], before)
    found = torch.cat(read)
    ends = torch.tensor([w is None for w in whole])
    assert torch.equal(found[~ends], spell([w for w in whole if w is not None], 7))
    assert (found[ends] == torch.from_numpy(t.characters(7)[t.eos_id])).all()


def test_unknown_words_are_counted_in_the_report(tmp_path: Path) -> None:
    made = data(tmp_path, "the the a b a\n\nthe cat\n", tokenizer_file(tmp_path))
    split = made.prepared.report.splits["train"]
    assert (split.unknown, split.words, split.dropped) == ({"text": 3}, {"text": 2}, {"text": 0})
    assert "3 tokens unknown (2 different words, read by their characters)" in str(split)


def test_more_words_than_there_is_room_for_are_unk_and_counted(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("lit_lm.data.open_words.MOST_WORDS", 2)
    text = "the dog the horse cow dog cow goat\n"
    made = data(tmp_path, text, tokenizer_file(tmp_path), length=16)
    assert "6 tokens unknown (2 different words, read by their characters; 3 tokens beyond them are not)" in str(made.prepared.report)  # fmt: skip
    t = made.tokenizer
    ids = made.store("val", "text").read_ids(0, 9).tolist()
    dog, horse = t.vocab_size, t.vocab_size + 1
    the = t.encode("the")[0]
    assert ids == [the, dog, the, horse, t.unk_id, dog, t.unk_id, t.unk_id, t.eos_id]


def test_words_that_are_cut_alike_are_one() -> None:
    t = Tokenizer.train(TokenizerConfig("word"), ["the"])
    words = OpenWords(t, 5)
    assert words.number(["doggy", "dogma", "dot", "doggy"]).tolist() == [
        t.vocab_size,
        t.vocab_size,
        t.vocab_size + 1,
        t.vocab_size,
    ]
    assert words.characters().tolist() == [
        [257, *(b + 1 for b in b"dog"), 258],
        [257, *(b + 1 for b in b"dot"), 258],
    ]
    assert len(words) == 2


def test_known_kinds_share_their_files_with_networks_over_ids(tmp_path: Path) -> None:
    text = "the cat sat on the mat\n"
    for config in (TokenizerConfig("byte"), TokenizerConfig("bpe", vocab_size=280)):
        made = [data(tmp_path, text, config, characters=c) for c in (0, 7, 9)]
        assert len({one.prepared.folder for one in made}) == 1
    made = [data(tmp_path, text, characters=c) for c in (0, 7, 9)]
    assert len({one.prepared.folder for one in made}) == 3


@pytest.mark.parametrize(
    ("kind", "text", "found"),
    [
        ("word", "the dog  sat.\nÜber dog", ["dog", "\n", "Über", "dog"]),
        ("char", "a猫th!", ["猫", "!"]),
        ("wordpiece", "the 猫 sat Ж .", ["猫", "Ж"]),
        ("bpe", "the 猫", []),
        ("unigram", "the 猫", []),
        ("byte", "the 猫", []),
    ],
)
def test_what_stands_at_unk(kind: str, text: str, found: list[str]) -> None:
    t = Tokenizer.train(TokenizerConfig(kind, vocab_size=300), ["the cat sat ."])
    (ids, words), (_, none) = t.encode_open([text, "the cat"])
    assert words == found
    assert none == []
    assert (ids == t.unk_id).sum() == len(found)
    assert ids.tolist() == t.encode(text)


def test_unknown_words_are_folded_like_known_ones() -> None:
    for kind in ("word", "char", "wordpiece"):
        t = Tokenizer.train(TokenizerConfig(kind, vocab_size=60, lowercase=True), ["the cat"])
        assert t.encode_open(["THE ЖЖ"])[0][1] == (["жж"] if kind != "char" else ["ж", "ж"])


def test_long_texts_are_read_in_pieces(monkeypatch: pytest.MonkeyPatch) -> None:
    t = Tokenizer.train(TokenizerConfig("word"), ["the cat"])
    text = "the dog\nÜber the\nbig cat\n" * 3
    whole = t.encode_open([text])[0][1]
    monkeypatch.setattr("lit_lm.data.tokenizers._LONG", 10)
    monkeypatch.setattr(pieces, "__defaults__", (10,))
    assert len(list(pieces(text))) > 3
    assert t.encode_open([text])[0][1] == whole == ["dog", "\n", "Über", "\n", "big", "\n"] * 3


def test_workers_share_the_file_and_give_the_same_batches(tmp_path: Path) -> None:
    text = "\n\n".join(f"the word{i} sat {i} ." for i in range(40))
    alone = list(data(tmp_path, text).train_dataloader())
    many = list(data(tmp_path, text, num_workers=2).train_dataloader())
    assert len(alone) == len(many)
    for one, two in zip(alone, many, strict=True):
        assert torch.equal(one.ids_BL, two.ids_BL)
        assert all(torch.equal(a, b) for a, b in zip(one.chars, two.chars, strict=True))
    rows = data(tmp_path, text).rows("train")
    _ = rows[0]
    assert ForkingPickler.dumps(rows).nbytes < 20_000  # as rows are sent to workers
    again = copy.deepcopy(rows)
    assert all(np.array_equal(a, b) for a, b in zip(again[3], rows[3], strict=True))


@pytest.mark.parametrize("ending", ["unknown", "open", "chars"])
def test_missing_files_are_named(tmp_path: Path, ending: str) -> None:
    made = data(tmp_path, f"the {ending} the\n")
    (made.prepared.folder / f"train.text.{ending}").unlink()
    with pytest.raises(InputError, match=rf"train\.text\.{ending}.* Delete .* and run again"):
        list(made.train_dataloader())


def test_a_known_word_is_spelled_as_an_unknown_one_would_be() -> None:
    t = Tokenizer.train(TokenizerConfig("word"), ["straße"])
    (index,) = t.encode("straße")
    assert t.characters(9)[index].tolist() == [*spelled("straße".encode(), 9)]
    assert t.characters(5)[index].tolist() == spell(["straße"], 5)[0].tolist()


def test_given_words_stand_between_white_space() -> None:
    t = Tokenizer.from_words(["U.S.", "isn't", "the", "<eos>"])
    text = "the  U.S.\tisn't\nthe"
    assert [t.token(i) for i in t.encode(text)] == ["the", "U.S.", "isn't", "the"]
    assert t.decode(t.encode(text)) == "the U.S. isn't the"
    assert t.vocab_size == 8, "a special token's name is not a word of its own"
    for literal in ("<eos>", "the <bos> <pad>", "<eos> <mask>", "<mask>\n<unk>"):
        assert not {0, 1, 2, 4} & set(t.encode(literal)), literal
    assert t.encode_open(["x<eos> <eos>y Ж"])[0][1] == ["x<eos>", "<eos>y", "Ж"]
    again = Tokenizer.from_state(t.state())
    assert again.state() == t.state()
    assert again.encode("the U.S. <eos> x") == t.encode("the U.S. <eos> x")
