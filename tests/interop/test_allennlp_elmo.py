"""Reading AllenNLP's ELMo: the tokenizer that is taken, and every mistake named before anything is made."""

from __future__ import annotations

import json
import sys
from pathlib import Path
from typing import Any

import numpy as np
import pytest
import torch

from lit_lm import TokenizerConfig, interop
from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from tests import elmo_files

CELL = "RNN_1/RNN/MultiRNNCell/Cell2/LSTMCell"


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"bidirectional": False}, "bidirectional is false"),
        ({"lstm__cell_clip": 0}, "lstm: cell_clip is 0.0, where null .no bound. or more than 0"),
        ({"lstm__use_skip_connections": False}, "lstm: use_skip_connections is false"),
        ({"lstm__dim": "7"}, "lstm: dim is '7', where a int"),
        ({"lstm__n_layers": 0}, "lstm: n_layers is 0, where at least 1"),
        ({"lstm__proj_clip": -1}, "lstm: proj_clip is -1.0"),
        ({"lstm": None}, "options.json: lstm is None"),
        ({"char_cnn__activation": "gelu"}, 'char_cnn: activation is "gelu", where relu or tanh'),
        ({"char_cnn__filters": [[1, 2], [3]]}, "char_cnn: filters is .*where a list of .width"),
        ({"char_cnn__filters": []}, "char_cnn: filters is"),
        ({"char_cnn__n_characters": 300}, "char_cnn: n_characters is 300, where 261 or 262"),
        ({"char_cnn__max_characters_per_token": 3}, "max_characters_per_token is 3, where at least 4"),
        ({"char_cnn__embedding": {}}, "embedding: dim is missing"),
        ({"lstm__cell_clip": "3"}, "lstm: cell_clip is '3'"),
    ],
)  # fmt: skip
def test_options_that_cannot_be_read(tmp_path: Path, changes: dict[str, Any], message: str) -> None:
    elmo_files.write(tmp_path)
    (tmp_path / "options.json").write_text(json.dumps(elmo_files.options(**changes)))
    with pytest.raises(InputError, match=rf"options\.json.*{message}|{message}") as caught:
        interop.read(tmp_path)
    assert str(tmp_path / "options.json") in str(caught.value)


def test_weights_that_do_not_fit_are_all_listed(tmp_path: Path) -> None:
    weights = elmo_files.arrays(elmo_files.OPTIONS)
    del weights[f"{CELL}/B"]
    weights["CNN/W_cnn_1"] = weights["CNN/W_cnn_1"][:, :, :, 1:]
    weights["char_embed"] = weights["char_embed"][:-1]
    weights["softmax/W"] = weights["CNN_proj/b_proj"]
    weights["CNN_proj/b_proj"] = np.arange(5)
    elmo_files.write(tmp_path, weights=weights)
    with pytest.raises(InputError) as caught:
        interop.read(tmp_path)
    text = str(caught.value)
    assert "tiny_weights.hdf5 does not hold the weights" in text
    assert f"1 missing: {CELL}/B" in text
    assert "1 unexpected: softmax/W" in text
    assert "CNN/W_cnn_1 [1, 2, 3, 2], wanted [1, 2, 3, 3]" in text
    assert "char_embed [260, 3], wanted [261, 3]" in text
    assert "1 not of floating point: CNN_proj/b_proj" in text


