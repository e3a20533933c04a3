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
from lit_lm.models.base import CausalArchitecture, Seq2SeqArchitecture
from lit_lm.models.decoder_only import DecoderOnly, DecoderOnlyConfig
from lit_lm.startup import located
from lit_lm.tasks import Task

_SHOWN = 6
_POSITIONS = "positions.table.weight"


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


def as_translator(origin: Origin) -> Origin:
    """The same with a network that goes from a source to a target: a causal one is given sources as prefixes (Khandelwal et al.
    2019, https://arxiv.org/abs/1905.08836).

    Raises:
        InputError: it is of a kind that writes nothing, such as BERT.
    """
    kind = located(origin.net["class_path"])
    if issubclass(kind, Seq2SeqArchitecture):
        return origin
    if not issubclass(kind, CausalArchitecture):
        raise InputError(
            f"{origin.path} holds a network of {kind.__name__}, which writes no text: translation and summarisation start from a "
            "translator, or from a causal language model such as GPT"
        )
    path = f"{DecoderOnlyConfig.__module__}.{DecoderOnlyConfig.__name__}"
    return origin._replace(net={"class_path": path, "init_args": {"net": origin.net}})


def check_positions(origin: Origin, net: dict[str, Any], longest: int) -> None:
    """Checks that a decoder alone has positions for sources and targets.

    Args:
        origin: where it is from.
        net: what became of its architecture by the flags, in plain form.
        longest: most tokens of a side.

    Raises:
        InputError: a source and a target of ``longest`` tokens do not fit into its learned positions.
    """
    sizes = net["init_args"].get("net", {}).get("init_args", {})
    learned = sizes.get("max_length") if sizes.get("positions") == "learned" else None
    if learned is not None and learned < 2 * longest:
        raise InputError(
            f"{origin.path} has learned {learned} positions, and a source and a target of data.init_args.max_length={longest} "
            f"tokens take {2 * longest}: give --data.init_args.max_length={learned // 2}; or, where the YAML's network is a "
            f"DecoderOnlyConfig, --model.init_args.net.init_args.net.init_args.max_length={2 * longest}, whose further positions "
            "are trained from nothing"
        )


class WarmStart(Callback):
    """Gives a network the weights of another before training. A checkpoint that training goes on from is restored after that,
    and counts.

    Parameters of one name must have one shape, but for tables of tokens that have rows behind the vocabulary, and tables of
    positions that are longer here. A causal network is taken over into a :class:`~lit_lm.models.DecoderOnlyConfig` of it. A head
    with a hidden layer takes over a pre-trained pooler of its size (Devlin et al. 2019, section 4.1).

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
    if isinstance(task.net, DecoderOnly) and not theirs.keys() & ours.keys():
        theirs = {f"net.{name}": tensor for name, tensor in theirs.items()}
    found = {name: theirs.pop(name) for name in list(theirs) if name in ours}
    if not found:
        raise InputError(
            f"{path} has no weight of this {type(task.net).__name__}, such as {next(iter(ours))}; it has "
            f"{_named(theirs)}"
        )
    size = task.hparams["spec"]["vocab_size"]
    further = ""
    for name, tensor in found.items():
        wanted = ours[name].shape
        same_rows = tensor.dim() > 1 and tensor.shape[1:] == wanted[1:]
        if same_rows and len(tensor) > wanted[0] == size:
            found[name] = tensor[:size]
        elif same_rows and name.endswith(_POSITIONS) and len(tensor) < wanted[0]:
            found[name] = torch.cat((tensor, ours[name][len(tensor) :].to(tensor)))
            further = f", and {wanted[0] - len(tensor)} positions behind the {len(tensor)} it has"
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
        f"Warm start from {path}: {len(found)} of the network's {len(ours)} tensors. New here: {_named(new)}{further}. "
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
