"""Weights that no process holds whole (FSDP2: Zhao et al. 2023, https://arxiv.org/abs/2304.11277): all of torch's
``fully_shard`` that the suite knows. Whoever asks here works with sharded and with whole weights alike.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from typing import Any

import torch
from torch import Tensor, nn
from torch.distributed.fsdp import FSDPModule, fully_shard, register_fsdp_forward_method
from torch.distributed.tensor import DTensor, distribute_tensor


def shard(module: nn.Module, layers: Iterable[nn.Module], mesh: Any, forward: str) -> None:
    """Shards weights over the processes of a mesh, in place: those of each layer together, and all others together.

    A layer's are brought together while it is computed. All others are there for as long as ``forward`` runs, and
    until its gradients are computed.

    Args:
        module: what is trained.
        layers: parts of it that are called one after the other.
        mesh: the processes.
        forward: name of the method that computes the loss.
    """
    parts: list[Any] = [fully_shard(layer, mesh=mesh) for layer in layers]
    root: Any = fully_shard(module, mesh=mesh, reshard_after_forward=False)
    register_fsdp_forward_method(module, forward)
    # What to fetch next is said, not remembered of forward passes: of those in evaluation processes have unequal numbers.
    for part, before in zip([*parts, root], [root, *parts], strict=True):
        part.set_modules_to_backward_prefetch([before])


def is_sharded(module: nn.Module) -> bool:
    """Whether :func:`shard` was called on it."""
    return isinstance(module, FSDPModule)


def gather(module: nn.Module) -> None:
    """Brings all weights together on every process, until :func:`scatter`: from here on a process can evaluate on its own,
    and how often is its own affair. Nothing happens to whole weights.
    """
    if not isinstance(module, FSDPModule):
        return
    module.set_reshard_after_forward(False)
    with torch.inference_mode(False):  # what is gathered now is used in training, too
        for part in _parts(module):
            part.unshard()


def scatter(module: nn.Module) -> None:
    """Undoes :func:`gather`."""
    if not isinstance(module, FSDPModule):
        return
    for part in _parts(module):
        part.reshard()
        part.set_reshard_after_forward(part is not module, recurse=False)


@contextmanager
def whole(module: nn.Module) -> Iterator[None]:
    """Weights are whole inside. Every process has to enter, whatever it does there."""
    gather(module)
    try:
        yield
    finally:
        scatter(module)


def _parts(module: nn.Module) -> list[Any]:
    return [part for part in module.modules() if isinstance(part, FSDPModule)]


def local(tensor: Tensor) -> Tensor:
    """What this process holds of a tensor; it shares its memory."""
    return tensor.to_local() if isinstance(tensor, DTensor) else tensor


def like(parameter: Tensor, part: Tensor) -> Tensor:
    """What :func:`local` gave of a tensor that is sharded as ``parameter`` is, as that tensor."""
    part = part.to(local(parameter))
    if not isinstance(parameter, DTensor):
        return part
    return DTensor.from_local(
        part,
        parameter.device_mesh,
        parameter.placements,
        run_check=False,
        shape=parameter.size(),
        stride=parameter.stride(),
    )


def shared_out(whole: Tensor, parameter: Tensor) -> Tensor:
    """A tensor that every process has whole, sharded as ``parameter`` is; whole if that is, or if it has another shape."""
    if not isinstance(parameter, DTensor) or whole.shape != parameter.shape:
        return whole
    device = parameter.device_mesh.device_type
    out: Tensor = distribute_tensor(
        whole.to(device), parameter.device_mesh, parameter.placements, src_data_rank=None
    )
    return out


def total_norm(tensors: Sequence[Tensor]) -> Tensor:
    """The 2-norm of tensors together, over all processes, float ()."""
    norm = torch.nn.utils.get_total_norm(tensors)
    return norm.full_tensor() if isinstance(norm, DTensor) else norm


def clip(tensors: Iterable[Tensor], most: float, norm: Tensor) -> None:
    """Scales tensors so that their norm, which is ``norm`` now, is at most ``most``: as torch's ``clip_grads_with_norm_``."""
    parts = [local(tensor) for tensor in tensors]
    if parts:
        torch._foreach_mul_(parts, (most / (norm + 1e-6)).clamp(max=1.0))


def finite(tensors: Sequence[Tensor], reduce: Any) -> list[bool]:
    """Whether all numbers of each tensor are finite, the same answer on every process.

    Args:
        tensors: as many on every process.
        reduce: sums a tensor over processes.
    """
    if not tensors:
        return []
    bad = torch.stack([(~local(t).isfinite()).any() for t in tensors]).to(torch.int32)
    if any(isinstance(t, DTensor) for t in tensors):
        bad = reduce(bad)
    return [not x for x in bad.tolist()]
