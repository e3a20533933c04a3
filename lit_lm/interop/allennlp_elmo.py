"""AllenNLP's ELMo: ``options.json``, one HDF5 file of weights and, where there is one, a list of words.

The weights are named and shaped as TensorFlow had them (``*weights.hdf5``). A folder's ``vocab*.txt`` (one word a
line, with ``<S>``, ``</S>`` and ``<UNK>``) becomes a tokenizer that cuts at white space, since this ELMo has read
tokens that somebody else made. Without such a file any other tokenizer will do: words are read by their
characters. The output layer is not in the file, so it is fresh.
"""

from __future__ import annotations

import importlib
import json
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor, nn

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop import weights
from lit_lm.interop.settings import setting
from lit_lm.interop.weights import Weight, read_json
from lit_lm.models import ELMoConfig
from lit_lm.specs import NUM_CHARACTERS
from lit_lm.tasks import BidirectionalLM

OPTIONS = "options.json"
_THEIR_SPECIALS = ("<S>", "</S>", "<UNK>")
# Rows of `char_embed`: 256 bytes, then these.
_BOS, _EOS, _BEGIN, _END, _PADDING, _ROWS = 256, 257, 258, 259, 260, 261


def read(folder: Path, tokenizer: Callable[..., Tokenizer]) -> BidirectionalLM:
    """A language-modelling task of a folder's weights; its texts stand between bos and eos, as AllenNLP has them.

    Args:
        folder: where the files are.
        tokenizer: loads the tokenizer that was named, or has the folder's list of words read.

    Raises:
        InputError: files are missing, do not fit each other, or ask for what our ELMo does not do.
    """
    config, width = _config(folder / OPTIONS)
    file = _one(folder, "*weights.hdf5")
    found = tokenizer(_words)
    if found.bos_id == found.eos_id:
        raise InputError(
            "the tokenizer has one token for the begin and the end of a text, where this ELMo reads two: give "
            "one that has <bos> and <eos>"
        )
    spec = found.spec(0, max_characters=width, bos_first=True)
    shapes = _shapes(config)
    theirs = nn.ParameterDict({name: torch.empty(shape) for name, shape in shapes.items()})
    weights.load(theirs, [Weight(name, (name,)) for name in shapes], _datasets(file), file)
    task = BidirectionalLM(config, spec)
    task.tokenizer = found
    ours = _ours(config, theirs.state_dict(), found)
    task.fresh = tuple(task.net.load_state_dict(ours, strict=False).missing_keys)
    return task


def _config(file: Path) -> tuple[ELMoConfig, int]:
    """Sizes, and characters of a token."""
    options = read_json(file)
    if setting(options, "bidirectional", bool, file, True) is False:
        raise InputError(f"{file}: bidirectional is false, where true is wanted")
    lstm, cnn = (
        _Options(setting(options, part, dict, file), file, part) for part in ("lstm", "char_cnn")
    )
    embedding = _Options(cnn.get("embedding", dict), file, "char_cnn.embedding")
    filters = cnn.get("filters", list)
    if not filters or not all(
        isinstance(pair, list) and len(pair) == 2 and all(type(n) is int and n > 0 for n in pair)
        for pair in filters
    ):
        raise cnn.refusal("filters", filters, "a list of [width, number]")
    activation, rows = cnn.get("activation", str), cnn.get("n_characters", int)
    if activation not in ("relu", "tanh"):
        raise cnn.refusal("activation", activation, "relu or tanh")
    # The second number counts a row for masked tokens, which no file has.
    if rows not in (_ROWS, _ROWS + 1):
        raise cnn.refusal("n_characters", rows, f"{_ROWS} or {_ROWS + 1}")
    layers = lstm.count("n_layers")
    skips = lstm.get("use_skip_connections", bool, False)
    if layers > 1 and not skips:
        raise lstm.refusal("use_skip_connections", skips, "true")
    width = cnn.count("max_characters_per_token")
    if width < (least := max(3, *(size for size, _ in filters))):
        raise cnn.refusal("max_characters_per_token", width, f"at least {least}")
    config = ELMoConfig(
        char_dim=embedding.count("dim"),
        filters=[(size, number) for size, number in filters],
        num_highway=cnn.count("n_highway", least=0),
        char_activation=activation,
        d_model=lstm.count("projection_dim"),
        d_cell=lstm.count("dim"),
        num_layers=layers,
        cell_clip=lstm.bound("cell_clip"),
        projection_clip=lstm.bound("proj_clip"),
    )
    return config, width


