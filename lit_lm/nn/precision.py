"""The precision that products are done in."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext

import torch
from torch import Tensor


def product_dtype(x: Tensor) -> torch.dtype:
    """Autocast's where it is on for the device of ``x``, else that of ``x``."""
    return torch.get_autocast_dtype(x.device.type) if _is_on(x) else x.dtype


def without_autocast(x: Tensor) -> AbstractContextManager[object]:
    """Products are done in the precision of their inputs, on the device of ``x``."""
    return torch.autocast(x.device.type, enabled=False) if _is_on(x) else nullcontext()


def _is_on(x: Tensor) -> bool:
    kind = x.device.type  # tensors without content have a device that autocast does not know
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
