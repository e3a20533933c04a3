"""Pairs of several languages, each source with its tag, and the tokenizer's symbols."""

from __future__ import annotations

import pytest

from lit_lm.cli import main
from lit_lm.data import (
    Holdout,
    Multilingual,
    PairData,
    ParallelFiles,
    Tokenizer,
    TokenizerConfig,
    TsvPairs,
)
from lit_lm.data.word_ids import WordIds
from lit_lm.errors import InputError

SOURCES = ["a man sleeps.", "two dogs run.", "", "a cat <2de> sits."] * 3
TARGETS = {
    "de": ["ein Mann.", "zwei Hunde.", "leer", "eine Katze."],
    "fr": ["un homme.", "deux chiens.", "x", "un chat."],
}


@pytest.fixture
def files(tmp_path, monkeypatch):
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    (tmp_path / "en").write_text("\n".join(SOURCES) + "\n")
    for name, lines in TARGETS.items():
        (tmp_path / name).write_text("\n".join(lines * 3) + "\n")
    en = str(tmp_path / "en")
    return {
        name: ParallelFiles((en, str(tmp_path / name)), (en, str(tmp_path / name)))
        for name in TARGETS
    }


def test_pairs_are_those_of_all_languages_with_tags(files):
    source = Multilingual(files)
    expected = [
        (f"<2{name}> {src}" if src else "", tgt)
        for name in ("de", "fr")
        for src, tgt in zip(SOURCES, TARGETS[name] * 3, strict=True)
    ]
    assert list(source.items("train")) == expected
    assert source.actual("test") == "val"


@pytest.mark.parametrize("kind", ["bpe", "unigram", "wordpiece", "word"])
def test_a_tag_is_one_id_wherever_it_stands(files, kind):
    data = PairData(Multilingual(files), TokenizerConfig(kind, vocab_size=320), batch_size=4)
    tokenizer = data.tokenizer
    german, french = (tokenizer.encode(f"<2{name}>") for name in ("de", "fr"))
    assert len(german) == len(french) == 1
    assert german != french
    assert tokenizer.unk_id not in german + french
    assert sum(tokenizer.encode("a cat <2de> sits.").count(i) for i in german) == 1
    # The words around it keep the ids they have without it, and it taught the tokenizer nothing.
    assert tokenizer.encode("<2de> a man")[-len(tokenizer.encode(" a man")) :] == tokenizer.encode(
        " a man"
    )
    learned = set(range(tokenizer.vocab_size)) - {*german, *french}
    assert not any("2de" in tokenizer.token(i) for i in learned)
    ids, sizes = WordIds(tokenizer).stream(["<2de> a cat", "x<2fr>y, <2de>. z\n<2fr>"])
    assert ids.tolist() == [
        *tokenizer.encode("<2de> a cat"),
        tokenizer.eos_id,
        *tokenizer.encode("x<2fr>y, <2de>. z\n<2fr>"),
        tokenizer.eos_id,
    ]
    assert sizes.sum() == len(ids)
    again = Tokenizer.from_state(tokenizer.state())
    assert again.state() == tokenizer.state()
    assert again.encode("<2fr> a") == tokenizer.encode("<2fr> a")
    report = data.prepared.report
    assert report.inputs["train"].used == 18
    assert report.inputs["train"].left == {"empty": 6}


def test_vocabulary_keeps_its_size():
    texts = [f"{a}{b}" for a in "abcdefgh" for b in "abcdefgh"] * 9
    whole = Tokenizer.train(TokenizerConfig("bpe", vocab_size=290), texts)
    tagged = Tokenizer.train(
        TokenizerConfig("bpe", vocab_size=290, symbols=("<2x>", "<2y>")), texts
    )
    assert whole.vocab_size == tagged.vocab_size == 290


def test_files_decide_the_fingerprint_and_their_names_do_not(files, tmp_path):
    one = Multilingual(files)
    for name in TARGETS:
        (tmp_path / f"{name}2").write_text((tmp_path / name).read_text())
    en = str(tmp_path / "en")
    same = {
        n: ParallelFiles((en, str(tmp_path / f"{n}2")), (en, str(tmp_path / n))) for n in TARGETS
    }
    assert Multilingual(same).fingerprint() == one.fingerprint()
    (tmp_path / "fr2").write_text("other\n" * 12)
    assert Multilingual(same).fingerprint() != one.fingerprint()
    swapped = {"fr": files["de"], "de": files["fr"]}
    assert Multilingual(swapped).fingerprint() != one.fingerprint()


def test_what_is_held_out_stays_held_out(files, tmp_path):
    (tmp_path / "t.tsv").write_text("".join(f"s{i}\tt{i}\n" for i in range(20)))
    table = TsvPairs(str(tmp_path / "t.tsv"), holdout=Holdout(val=0.25), source=1, target=2)
    source = Multilingual({"de": table, "fr": table})
    assert source.given() == ("train", "val")
    assert [len(list(source.items(split))) for split in ("train", "val")] == [30, 10]
    with pytest.raises(InputError, match="a holdout of its own"):
        Multilingual({"de": table, "fr": table}, holdout=Holdout(val=0.5))
    with pytest.raises(InputError, match="de has train, val; fr has train"):
        Multilingual({"de": table, "fr": TsvPairs(str(tmp_path / "t.tsv"), source=1, target=2)})


def test_mistakes(files, tmp_path):
    with pytest.raises(InputError, match="at least one language"):
        Multilingual({})
    with pytest.raises(InputError, match="'d e' is no name of a language"):
        Multilingual({"d e": files["de"]})
    with pytest.raises(InputError, match="a byte tokenizer has none"):
        TokenizerConfig("byte", symbols=("<2de>",))
    with pytest.raises(InputError, match="'a b' must be one word"):
        TokenizerConfig(symbols=("a b",))
    Tokenizer.train(TokenizerConfig("bpe", vocab_size=300), SOURCES).save(tmp_path / "t.json")
    data = PairData(
        Multilingual(files), TokenizerConfig(path=str(tmp_path / "t.json")), batch_size=4
    )
    with pytest.raises(InputError, match="has no id of its own for <2de>"):
        _ = data.prepared


def test_the_shipped_recipe_is_read(tmp_path, monkeypatch, capsys):
    monkeypatch.setenv("LIT_LM_CACHE", str(tmp_path / "cache"))
    monkeypatch.setenv("LIT_LM_DATA", str(tmp_path))
    folder = tmp_path / "multi30k"
    folder.mkdir()
    for split in ("train", "val", "test_2016_flickr"):
        for language in ("en", "de", "fr"):
            (folder / f"{split}.{language}").write_text(f"{language} of {split}\n" * 3)
    assert main(["prepare", "--config", "experiment/multi30k_tagged_transformer"]) == 0
    assert "6 lines read: 6 used" in capsys.readouterr().out


def test_checkpoints_from_before_symbols_are_still_known():
    state = Tokenizer.train(TokenizerConfig("bpe", vocab_size=290), SOURCES).state()
    assert "symbols" not in state["config"]
    assert Tokenizer.from_state(state).state() == state