class _Options:
    """One object of the options, whose errors name it."""

    def __init__(self, values: Mapping[str, Any], file: Path, name: str) -> None:
        self._values, self._file, self._name = values, file, name

    def get(self, key: str, kind: type, default: Any = None) -> Any:
        return setting(self._values, key, kind, f"{self._file}: {self._name}", default)

    def count(self, key: str, least: int = 1) -> int:
        value: int = self.get(key, int)
        if value < least:
            raise self.refusal(key, value, f"at least {least}")
        return value

    def bound(self, key: str) -> float | None:
        """A bound on values; null is none. TensorFlow and AllenNLP differ about 0."""
        if self._values.get(key) is None:
            return None
        value: float = self.get(key, float)
        if value <= 0:
            raise self.refusal(key, value, "null (no bound) or more than 0")
        return value

    def refusal(self, key: str, value: object, wanted: str) -> InputError:
        shown = json.dumps(value)
        return InputError(f"{self._file}: {self._name}: {key} is {shown}, where {wanted} is wanted")


def _one(folder: Path, pattern: str) -> Path:
    files = sorted(folder.glob(pattern))
    if len(files) != 1:
        here = ", ".join(file.name for file in files) or "none"
        raise InputError(f"{folder}: one file {pattern} is wanted, here are {here}")
    return files[0]


def _words(folder: Path) -> Tokenizer:
    """A tokenizer of the folder's list of words."""
    file = _one(folder, "vocab*.txt")
    try:
        lines = file.read_text(encoding="utf-8").removesuffix("\n").split("\n")
    except ValueError as error:
        raise InputError(f"{file} cannot be read as UTF-8: {error}") from error
    first: dict[str, int] = {}
    for number, word in enumerate(lines, 1):
        if not word.strip():
            raise InputError(f"{file}, line {number}: empty, where a word is wanted")
        if first.setdefault(word, number) != number:
            raise InputError(f"{file}, line {number}: {word!r} again, as in line {first[word]}")
    if missing := [name for name in _THEIR_SPECIALS if name not in first]:
        raise InputError(f"{file}: {', '.join(missing)} missing, which AllenNLP's lists have")
    return Tokenizer.from_words(word for word in lines if word not in _THEIR_SPECIALS)


def _datasets(file: Path) -> dict[str, Tensor]:
    """All arrays of an HDF5 file, by their full names."""
    try:
        h5py: Any = importlib.import_module("h5py")
    except ImportError as error:
        raise InputError(f"{file}: reading HDF5 needs h5py: pip install lit_lm[elmo]") from error
    found: dict[str, Tensor] = {}

    def take(name: str, item: Any) -> None:
        if isinstance(item, h5py.Dataset):
            if item.dtype.kind not in "fiu":
                raise InputError(f"{file}: {name} holds {item.dtype}, where numbers are wanted")
            floating = item.dtype.kind == "f"
            found[name] = torch.from_numpy(
                np.asarray(item[()], dtype=np.float32 if floating else np.int64)
            )

    try:
        with h5py.File(file, "r") as stream:
            stream.visititems(take)
    except OSError as error:
        raise InputError(f"{file} cannot be read as HDF5: {error}") from error
    return found


def _cell(direction: int, layer: int) -> str:
    return f"RNN_{direction}/RNN/MultiRNNCell/Cell{layer}/LSTMCell"


