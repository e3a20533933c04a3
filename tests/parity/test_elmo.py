"""AllenNLP's ELMo: equal to its published outputs, and to the whole computation in numpy."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import h5py
import numpy as np
import pytest
import torch

from lit_lm import interop
from lit_lm.data.open_words import OpenWords
from lit_lm.tasks import BidirectionalLM
from lit_lm.training import load_task
from tests import elmo_files

pytestmark = pytest.mark.parity

TEXTS = [
    "the cat sat .",
    "dog",
    "The U.S. naïve 猫猫猫猫 unbelievably-long-word cut-here",
    "the cat and the dogs and the cats and the dog",
]


@pytest.fixture(scope="module")
def fixture_folder(request: pytest.FixtureRequest) -> Path:
    """AllenNLP's test fixture: it may be missing, but not from a run that is about parity."""
    root = os.environ.get("LIT_LM_DATA", "")
    folder = Path(root) / "elmo_fixture"
    if not root or not folder.is_dir():
        miss = pytest.fail if "parity" in request.config.getoption("markexpr") else pytest.skip
        miss("needs AllenNLP's ELMo fixture: set LIT_LM_DATA to the folder of elmo_fixture")
    return folder


def layers(task: Any, texts: list[str], *, carry: bool = True) -> list[np.ndarray]:
    """(layers + 1, 2, tokens, width) of each text, the state carried from text to text."""
    out, state = [], None
    for text in texts:
        words = OpenWords(task.tokenizer, task.net.max_characters)
        ((ids, names),) = words.encode_batch([text])
        assert names == text.split()
        row, start = task.frame(ids)
        _, mask, chars = task.batch_rows([row], words)
        with torch.no_grad():
            found, state = task.net.encode_layers(mask, chars, state if carry else None)
        inside = torch.stack(found)[:, 0, start : start + len(ids)].numpy()
        out.append(np.stack(np.split(inside, 2, axis=-1), axis=1))
    return out


def far(found: list[np.ndarray], expected: list[np.ndarray]) -> float:
    """The largest difference."""
    for one, other in zip(found, expected, strict=True):
        assert one.shape == other.shape
    return max(float(np.abs(a - b).max()) for a, b in zip(found, expected, strict=True))


@pytest.mark.data
class TestFixture:
    def test_equals_the_published_outputs(self, fixture_folder: Path) -> None:
        task = interop.read(fixture_folder)
        texts = json.loads((fixture_folder / "sentences.json").read_text())[0]
        with h5py.File(fixture_folder / "lm_embeddings_0.hdf5", "r") as file:
            expected = [np.array(file[str(i)]) for i in range(len(texts))]
        assert len(file_tokens := [e.shape[1] for e in expected]) == len(texts) == 10
        assert file_tokens == [len(text.split()) for text in texts]
        assert far([one[-1] for one in layers(task, texts)], expected) <= 1e-5
        # Only the first text is right when nothing is carried: the bound can tell.
        stateless = [one[-1] for one in layers(task, texts, carry=False)]
        assert far(stateless[:1], expected[:1]) <= 1e-5
        assert far(stateless[1:], expected[1:]) > 1e-3

    @pytest.mark.parametrize("number", [0, 1, 2])
    def test_equals_numpy_on_every_list(self, fixture_folder: Path, number: int) -> None:
        task = interop.read(fixture_folder)
        texts = json.loads((fixture_folder / "sentences.json").read_text())[number]
        reference = elmo_files.Reference(fixture_folder)
        expected = [reference.read(text.split()) for text in texts]
        assert far(layers(task, texts), expected) <= 1e-5


