"""What a training step keeps in memory, found by running one on tensors without content.

No formula for any architecture: forward pass, loss and optimizer step are those that training makes, and every tensor
that outlives the forward pass is counted.
"""

from __future__ import annotations

import contextlib
import dataclasses
import gc
import warnings
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from typing import Any, Literal, NamedTuple

import torch
from torch import Tensor, nn
from torch._subclasses.fake_tensor import (
    DataDependentOutputException,
    DynamicOutputShapeException,
    FakeTensorMode,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)
from torch.multiprocessing.reductions import StorageWeakRef
from torch.utils._python_dispatch import TorchDispatchMode
from torch.utils._pytree import tree_leaves

from lit_lm.losses import as_on_gpu
from lit_lm.models.base import Network
from lit_lm.nn.attention import MultiHeadAttention

Precision = Literal["32-true", "16-mixed", "bf16-mixed", "bf16-true"]
PRECISIONS: tuple[Precision, ...] = ("32-true", "16-mixed", "bf16-mixed", "bf16-true")

_NEEDS_CONTENT = (
    DataDependentOutputException,
    DynamicOutputShapeException,
    UnsupportedFakeTensorException,
    UnsupportedOperatorException,
)


class Work(NamedTuple):
    """A step of training, ready to be taken.

    Args:
        module: what is trained, in training mode.
        network: the network in it.
        loss: the forward pass over a batch, with the batch itself: the loss to differentiate.
        optimizer: makes the optimizer over ``module``.
    """

    module: nn.Module
    network: Network
    loss: Callable[[], Tensor]
    optimizer: Callable[[nn.Module], torch.optim.Optimizer]


@dataclass(frozen=True)
class Footprint:
    """Bytes that a training step holds on one device.

    Args:
        weights: parameters.
        gradients: one for each number that learns.
        optimizer: the state that the optimizer makes in its first step.
        copies: autocast's copies of weights in half precision.
        activations: what else the network keeps for the backward pass, the batch included.
        logits: what the output layer and the loss keep for it; for a loss that takes its gradients in the forward pass
            these are the gradients.
        stretch: what the loss holds besides at its peak: the logits that are made at a time.
        inside: of the activations, what layers keep inside; their inputs are not among it.
        largest: what the layer that keeps most makes and keeps.
        content: the step was run with content, because an operation asks for it.
    """

    weights: int = 0
    gradients: int = 0
    optimizer: int = 0
    copies: int = 0
    activations: int = 0
    logits: int = 0
    stretch: int = 0
    inside: int = 0
    largest: int = 0
    content: bool = False

    @property
    def kept(self) -> int:
        """What the forward pass keeps for the backward pass."""
        return self.copies + self.activations + self.logits

    @property
    def checkpointed(self) -> int:
        """Activations with activation checkpointing: layers keep their inputs only, and one of them at a time is
        computed again with all that it keeps.
        """
        return self.activations - self.inside + self.largest if self.inside else self.activations

    def drawn_out(self, other: Footprint, times: float) -> Footprint:
        """This one with the difference to another so many times on top."""

        def drawn(name: str) -> int:
            a, b = float(getattr(self, name)), float(getattr(other, name))
            return round(a + times * (b - a))

        names = [f.name for f in dataclasses.fields(self) if f.name != "content"]
        return Footprint(
            **{name: drawn(name) for name in names}, content=self.content or other.content
        )


def measure(
    make: Callable[[], Work], precision: Precision = "32-true", *, gpu: bool = True
) -> Footprint:
    """Takes one step of training without content; with content if an operation asks for it.

    Args:
        make: makes the step. Called where tensors have no content, it allocates nothing.
        precision: as Lightning's Trainer takes it.
        gpu: attention and loss as on a GPU: fused attention keeps no weights, and more logits are made at a time.
    """
    try:
        with FakeTensorMode(), _plain_kernels():
            return _measure(make, precision, gpu)
    except _NEEDS_CONTENT:
        pass
    return dataclasses.replace(_measure(make, precision, gpu), content=True)


_AROUND, _COPY, _LOSS = "around layers", "copy", "loss"


class _Watch(TorchDispatchMode):  # type: ignore[no-untyped-call]
    """Notes for every tensor that is made where it was made.

    Attributes:
        place: the number of the layer that runs, or where it is otherwise.
        peak: the most that the loss held at once.
    """

    def __init__(self, weights: set[int]) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.place: int | str = _AROUND
        self.peak = 0
        self._weights = weights
        self._made: dict[int, tuple[StorageWeakRef, int, int | str]] = {}

    def __torch_dispatch__(
        self, func: Any, types: Any, args: tuple[Any, ...] = (), kwargs: Any = None
    ) -> Any:
        out = func(*args, **(kwargs or {}))
        for tensor in tree_leaves(out):
            if isinstance(tensor, Tensor):
                self._note(tensor, func, args)
        return out

    def _note(self, tensor: Tensor, func: Any, args: tuple[Any, ...]) -> None:
        ref = _ref(tensor)
        if ref.cdata in self._made or ref.cdata in self._weights:
            return
        casts = func is torch.ops.aten._to_copy.default
        place = _COPY if casts and _ref(args[0]).cdata in self._weights else self.place
        self._made[ref.cdata] = ref, tensor.untyped_storage().nbytes(), place
        if self.place == _LOSS:
            self.peak = max(self.peak, sum(n for n, p in self.alive().values() if p == _LOSS))

    def alive(self) -> dict[int, tuple[int, int | str]]:
        """Bytes and place of each of the tensors that still exist."""
        self._made = {k: v for k, v in self._made.items() if not v[0].expired()}  # type: ignore[no-untyped-call]
        return {k: (nbytes, place) for k, (_, nbytes, place) in self._made.items()}


