"""Tensors that have a shape and no numbers, on which a network is run to learn what it costs."""

from __future__ import annotations

from torch import Tensor
from torch._subclasses.fake_tensor import FakeTensor


def has_content(x: Tensor) -> bool:
    """Whether numbers can be read from a tensor: not on the meta device, nor under ``FakeTensorMode``."""
    return not (x.is_meta or isinstance(x, FakeTensor))
