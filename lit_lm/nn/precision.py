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


def cpu_multiplies_in(dtype: torch.dtype) -> bool:
    """Whether this CPU multiplies in a precision; without, bfloat16 takes four times as long as single precision."""
    if dtype == torch.bfloat16:
        return torch.backends.cpu.get_cpu_capability() == "AVX512" and bool(
            torch.ops.mkldnn._is_mkldnn_bf16_supported()
        )
    return dtype in (torch.float32, torch.float64)


def _is_on(x: Tensor) -> bool:
    kind = x.device.type  # tensors without content have a device that autocast does not know
    return torch.amp.is_autocast_available(kind) and torch.is_autocast_enabled(kind)
