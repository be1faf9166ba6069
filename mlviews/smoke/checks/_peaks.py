"""What NVIDIA publishes as the best of each GPU: products of matrices a second, and the bandwidth of its memory.

Dense figures, at the boost clock: a datasheet's figure "with sparsity" is twice as high. Products of float64 use tensor
cores where a GPU has them for it, as cuBLAS does; those of float16 and bfloat16 sum in float32. A type without a figure
of NVIDIA's is left out. The document stands above its rows.
"""

from __future__ import annotations

import re
from typing import NamedTuple, Optional


class Peak(NamedTuple):
    """The best that a GPU, or a slice of one, can do.

    Attributes:
        words: what the driver's name of the GPU holds; the row with most words wins.
        memory: in GB, as MIG's profiles divide it.
        multiprocessors: of the whole GPU; 0 where it cannot be sliced.
        bandwidth: of its memory, in 10^9 bytes a second.
        products: by type, in 10^12 operations a second; a product and a sum are two.
    """

    words: frozenset[str]
    memory: int
    multiprocessors: int
    bandwidth: float
    products: dict[str, float]


def _row(words: str, memory: int, multiprocessors: int, bandwidth: float, **products: float) -> Peak:
    if "half" in products:  # both 16-bit types have one rate wherever there are both
        products["float16"] = products["bfloat16"] = products.pop("half")
    return Peak(frozenset(words.split()), memory, multiprocessors, bandwidth, products)


PEAKS = (
    # GeForce GTX 1080 Ti, specifications
    _row("1080 ti", 11, 0, 484, float32=11.3),
    # NVIDIA V100 Tensor Core GPU, datasheet (2020); float64 stands there, too
    _row("v100 sxm2", 32, 0, 900, float64=7.8, float32=15.7, float16=125),
    _row("v100 pcie", 32, 0, 900, float64=7.0, float32=14.0, float16=112),
    _row("v100s pcie", 32, 0, 1134, float64=8.2, float32=16.4, float16=130),
    # NVIDIA Turing GPU Architecture, whitepaper (2018), table 4: reference card, float16 that sums in float32
    _row("2080 ti", 11, 0, 616, float32=13.4, float16=53.8, int8=215.2),
    # NVIDIA T4 Tensor Core GPU, datasheet (2019)
    _row("t4", 16, 0, 320, float32=8.1, float16=65, int8=130),
    # NVIDIA A100 Tensor Core GPU, datasheet (2021); bandwidth of 40 GB: its edition of 2020
    _row("a100 sxm4 40gb", 40, 108, 1555, float64=19.5, float32=19.5, tf32=156, half=312, int8=624),
    _row("a100 pcie 40gb", 40, 108, 1555, float64=19.5, float32=19.5, tf32=156, half=312, int8=624),
    _row("a100 sxm4 80gb", 80, 108, 2039, float64=19.5, float32=19.5, tf32=156, half=312, int8=624),
    _row("a100 pcie 80gb", 80, 108, 1935, float64=19.5, float32=19.5, tf32=156, half=312, int8=624),
    # NVIDIA A30, A10 and A40, datasheets (2021, 2022)
    _row("a30", 24, 56, 933, float64=10.3, float32=10.3, tf32=82, half=165, int8=330),
    _row("a10", 24, 0, 600, float32=31.2, tf32=62.5, half=125, int8=250),
    _row("a40", 48, 0, 696, float32=37.4, tf32=74.8, half=149.7, int8=299.3),
    # NVIDIA L4 and L40S, datasheets (2023)
    _row("l4", 24, 0, 300, float32=30.3, tf32=60, half=121, int8=242.5),
    _row("l40s", 48, 0, 864, float32=91.6, tf32=183, half=362.05, int8=733),
    # NVIDIA H100 Tensor Core GPU, datasheet (2023): PCIe in its first edition, NVL in the later ones
    _row("h100 80gb hbm3", 80, 132, 3350, float64=67, float32=67, tf32=494.5, half=989.5, int8=1979),
    _row("h100 pcie", 80, 114, 2000, float64=51, float32=51, tf32=378, half=756.5, int8=1513),
    _row("h100 nvl", 94, 132, 3900, float64=60, float32=60, tf32=417.5, half=835.5, int8=1670.5),
    # NVIDIA H200 Tensor Core GPU, datasheet (2024)
    _row("h200", 141, 132, 4800, float64=67, float32=67, tf32=494.5, half=989.5, int8=1979),
    _row("h200 nvl", 141, 132, 4800, float64=60, float32=60, tf32=417.5, half=835.5, int8=1670.5),
    # NVIDIA GH200 Grace Hopper Superchip, datasheet (2024): by the size of Grace's memory, or of the GPU's own
    _row("gh200 480gb", 96, 132, 4000, float64=67, float32=67, tf32=494, half=990, int8=1979),
    _row("gh200 144g hbm3e", 144, 132, 4900, float64=67, float32=67, tf32=494, half=990, int8=1979),
    # NVIDIA Blackwell Architecture, technical brief (2024): HGX B200
    _row("b200", 180, 148, 8000, float64=40, float32=80, tf32=1100, half=2250, int8=4500),
)

_SLICE = re.compile(r"\bMIG \d+g\.(\d+)gb", re.IGNORECASE)
_MEMORY_SLICES = 8  # NVIDIA Multi-Instance GPU User Guide: memory is cut into eighths; that of A30 into quarters


def peak_of(name: str, multiprocessors: int) -> Optional[Peak]:  # noqa: UP045  (Python 3.9 evaluates it for NamedTuple)
    """Return what a GPU can do at best; None where the table does not know it.

    Args:
        name: the driver's, such as ``NVIDIA A100-SXM4-40GB MIG 1g.5gb``.
        multiprocessors: how many the driver offers: a slice computes with its part of them.
    """
    whole, _, _ = name.partition(" MIG ")
    words = set(re.split(r"[^a-z0-9]+", whole.lower()))
    fitting = [peak for peak in PEAKS if peak.words <= words]
    if not fitting:
        return None
    peak = max(fitting, key=lambda peak: len(peak.words))
    if whole == name:
        return peak
    slices = _SLICE.search(name)
    if not slices or not peak.multiprocessors:
        return None
    computes = min(1.0, multiprocessors / peak.multiprocessors)
    remembers = min(_MEMORY_SLICES, round(_MEMORY_SLICES * int(slices[1]) / peak.memory)) / _MEMORY_SLICES
    return peak._replace(
        bandwidth=peak.bandwidth * remembers,
        products={kind: rate * computes for kind, rate in peak.products.items()},
    )
