"""A tiny ELMo in AllenNLP's layout, and what it computes, in numpy straight from the files."""

from __future__ import annotations

import copy
import json
from pathlib import Path
from typing import Any

import h5py
import numpy as np

OPTIONS: dict[str, Any] = {
    "lstm": {
        "dim": 7,
        "projection_dim": 5,
        "n_layers": 3,
        "cell_clip": 0.6,
        "proj_clip": 0.4,
        "use_skip_connections": True,
    },
    "char_cnn": {
        "embedding": {"dim": 3},
        "filters": [[1, 4], [2, 3], [4, 6]],
        "n_highway": 2,
        "n_characters": 262,
        "max_characters_per_token": 9,
        "activation": "tanh",
    },
}
WORDS = ["the", "cat", "sat", "."]


def options(**changes: Any) -> dict[str, Any]:
    """`OPTIONS` with other values; ``lstm_dim=3`` is `dim` of `lstm`."""
    out = copy.deepcopy(OPTIONS)
    for key, value in changes.items():
        part, _, name = key.partition("__")
        if name:
            out[part][name] = value
        else:
            out[part] = value
    return out


def arrays(options: dict[str, Any], seed: int = 0) -> dict[str, np.ndarray]:
    """Random weights of every dataset, biases too."""
    lstm, cnn = options["lstm"], options["char_cnn"]
    size, d, c = sum(n for _, n in cnn["filters"]), lstm["projection_dim"], lstm["dim"]
    shapes: dict[str, tuple[int, ...]] = {"char_embed": (261, cnn["embedding"]["dim"])}
    for k, (width, number) in enumerate(cnn["filters"]):
        shapes |= {f"CNN/W_cnn_{k}": (1, width, cnn["embedding"]["dim"], number), f"CNN/b_cnn_{k}": (number,)}  # fmt: skip
    for k in range(cnn["n_highway"]):
        for gate in ("carry", "transform"):
            shapes |= {
                f"CNN_high_{k}/W_{gate}": (size, size),
                f"CNN_high_{k}/b_{gate}": (size,),
            }
    shapes |= {"CNN_proj/W_proj": (size, d), "CNN_proj/b_proj": (d,)}
    for r in range(2):
        for k in range(lstm["n_layers"]):
            cell = f"RNN_{r}/RNN/MultiRNNCell/Cell{k}/LSTMCell"
            shapes |= {f"{cell}/W_0": (2 * d, 4 * c), f"{cell}/B": (4 * c,), f"{cell}/W_P_0": (c, d)}  # fmt: skip
    rng = np.random.default_rng(seed)
    return {name: rng.normal(0, 0.6, shape).astype(np.float32) for name, shape in shapes.items()}


def write(
    folder: Path, options: dict[str, Any] = OPTIONS, weights: dict[str, np.ndarray] | None = None
) -> Path:
    """options.json, weights and vocabulary in a folder."""
    folder.mkdir(parents=True, exist_ok=True)
    (folder / "options.json").write_text(json.dumps(options))
    with h5py.File(folder / "tiny_weights.hdf5", "w") as file:
        for name, array in (arrays(options) if weights is None else weights).items():
            file[name] = array
    (folder / "vocab.txt").write_text("\n".join(["<S>", "</S>", "<UNK>", *WORDS]) + "\n")
    return folder


class Reference:
    """The whole computation in float64, from the published formulas, one word and one step at a time.

    Characters: Peters et al. 2018, section 3.4; LSTM with projection: Sak et al. 2014, gates in
    TensorFlow's order i, j, f, o with a forget bias of 1. Both directions keep their state from text
    to text.
    """

    def __init__(self, folder: Path) -> None:
        self.options = json.loads((folder / "options.json").read_text())
        (path,) = folder.glob("*weights.hdf5")
        with h5py.File(path, "r") as file:
            self.w: dict[str, np.ndarray] = {}
            file.visititems(
                lambda name, node: (
                    self.w.update({name: np.array(node, dtype=np.float64)})
                    if isinstance(node, h5py.Dataset)
                    else None
                )
            )
        lstm = self.options["lstm"]
        self.state = {
            (r, k): (np.zeros(lstm["projection_dim"]), np.zeros(lstm["dim"]))
            for r in range(2)
            for k in range(lstm["n_layers"])
        }

    def read(self, words: list[str]) -> np.ndarray:
        """(layers + 1, 2, tokens, width): the tokens' own vectors and every layer, without the ends."""
        inside = [[256], *(list(word.encode()) for word in words), [257]]
        tokens = np.stack([self._token(one) for one in inside])
        out = [np.stack([tokens, tokens])]
        sides = [self._run(0, tokens), [x[::-1] for x in self._run(1, tokens[::-1])]]
        out += [np.stack(both) for both in zip(*sides, strict=True)]
        return np.stack(out)[:, :, 1:-1]

    def _token(self, inside: list[int]) -> np.ndarray:
        cnn = self.options["char_cnn"]
        width = cnn["max_characters_per_token"]
        ids = [258, *inside[: width - 2], 259]
        x = self.w["char_embed"][ids + [260] * (width - len(ids))]
        act = np.tanh if cnn["activation"] == "tanh" else relu
        parts = []
        for k, (w, _) in enumerate(cnn["filters"]):
            kernel, bias = self.w[f"CNN/W_cnn_{k}"][0], self.w[f"CNN/b_cnn_{k}"]
            at = [np.einsum("wd,wdn->n", x[i : i + w], kernel) + bias for i in range(width - w + 1)]
            parts.append(act(np.max(at, axis=0)))
        h = np.concatenate(parts)
        for k in range(cnn["n_highway"]):
            new, let_in = (
                h @ self.w[f"CNN_high_{k}/W_{g}"] + self.w[f"CNN_high_{k}/b_{g}"]
                for g in ("transform", "carry")
            )
            share = sigmoid(let_in)
            h = share * relu(new) + (1 - share) * h
        return h @ self.w["CNN_proj/W_proj"] + self.w["CNN_proj/b_proj"]

    def _run(self, r: int, x: np.ndarray) -> list[np.ndarray]:
        lstm = self.options["lstm"]
        layers = []
        for k in range(lstm["n_layers"]):
            cell = f"RNN_{r}/RNN/MultiRNNCell/Cell{k}/LSTMCell"
            h, c = self.state[r, k]
            steps = []
            for row in x:
                z = np.concatenate([row, h]) @ self.w[f"{cell}/W_0"] + self.w[f"{cell}/B"]
                i, j, f, o = np.split(z, 4)
                c = sigmoid(f + 1) * c + sigmoid(i) * np.tanh(j)
                c = clip(c, lstm["cell_clip"])
                h = (sigmoid(o) * np.tanh(c)) @ self.w[f"{cell}/W_P_0"]
                h = clip(h, lstm["proj_clip"])
                steps.append(h)
            self.state[r, k] = (h, c)
            x = np.stack(steps) if k == 0 else np.stack(steps) + x
            layers.append(x)
        return layers


def relu(x: np.ndarray) -> np.ndarray:
    return np.maximum(x, 0)


def sigmoid(x: np.ndarray) -> np.ndarray:
    return 1 / (1 + np.exp(-x))


def clip(x: np.ndarray, most: float | None) -> np.ndarray:
    return x if most is None else np.clip(x, -most, most)