def test_files_that_are_missing_or_damaged(tmp_path: Path) -> None:
    elmo_files.write(tmp_path)
    file = tmp_path / "tiny_weights.hdf5"
    content = file.read_bytes()
    file.write_bytes(content[: len(content) // 2])
    with pytest.raises(InputError, match=r"tiny_weights\.hdf5 cannot be read as HDF5"):
        interop.read(tmp_path)
    file.rename(tmp_path / "tiny.hdf5")
    with pytest.raises(InputError, match=r"one file \*weights\.hdf5 is wanted, here are none"):
        interop.read(tmp_path)
    for name in ("a", "b"):
        (tmp_path / f"{name}_weights.hdf5").write_bytes(content)
    with pytest.raises(InputError, match=r"here are a_weights\.hdf5, b_weights\.hdf5"):
        interop.read(tmp_path)
    (tmp_path / "options.json").write_text("{")
    with pytest.raises(InputError, match=r"options\.json cannot be read as JSON"):
        interop.read(tmp_path)


def test_without_the_library_its_extra_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    elmo_files.write(tmp_path)
    monkeypatch.setitem(sys.modules, "h5py", None)  # as if it could not be found
    with pytest.raises(InputError, match=r"pip install lit_lm\[elmo\]"):
        interop.read(tmp_path)


@pytest.mark.parametrize(
    ("content", "message"),
    [
        ("<S>\n</S>\n<UNK>\nthe\n\ncat\n", r"line 5: empty"),
        ("<S>\n</S>\nthe\n<UNK>\nthe\n", r"line 5: 'the' again, as in line 3"),
        ("[CLS]\n[SEP]\n<UNK>\nthe\n", r"<S>, </S> missing"),
        ("caf\xe9".encode("latin-1"), r"cannot be read as UTF-8"),
    ],
)
def test_vocabularies_that_cannot_be_read(
    tmp_path: Path, content: str | bytes, message: str
) -> None:
    elmo_files.write(tmp_path)
    raw = content if isinstance(content, bytes) else content.encode()
    (tmp_path / "vocab.txt").write_bytes(raw)
    with pytest.raises(InputError, match=rf"vocab\.txt.*{message}"):
        interop.read(tmp_path)


def test_the_vocabulary_of_the_folder(tmp_path: Path) -> None:
    task = interop.read(elmo_files.write(tmp_path))
    t = task.require_tokenizer()
    assert [t.token(i) for i in range(t.vocab_size)] == [
        *("<pad>", "<bos>", "<eos>", "<unk>", "<mask>"),
        *elmo_files.WORDS,
    ]
    assert task.net.head.out_features == t.vocab_size


def test_a_given_tokenizer_goes_before_the_folders_own(tmp_path: Path) -> None:
    folder = elmo_files.write(tmp_path / "elmo")
    given = Tokenizer.train(TokenizerConfig("word"), ["some other words"])
    given.save(tmp_path / "t.json")
    task = interop.read(folder, tmp_path / "t.json")
    assert task.require_tokenizer().state() == given.state()
    # What is read are characters, so the same words have the same vectors.
    with_own = interop.read(folder).embed(["the other sat"])[0]
    found = task.embed(["the other sat"])[0]
    torch.testing.assert_close(found.vectors, with_own.vectors, rtol=0, atol=1e-6)
    (folder / "vocab.txt").unlink()
    with pytest.raises(InputError, match=r"one file vocab\*\.txt is wanted"):
        interop.read(folder)
    assert interop.read(folder, tmp_path / "t.json").require_tokenizer().vocab_size == 8


def test_a_tokenizer_whose_texts_begin_as_they_end_is_refused(tmp_path: Path) -> None:
    import tokenizers as lib

    folder = elmo_files.write(tmp_path / "elmo")
    core = lib.Tokenizer(lib.models.BPE(vocab={"a": 0, "b": 1}, merges=[]))
    core.add_special_tokens(["<|endoftext|>"])
    core.save(str(tmp_path / "tokenizer.json"))
    with pytest.raises(InputError, match=r"one token for the begin and the end"):
        interop.read(folder, tmp_path / "tokenizer.json")


def test_predictions_of_the_fresh_head_are_refused(tmp_path: Path) -> None:
    task = interop.read(elmo_files.write(tmp_path))
    with pytest.raises(InputError, match=r"had none for head\.weight, head\.bias"):
        task.on_test_start()
    assert not task.training
