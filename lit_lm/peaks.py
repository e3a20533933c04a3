"""How many FLOPs a second a GPU's matrix products can do at most, as its maker says: what utilisation is measured against."""

from __future__ import annotations

import re
from typing import NamedTuple

import torch


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
