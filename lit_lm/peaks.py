"""How many FLOPs a second a device's matrix products can do at most, and how much it can hold, as its maker says: what
utilisation is measured against, and what training is planned for.
"""

from __future__ import annotations

import os
import re
import time
from typing import NamedTuple

import torch

from lit_lm.errors import InputError


class Peak(NamedTuple):
    """Dense teraFLOPs a second, without sparsity, sums kept in single precision.

    Args:
        half: of float16 and bfloat16.
        tf32: of float32 where TF32 is allowed; None where there is none.
        single: of float32.
        bfloat16: False where it is not in hardware.
    """

    half: float
    tf32: float | None
    single: float
    bfloat16: bool = True


# After NVIDIA's data sheets and, for GeForce, white papers of GA102, AD102 and GB202 ("FP16 with FP32 accumulate"), written down
# from memory and not yet checked against them. Many of
# them print figures with sparsity, which are twice as high, or only those. lightning.fabric's table is not used: it has
# those of H200 and H100 NVL, and takes an L40S for an L4 and an RTX 4090's vector units for its tensor cores.
_PEAKS = {
    r"V100-SXM[23]": Peak(125, None, 15.7, bfloat16=False),
    r"V100-PCIE": Peak(112, None, 14.0, bfloat16=False),
    r"T4": Peak(65, None, 8.1, bfloat16=False),
    r"A10": Peak(125, 62.5, 31.2),
    r"A10G": Peak(70, 35, 31.5),
    r"A30": Peak(165, 82, 10.3),
    r"A40": Peak(149.7, 74.8, 37.4),
    r"A100-SXM4|A100-PCIE|A100 PCIe": Peak(312, 156, 19.5),
    r"RTX A6000": Peak(154.8, 77.4, 38.7),
    r"L4": Peak(121, 60, 30.3),
    r"L40": Peak(181, 90.5, 90.5),
    r"L40S": Peak(362, 183, 91.6),
    r"RTX 6000 Ada Generation": Peak(364.2, 182.1, 91.1),
    r"H100 PCIe": Peak(756, 378, 51.2),
    r"H100 NVL|H200 NVL": Peak(835.5, 417.5, 60),
    r"H100|H100 SXM5|H200|GH200": Peak(989.4, 494.7, 66.9),
    r"B200": Peak(2250, 1125, 75),
    r"GB200": Peak(2500, 1250, 80),
    r"RTX 3090": Peak(71, 35.6, 35.6),
    r"RTX 3090 Ti": Peak(80, 40, 40),
    r"RTX 4080": Peak(97.5, 48.7, 48.7),
    r"RTX 4090": Peak(165.2, 82.6, 82.6),
    r"RTX 5080": Peak(112.6, 56.3, 56.3),
    r"RTX 5090": Peak(209.5, 104.8, 104.8),
}


def peak_flops(device: torch.device, precision: str) -> float | None:
    """FLOPs a second that a device's dense matrix products can reach; None where that is not known.

    Args:
        device: any; only GPUs are known.
        precision: the trainer's, such as "bf16-mixed".
    """
    if device.type != "cuda":
        return None
    return known_peak(torch.cuda.get_device_name(device), precision)


def known_peak(name: str, precision: str) -> float | None:
    """The same by the device's name, as the driver gives it. A part of a device (MIG), or a laptop's, is not known."""
    plain = re.sub(r"^(NVIDIA|Tesla|GeForce|\s)+", "", name)
    plain = re.sub(r"[ -]\d+ ?GB( HBM\d\w*)?", "", plain)
    peak = next((p for pattern, p in _PEAKS.items() if re.fullmatch(pattern, plain)), None)
    if peak is None:
        return None
    if "16" in precision:
        tera = None if "bf16" in precision and not peak.bfloat16 else peak.half
    elif "32" in precision:
        tf32 = torch.get_float32_matmul_precision() != "highest"
        tera = peak.tf32 if tf32 and peak.tf32 else peak.single
    else:
        tera = None
    return None if tera is None else tera * 1e12