def _ref(tensor: Tensor) -> StorageWeakRef:
    return StorageWeakRef(tensor.untyped_storage())  # type: ignore[no-untyped-call]


def _measure(make: Callable[[], Work], precision: Precision, gpu: bool) -> Footprint:
    half = {"32": torch.float32, "16": torch.float16}.get(precision[:2], torch.bfloat16)
    with contextlib.ExitStack() as stack:
        if precision == "bf16-true":
            stack.enter_context(_default(half))
        if gpu:
            stack.enter_context(as_on_gpu())
        work = make()
        for module in work.network.modules() if gpu else ():
            if isinstance(module, MultiHeadAttention):
                module.dropout = 0.0
        stack.enter_context(torch.autocast("cpu", half, enabled=precision.endswith("mixed")))
        forward = _forward(work)
    learning = [p for p in work.module.parameters() if p.requires_grad]
    for parameter in learning:
        parameter.grad = torch.empty_like(parameter)
    optimizer = work.optimizer(work.module)
    optimizer.step()
    return dataclasses.replace(
        forward,
        weights=_bytes(work.module.parameters()),
        gradients=_bytes(p.grad for p in learning),
        optimizer=_bytes(tree_leaves(optimizer.state_dict())),
    )


def _forward(work: Work) -> Footprint:
    """What the forward pass leaves behind."""
    weights = {_ref(x).cdata for x in (*work.module.parameters(), *work.module.buffers())}
    watch = _Watch(weights)
    inputs: dict[int, tuple[StorageWeakRef, int]] = {}
    with _placed(work, watch, inputs), watch:
        loss = work.loss()
    gc.collect(1)
    alive = watch.alive()
    sums: dict[int | str, int] = {}
    inside = 0
    for key, (nbytes, place) in alive.items():
        sums[place] = sums.get(place, 0) + nbytes
        inside += nbytes if isinstance(place, int) and key not in inputs else 0
    # An input that nobody else keeps is kept by checkpointing.
    inside -= sum(n for key, (_, n) in inputs.items() if key not in alive | dict.fromkeys(weights))
    in_layers = {place: n for place, n in sums.items() if isinstance(place, int)}
    logits = sums.get(_LOSS, 0)
    del loss
    return Footprint(
        copies=sums.get(_COPY, 0),
        activations=sum(in_layers.values()) + sums.get(_AROUND, 0),
        logits=logits,
        stretch=max(0, watch.peak - logits),
        inside=inside,
        largest=max(in_layers.values(), default=0),
    )


@contextlib.contextmanager
def _placed(
    work: Work, watch: _Watch, inputs: dict[int, tuple[StorageWeakRef, int]]
) -> Iterator[None]:
    """Inside, a watch knows where it is, and what goes into layers is noted."""

    def enter(place: int | str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, kwargs: Any) -> None:
            for x in tree_leaves((args, kwargs)) if isinstance(place, int) else ():
                if isinstance(x, Tensor) and x.requires_grad:
                    ref = _ref(x)
                    inputs[ref.cdata] = ref, x.untyped_storage().nbytes()
            watch.place = place

        return hook

    def leave(place: int | str) -> Callable[..., None]:
        def hook(module: nn.Module, args: Any, out: Any) -> None:
            watch.place = place

        return hook

    network = work.network
    heads = [m for m in (getattr(o, "head", None) for o in (network, work.module)) if m is not None]
    handles = [network.register_forward_hook(leave(_LOSS))]
    handles += [m.register_forward_pre_hook(enter(_LOSS), with_kwargs=True) for m in heads]
    for i, layer in enumerate(network.stacked()):
        handles.append(layer.register_forward_pre_hook(enter(i), with_kwargs=True))
        handles.append(layer.register_forward_hook(leave(_AROUND)))
    try:
        yield
    finally:
        for handle in handles:
            handle.remove()


@contextlib.contextmanager
def _plain_kernels() -> Iterator[None]:
    """Inside, recurrent nets of full rows are computed step by step, as those of rows of unlike lengths are; and tensors
    without content are copied without a warning.
    """
    before = torch._C._get_mkldnn_enabled()
    torch._C._set_mkldnn_enabled(False)
    try:
        with warnings.catch_warnings():  # copies of metrics' sums look where they lie
            warnings.filterwarnings("ignore", "Accessing the data pointer of FakeTensor")
            yield
    finally:
        torch._C._set_mkldnn_enabled(before)


@contextlib.contextmanager
def _default(dtype: torch.dtype) -> Iterator[None]:
    """Inside, fresh tensors are of this type: those without content cannot be turned into it afterwards."""
    before = torch.get_default_dtype()
    torch.set_default_dtype(dtype)
    try:
        yield
    finally:
        torch.set_default_dtype(before)


def _bytes(tensors: Any) -> int:
    """Of the memory behind tensors, each counted once."""
    found = {_ref(x).cdata: x.untyped_storage().nbytes() for x in tensors if isinstance(x, Tensor)}
    return sum(found.values())
