"""Weights from elsewhere and for elsewhere: one module for each layout, all over :mod:`lit_lm.interop.weights`.

Each module has ``read(folder, tokenizer)``, which gives a task, and where it makes sense ``write(task, folder)``.
Files hold tensors and JSON only: nothing that is read here can run code.
"""

from __future__ import annotations

import importlib
from collections.abc import Callable
from pathlib import Path
from typing import Any

import lightning
import torch

from lit_lm.data import Tokenizer
from lit_lm.errors import InputError
from lit_lm.interop.weights import CONFIG, read_json
from lit_lm.tasks import Task

# By `model_type` in config.json; the module that reads and writes the layout.
_BY_MODEL_TYPE = {"bert": "bert", "gpt2": "gpt2", "torch.nn.Transformer": "torch_transformer"}
# By class of network: the layout that it is written in unless another is asked for.
_BY_NETWORK = {"BERT": "bert", "GPT": "gpt2", "Transformer": "torch_transformer"}
LAYOUTS = ("bert", "gpt2", "torch_transformer", "ctranslate2")
OWN_TOKENIZER = "lit_lm_tokenizer.json"


def read(folder: str | Path, tokenizer: str | Path | None = None) -> Task:
    """A task with the weights and the tokenizer of a folder: Hugging Face's BERT and GPT-2,
    ``torch.nn.Transformer`` (``config.json`` and safetensors), AllenNLP's ELMo (``options.json`` and HDF5).

    Args:
        folder: where the files are.
        tokenizer: a file or folder that ``Tokenizer.load`` reads; None for the folder's own.

    Raises:
        InputError: no such layout is known, or the files do not fit each other; nothing is changed.
    """
    folder = Path(folder).expanduser()
    if not folder.is_dir():
        raise InputError(
            f"no folder {str(folder)!r}: give the one that holds {CONFIG} and the weights"
        )
    if (folder / "options.json").is_file():
        name = "allennlp_elmo"
    else:
        kind = read_json(folder / CONFIG).get("model_type")
        if not isinstance(kind, str) or kind not in _BY_MODEL_TYPE:
            raise InputError(
                f"{folder / CONFIG}: model_type is {kind!r}; {', '.join(_BY_MODEL_TYPE)} can be read"
            )
        name = _BY_MODEL_TYPE[kind]
    task: Task = _layout(name).read(folder, _tokenizer(folder, tokenizer))
    return task.eval()


def write(task: Task, folder: str | Path, layout: str | None = None) -> str:
    """Writes a task's weights, configuration and tokenizer into a folder for other programs.

    Args:
        task: the task.
        folder: it is made; must not hold anything yet, so that no file of another export stays in it.
        layout: one of `LAYOUTS`; None for the architecture's own.

    Returns:
        The layout's name.

    Raises:
        InputError: the layout cannot express the network, or the folder is not empty; nothing is written.
    """
    kind = type(task.net).__name__
    if layout is None and kind not in _BY_NETWORK:
        raise InputError(f"{kind} has no layout to be written in; {', '.join(_BY_NETWORK)} have")
    name = layout or _BY_NETWORK[kind]
    if name not in LAYOUTS:
        raise InputError(f"no layout {name!r}: choose one of {', '.join(LAYOUTS)}")
    folder = Path(folder).expanduser()
    if folder.exists() and not (folder.is_dir() and not any(folder.iterdir())):
        raise InputError(f"{folder} is there already: name a folder that is new or empty")
    tokenizer = task.require_tokenizer()
    _layout(name).write(task, folder)
    tokenizer.save(folder / OWN_TOKENIZER)
    if tokenizer.has_library_form:
        tokenizer.export(folder / "tokenizer.json")
    return name


def save_checkpoint(task: Task, path: str | Path) -> None:
    """Writes a checkpoint like that of ``lit-lm fit``, without an optimizer's state."""
    checkpoint: dict[str, Any] = {
        "epoch": 0,
        "global_step": 0,
        "pytorch-lightning_version": lightning.__version__,
        "state_dict": task.state_dict(),
        "hparams_name": None,
        "hyper_parameters": dict(task.hparams),
    }
    task.on_save_checkpoint(checkpoint)
    path = Path(path).expanduser()
    path.parent.mkdir(parents=True, exist_ok=True)
    part = path.with_name(path.name + ".part")
    torch.save(checkpoint, part)
    part.replace(path)


def _layout(name: str) -> Any:
    return importlib.import_module(f"lit_lm.interop.{name}")


def _tokenizer(folder: Path, path: str | Path | None) -> Callable[..., Tokenizer]:
    """Loads the tokenizer when a layout asks for it. A layout may say how its folder's own is read, for
    when no other is given.
    """
    own = folder / OWN_TOKENIZER
    given = path or (own if own.is_file() else None)

    def load(read: Callable[[Path], Tokenizer] = Tokenizer.load) -> Tokenizer:
        return read(folder) if given is None else Tokenizer.load(given)

    return load