class Device(NamedTuple):
    """What one device offers to training.

    Args:
        name: for people to read.
        flops: FLOPs a second of dense matrix products in the precision asked for; None where it has none of it.
        memory: bytes; None where that is not the device's but its host's.
    """

    name: str
    flops: float | None
    memory: int | None


# By short names: the driver's name, as in the table above, and gigabytes. A data sheet's gigabyte is counted as 10^9 bytes.
# Drivers report up to 7 % more, which is left to the driver itself, to communication and to fragments.
_GPUS = {
    "v100": ("V100-SXM2", 32),
    "v100-16gb": ("V100-SXM2", 16),
    "t4": ("T4", 16),
    "a10": ("A10", 24),
    "a10g": ("A10G", 24),
    "a30": ("A30", 24),
    "a40": ("A40", 48),
    "a100": ("A100-SXM4", 80),
    "a100-40gb": ("A100-SXM4", 40),
    "rtx-a6000": ("RTX A6000", 48),
    "l4": ("L4", 24),
    "l40": ("L40", 48),
    "l40s": ("L40S", 48),
    "rtx-6000-ada": ("RTX 6000 Ada Generation", 48),
    "h100": ("H100 SXM5", 80),
    "h100-pcie": ("H100 PCIe", 80),
    "h100-nvl": ("H100 NVL", 94),
    "h200": ("H200", 141),
    "b200": ("B200", 180),
    "rtx-3090": ("RTX 3090", 24),
    "rtx-4090": ("RTX 4090", 24),
    "rtx-5090": ("RTX 5090", 32),
}


class _Cpu(NamedTuple):
    name: str
    cores: int
    gigahertz: float
    single: int  # FLOPs a core does in a cycle
    bfloat16: int | None


# Cores and base clock after the makers' pages. A core with AVX2 has two units of 8 multiplications and additions (32 FLOPs a
# cycle), with AVX-512 two of 16 (64), with AMX 1,024 in bfloat16.
_CPUS = {
    "cpu-epyc-7763": _Cpu("EPYC 7763, 64 cores", 64, 2.45, 32, None),
    "cpu-xeon-8380": _Cpu("Xeon Platinum 8380, 40 cores", 40, 2.3, 64, None),
    "cpu-xeon-8480": _Cpu("Xeon Platinum 8480+, 56 cores", 56, 2.0, 64, 1024),
}
HERE = "cpu"


def device(name: str, precision: str) -> Device:
    """A device that training can be planned for.

    Args:
        name: a short name, or "cpu" for this very machine, whose matrix products are then timed for a moment.
        precision: the trainer's, such as "bf16-mixed". TF32 counts where the process allows it.

    Raises:
        InputError: there is no such name; lists those that there are.
    """
    if name == HERE:
        memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES")
        return Device("this machine's CPU, measured", _timed(precision), memory)
    if name in _GPUS:
        driver, gigabytes = _GPUS[name]
        return Device(f"{driver}, {gigabytes} GB", known_peak(driver, precision), gigabytes * 10**9)
    if name in _CPUS:
        cpu = _CPUS[name]
        cycle = {"32": cpu.single, "bf": cpu.bfloat16}.get(precision[:2])
        flops = None if cycle is None else cpu.cores * cpu.gigahertz * 1e9 * cycle
        return Device(cpu.name, flops, None)
    raise InputError(f"no device {name!r}: choose one of {', '.join((HERE, *_CPUS, *_GPUS))}")


def _timed(precision: str, size: int = 768) -> float:
    """FLOPs a second that products of matrices reach here: the best of some."""
    dtype = {"32": torch.float32, "16": torch.float16}.get(precision[:2], torch.bfloat16)
    a, b = (torch.ones(size, size, dtype=dtype) for _ in range(2))
    torch.mm(a, b)
    least = float("inf")
    for _ in range(5):
        begin = time.perf_counter()
        torch.mm(a, b)
        least = min(least, time.perf_counter() - begin)
    return 2 * size**3 / least