def _shapes(c: ELMoConfig) -> dict[str, tuple[int, ...]]:
    """The datasets of a file."""
    size = sum(number for _, number in c.filters)
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (_ROWS, c.char_dim)}
    for k, (width, number) in enumerate(c.filters):
        shapes |= {f"CNN/W_cnn_{k}": (1, width, c.char_dim, number), f"CNN/b_cnn_{k}": (number,)}
    for k in range(c.num_highway):
        for part in ("carry", "transform"):
            shapes |= {f"CNN_high_{k}/W_{part}": (size, size), f"CNN_high_{k}/b_{part}": (size,)}
    shapes |= {"CNN_proj/W_proj": (size, c.d_model), "CNN_proj/b_proj": (c.d_model,)}
    for cell in (_cell(d, k) for d in range(2) for k in range(c.num_layers)):
        shapes |= {
            f"{cell}/W_0": (2 * c.d_model, 4 * c.d_cell),
            f"{cell}/B": (4 * c.d_cell,),
            f"{cell}/W_P_0": (c.d_cell, c.d_model),
        }
    return shapes


def _ours(c: ELMoConfig, w: Mapping[str, Tensor], tokenizer: Tokenizer) -> dict[str, Tensor]:
    """Our parameters of a file's datasets, those of the output layer left out."""
    new = {
        "tokens.embedding.weight": _characters(w["char_embed"], tokenizer),
        "tokens.projection.weight": w["CNN_proj/W_proj"].t(),
        "tokens.projection.bias": w["CNN_proj/b_proj"],
    }
    for k in range(len(c.filters)):
        new[f"tokens.convolutions.{k}.weight"] = w[f"CNN/W_cnn_{k}"].squeeze(0).permute(2, 1, 0)
        new[f"tokens.convolutions.{k}.bias"] = w[f"CNN/b_cnn_{k}"]
    for k in range(c.num_highway):
        # Their gate opens for what is new, ours for what is carried on: sigmoid(-x) is 1 - sigmoid(x).
        for part, kind in (("weight", "W"), ("bias", "b")):
            both = (w[f"CNN_high_{k}/{kind}_transform"].t(), -w[f"CNN_high_{k}/{kind}_carry"].t())
            new[f"tokens.highways.{k}.{part}"] = torch.cat(both)
    for k in range(c.num_layers):
        for d in range(2):
            cell, ours = _cell(d, k), f"layers.{k}"
            inputs, recurrent = torch.split(w[f"{cell}/W_0"].t(), c.d_model, dim=1)
            bias = _gates(w[f"{cell}/B"]).clone()
            bias[c.d_cell : 2 * c.d_cell] += 1.0  # TensorFlow adds it to the forget gate as it runs
            new[f"{ours}.inputs.{d}.weight"] = _gates(inputs)
            new[f"{ours}.inputs.{d}.bias"] = bias
            new[f"{ours}.recurrent.{d}.weight"] = _gates(recurrent)
            new[f"{ours}.projections.{d}.weight"] = w[f"{cell}/W_P_0"].t()
    return new


def _gates(rows: Tensor) -> Tensor:
    """Gates in, new, forget, out in our order: in, forget, new, out."""
    i, g, f, o = rows.chunk(4)
    return torch.cat((i, f, g, o))


def _characters(char_embed: Tensor, tokenizer: Tokenizer) -> Tensor:
    """Vectors in the order of `Tokenizer.characters`. Special tokens that AllenNLP lacks look like padding."""
    rows = torch.full((NUM_CHARACTERS,), _PADDING)
    rows[1:257] = torch.arange(256)
    rows[257], rows[258] = _BEGIN, _END
    special = tokenizer.special_ids
    rows[259 + special.index(tokenizer.bos_id)] = _BOS
    rows[259 + special.index(tokenizer.eos_id)] = _EOS
    return char_embed[rows]