@pytest.mark.parametrize(
    "changes",
    [
        {},
        {"char_cnn__activation": "relu", "char_cnn__n_highway": 1, "lstm__n_layers": 2},
        {"lstm__cell_clip": None, "lstm__proj_clip": None, "char_cnn__n_highway": 0},
        {"lstm__n_layers": 1, "lstm__use_skip_connections": False, "lstm__cell_clip": 3},
    ],
    ids=["clipped tanh", "relu", "unclipped", "one layer"],
)
def test_equals_numpy(tmp_path: Path, changes: dict[str, Any]) -> None:
    folder = elmo_files.write(tmp_path, elmo_files.options(**changes))
    task, reference = interop.read(folder), elmo_files.Reference(folder)
    expected = [reference.read(text.split()) for text in TEXTS]
    assert far(layers(task, TEXTS), expected) <= 1e-5
    assert far(layers(task, TEXTS, carry=False), expected) > 1e-3


def test_every_weight_counts(tmp_path: Path) -> None:
    """A change of any array of the file moves our outputs, as it moves numpy's."""
    options = elmo_files.options(
        lstm__n_layers=2, char_cnn__n_highway=1, char_cnn__filters=[[1, 2], [2, 3]]
    )
    texts, weights = ["the cat"], elmo_files.arrays(options)
    before = layers(interop.read(elmo_files.write(tmp_path, options)), texts)
    for name, array in weights.items():
        changed = {**weights, name: array + 0.1}
        folder = elmo_files.write(tmp_path, options, changed)
        expected = [elmo_files.Reference(folder).read(texts[0].split())]
        found = layers(interop.read(folder), texts)
        assert far(found, expected) <= 1e-5, name
        assert far(found, before) > 1e-3, name


def test_clips_are_reached(tmp_path: Path) -> None:
    weights = elmo_files.arrays(elmo_files.OPTIONS)
    free = elmo_files.options(lstm__cell_clip=None, lstm__proj_clip=None)
    found = [
        layers(interop.read(elmo_files.write(tmp_path, options, weights)), TEXTS)
        for options in (elmo_files.OPTIONS, free)
    ]
    assert far(*found) > 0.1


def test_vectors_of_a_text_are_the_mean_of_all_layers(tmp_path: Path) -> None:
    folder = elmo_files.write(tmp_path)
    task = interop.read(folder)
    for text, found in zip(TEXTS, task.embed(TEXTS), strict=True):
        mean = elmo_files.Reference(folder).read(text.split()).mean(0)
        expected = np.concatenate(list(mean), axis=-1)
        assert np.abs(found.vectors.numpy() - expected).max() <= 1e-5


def test_rows_of_a_batch_carry_their_own_state(tmp_path: Path) -> None:
    """AllenNLP reads several lists of texts side by side, of whatever lengths."""
    task = interop.read(elmo_files.write(tmp_path))
    lists = [TEXTS[:2], TEXTS[2:], TEXTS[1:3]]
    alone = [layers(task, texts) for texts in lists]
    state = None
    for step in range(2):
        words = OpenWords(task.tokenizer, task.net.max_characters)
        rows = [task.frame(ids)[0] for ids, _ in words.encode_batch([t[step] for t in lists])]
        _, mask, chars = task.batch_rows(rows, words)
        with torch.no_grad():
            found, state = task.net.encode_layers(mask, chars, state)
        for i, row in enumerate(rows):
            inside = torch.stack(found)[:, i, 1 : len(row) - 1].numpy()
            expected = np.concatenate(list(alone[i][step].swapaxes(0, 1)), axis=-1)
            assert np.abs(inside - expected).max() <= 1e-5


def test_a_checkpoint_holds_all_of_it(tmp_path: Path) -> None:
    task = interop.read(elmo_files.write(tmp_path))
    interop.save_checkpoint(task, tmp_path / "a.ckpt")
    loaded = load_task(str(tmp_path / "a.ckpt"))
    assert isinstance(loaded, BidirectionalLM)
    assert loaded.fresh == task.fresh == ("head.weight", "head.bias")
    assert loaded.frame([7]) == task.frame([7]) == ([1, 7, 2], 1)
    for name, value in task.state_dict().items():
        assert torch.equal(loaded.state_dict()[name], value), name
    for one, two in zip(task.embed(TEXTS), loaded.eval().embed(TEXTS), strict=True):
        assert one.tokens == two.tokens
        assert torch.equal(one.vectors, two.vectors)
