"""Which library multiplies single-precision matrices on a CPU.

PyTorch uses Intel's MKL, which on other makers' processors with AVX-512 takes a slow path: there oneDNN is 1.5 to 1.7 times as
fast. Processors with AMX would round to bfloat16 on that way, so the products themselves are looked at before it is taken.
"""

from __future__ import annotations

from pathlib import Path
from typing import Literal

import torch

Route = Literal["auto", "onednn", "default"]

_WITHIN = 1e-6
"""Most that a product's sums may be off, as a share of the largest: rounding to bfloat16 gives 1e-3, single precision 1e-7."""


def route(wanted: Route = "auto") -> bool:
    """Sets the process's way for single-precision products on a CPU. Where there is a GPU nothing is changed: the setting is
    PyTorch's one for all devices.

    The choice depends on the processor only, never on a measured time: a run that goes on later is the same run.

    Args:
        wanted: "onednn" or "default" (PyTorch's own choice); "auto" for oneDNN where the processor has AVX-512, is not Intel's,
            and the products stay in single precision.

    Returns:
        Whether oneDNN is used.
    """
    if torch.cuda.is_available():
        return False
    torch.set_float32_matmul_precision("highest")
    if wanted == "default" or (wanted == "auto" and (_is_intels() or not _has_avx512())):
        return False
    torch.set_float32_matmul_precision("medium")  # may round, and does only where that is faster
    if wanted == "auto" and error() > _WITHIN:
        torch.set_float32_matmul_precision("highest")
        return False
    return True


def error() -> float:
    """Largest error of a product of two matrices, as a share of its largest entry."""
    generator = torch.Generator().manual_seed(0)
    a, b = (torch.randn(256, 256, generator=generator) for _ in range(2))
    exact = a.double() @ b.double()
    return float(((a @ b).double() - exact).abs().max() / exact.abs().max())


def _has_avx512() -> bool:
    return "AVX512" in torch.backends.cpu.get_cpu_capability()


def _is_intels(cpuinfo: Path = Path("/proc/cpuinfo")) -> bool:
    """Also where nobody knows: nothing is changed then."""
    try:
        lines = cpuinfo.read_text().splitlines()
    except OSError:
        return True
    vendor = next((line for line in lines if line.startswith("vendor_id")), "GenuineIntel")
    return "GenuineIntel" in vendor
