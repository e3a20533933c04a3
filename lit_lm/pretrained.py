"""An encoder that others have trained: its architecture, its tokenizer and its weights, by one setting."""

from __future__ import annotations

from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import torch
from lightning.pytorch import Callback, LightningModule, Trainer
from lightning.pytorch.utilities import rank_zero_info
from torch import Tensor, nn

from lit_lm import checkpoints, interop
from lit_lm.errors import InputError
from lit_lm.tasks import Task

_SHOWN = 6


@dataclass(frozen=True)
class Pretrained:
    """Where training starts.

    Args:
        path: a checkpoint, or a folder of weights that ``lit-lm import`` reads: the architecture with its sizes and the
            tokenizer are taken from there, whatever else is configured; flags such as
            ``--model.init_args.net.init_args.dropout=0.1`` still change the architecture. None to start from nothing.
        weights: take the weights too; otherwise they are fresh, to see what the others are worth.
    """

    path: str | None = None
    weights: bool = True


class Origin(NamedTuple):
    """What a checkpoint or a folder says about its network.

    Args:
        path: where it is; a tokenizer is loaded from there too.
        net: the architecture in plain form, with as many positions as it has weights for.
        spec: what it knew of its data.
    """

    path: str
    net: dict[str, Any]
    spec: dict[str, Any]

    @property
    def positions(self) -> int | None:
        """Most tokens of a row; None for no bound."""
        sizes = self.net["init_args"]
        return sizes.get("max_length") if sizes.get("positions") == "learned" else None


def origin(path: str) -> Origin:
    """What a checkpoint or a folder says; its tensors are left there where possible.

    Raises:
        InputError: it is not there, or is neither.
    """
    if Path(path).expanduser().is_dir():
        return of_hparams(path, dict(interop.read(path).hparams))
    return of_hparams(path, checkpoints.load(path, lazily=True).get("hyper_parameters", {}))


def of_hparams(path: str, hparams: dict[str, Any]) -> Origin:
    """As :func:`origin`, of a task's arguments."""
    net, spec = hparams.get("net"), hparams.get("spec")
    if not isinstance(net, dict) or not isinstance(spec, dict) or "init_args" not in net:
        raise InputError(
            f"{path} does not say what network it holds: it is no checkpoint of lit_lm"
        )
    sizes = dict(net["init_args"])
    if sizes.get("max_length", 0) is None:
        sizes["max_length"] = max(spec["max_length"], spec.get("max_target_length", 0)) or None
    return Origin(path, {**net, "init_args": sizes}, spec)


class WarmStart(Callback):
    """Gives a network the weights of another before training. A checkpoint that training goes on from is restored after that,
    and counts.

    Parameters of one name must have one shape, but for tables of tokens that have rows behind the vocabulary. A head with a
    hidden layer takes over a pre-trained pooler of its size (Devlin et al. 2019, section 4.1).

    Args:
        path: a checkpoint, or a folder of weights that ``lit-lm import`` reads.
    """

    def __init__(self, path: str) -> None:
        self.path = path

    def setup(self, trainer: Trainer, pl_module: LightningModule, stage: str) -> None:
        """Loads the weights, and says which."""
        if stage == "fit":
            assert isinstance(pl_module, Task)
            rank_zero_info(load(pl_module, self.path))


def load(task: Task, path: str) -> str:
    """Gives a task's network the weights of a checkpoint or a folder.

    Returns:
        What was loaded, what is new, and what was left, in a sentence.

    Raises:
        InputError: a shape differs, or nothing fits.
    """
    theirs = _weights(path)
    ours = dict(task.net.state_dict())
    found = {name: theirs.pop(name) for name in list(theirs) if name in ours}
    if not found:
        raise InputError(
            f"{path} has no weight of this {type(task.net).__name__}, such as {next(iter(ours))}; it has "
            f"{_named(theirs)}"
        )
    size = task.hparams["spec"]["vocab_size"]
    for name, tensor in found.items():
        wanted = ours[name].shape
        same_rows = tensor.dim() > 1 and tensor.shape[1:] == wanted[1:]
        if same_rows and len(tensor) > wanted[0] == size:
            found[name] = tensor[:size]
        elif tensor.shape != wanted:
            raise InputError(
                f"{path}: {name} is {tuple(tensor.shape)} there and {tuple(wanted)} here: give the sizes and the "
                "tokenizer that it was trained with (pretrained.path does)"
            )
    task.net.load_state_dict(found, strict=False)
    dense: Any = getattr(getattr(task, "head", None), "dense", None)
    pooler = theirs.get("pooler.weight")
    if isinstance(dense, nn.Linear) and pooler is not None and pooler.shape == dense.weight.shape:
        dense.load_state_dict({k: theirs.pop(f"pooler.{k}") for k in ("weight", "bias")})
    trained = {f"net.{name}" for name in found}
    new = [name for name, _ in task.named_parameters() if name not in trained]
    return (
        f"Warm start from {path}: {len(found)} of the network's {len(ours)} tensors. New here: {_named(new)}. "
        f"Left there: {_named(theirs)}."
    )


def _weights(path: str) -> dict[str, Tensor]:
    """The network's weights by name."""
    if Path(path).expanduser().is_dir():
        return {
            name: tensor.clone() for name, tensor in interop.read(path).net.state_dict().items()
        }
    state: dict[str, Any] = checkpoints.load(path)["state_dict"]
    return {
        name.removeprefix("net."): tensor
        for name, tensor in state.items()
        if name.startswith("net.") and isinstance(tensor, torch.Tensor)
    }


def _named(names: Any) -> str:
    listed = list(names)
    more = f" and {len(listed) - _SHOWN} more" if len(listed) > _SHOWN else ""
    return ", ".join(listed[:_SHOWN]) + more if listed else "nothing"
