"""NVIDIA's tables: GPUs by name, and which driver a version of CUDA needs.

Two answers about drivers ("CUDA Toolkit Release Notes", docs.nvidia.com/cuda/cuda-toolkit-release-notes): within a
major version a driver runs the machine code of every toolkit, newer ones too ("CUDA minor version compatibility", table
2); PTX is compiled by the driver, which knows no newer PTX than its own toolkit's ("CUDA Toolkit and Corresponding
Driver Versions", table 3, and docs.nvidia.com/deploy/cuda-compatibility). Versions are those of Linux on x86_64.
"""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as people name it.

    Attributes:
        compute: compute capability, as in ``sm_70``: 70.
    """

    name: str
    compute: int


# Compute capabilities: NVIDIA, "CUDA GPU Compute Capability", developer.nvidia.com/cuda-gpus, and for GPUs older than
# Turing developer.nvidia.com/cuda-legacy-gpus. A MIG slice has that of its GPU.
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("P100", 60),
        Gpu("GTX 1080 Ti", 61),
        Gpu("V100", 70),
        Gpu("T4", 75),
        Gpu("RTX 2080 Ti", 75),
        Gpu("A100", 80),
        Gpu("A30", 80),
        Gpu("A10", 86),
        Gpu("A40", 86),
        Gpu("L4", 89),
        Gpu("L40S", 89),
        Gpu("H100", 90),
        Gpu("H200", 90),
        Gpu("GH200", 90),
        Gpu("B200", 100),
    )
}


# Table 2; 450.80.02 is the data-center driver that made CUDA 11.0 a part of the family.
_FAMILIES = {11: "450.80.02", 12: "525.60.13", 13: "580.65.06"}

# Table 3, the first release of each minor version. There was no toolkit 12.7.
_TOOLKITS = {
    "8.0": "367.48", "9.0": "384.81", "9.1": "390.46", "9.2": "396.26", "10.0": "410.48", "10.1": "418.39",
    "10.2": "440.33",
    "11.0": "450.51.05", "11.1": "455.23", "11.2": "460.27.03", "11.3": "465.19.01", "11.4": "470.42.01",
    "11.5": "495.29.05", "11.6": "510.39.01", "11.7": "515.43.04", "11.8": "520.61.05", "12.0": "525.60.13",
    "12.1": "530.30.02", "12.2": "535.54.03", "12.3": "545.23.06", "12.4": "550.54.14", "12.5": "555.42.02",
    "12.6": "560.28.03", "12.8": "570.26", "12.9": "575.51.03", "13.0": "580.65.06", "13.1": "590.44.01",
    "13.2": "595.45.04", "13.3": "610.43.02",
}  # fmt: skip


# The CUDA that each version of the PTX ISA, and each architecture, came with (docs.nvidia.com/cuda/
# parallel-thread-execution, "Release Notes"). What is older than CUDA 11 is only told apart for the sake of PTX.
_PTX = {
    "6.0": "9.0", "6.1": "9.1", "6.2": "9.2", "6.3": "10.0", "6.4": "10.1", "6.5": "10.2", "7.0": "11.0",
    "7.1": "11.1", "7.2": "11.2", "7.3": "11.3", "7.4": "11.4", "7.5": "11.5", "7.6": "11.6", "7.7": "11.7",
    "7.8": "11.8", "8.0": "12.0", "8.1": "12.1", "8.2": "12.2", "8.3": "12.3", "8.4": "12.4", "8.5": "12.5",
    "8.6": "12.7", "8.7": "12.8", "8.8": "12.9", "9.0": "13.0", "9.1": "13.1", "9.2": "13.2", "9.3": "13.3",
}  # fmt: skip
_ARCHITECTURES = {
    35: "5.0", 37: "6.5", 50: "6.0", 52: "6.5", 53: "7.0", 60: "8.0", 61: "8.0", 62: "8.0", 70: "9.0", 72: "9.2",
    75: "10.0", 80: "11.0", 86: "11.1", 87: "11.4", 88: "13.0", 89: "11.8", 90: "11.8", 100: "12.8", 101: "12.8",
    103: "12.9", 110: "13.0", 120: "12.8", 121: "12.9",
}  # fmt: skip


def minimum_driver(cuda: str) -> str | None:
    """Return the oldest driver that runs machine code built with a CUDA toolkit, on a GPU that the driver knows.

    Args:
        cuda: the toolkit's version, such as ``12.9``; the major version alone will do from 11 on.

    Returns:
        The driver's version, or None for a toolkit that the table does not hold.
    """
    major = version_key(cuda)[0]
    return _FAMILIES.get(major) or toolkit_driver(cuda)


def toolkit_driver(cuda: str) -> str | None:
    """Return the driver that came with a CUDA toolkit: the oldest that compiles its PTX and has all its features.

    Returns:
        The driver's version, that of the next toolkit where there was none of this version, or None for a version
        older or newer than those of the table.
    """
    wanted = version_key(cuda)
    if wanted < version_key(next(iter(_TOOLKITS))):
        return None
    return next((driver for version, driver in _TOOLKITS.items() if version_key(version) >= wanted), None)


def ptx_cuda(isa: str) -> str | None:
    """Return the CUDA that a version of the PTX ISA, such as ``8.8``, came with; None for one the table lacks."""
    return _PTX.get(isa)


def dotted(compute: int) -> str:
    """Return a compute capability as NVIDIA writes it: 9.0 for 90."""
    return f"{compute // 10}.{compute % 10}"


def first_cuda(compute: int) -> str | None:
    """Return the first CUDA that knows a compute capability, 90 for 9.0; None for one the table lacks."""
    return _ARCHITECTURES.get(compute)


def newest(versions: Iterable[str | None]) -> str:
    """Return the newest of some versions of CUDA, or ``""`` where there is none."""
    return max((version for version in versions if version), key=version_key, default="")


def version_key(cuda: str) -> tuple[int, int]:
    """Return what versions of CUDA are ordered by.

    Raises:
        ValueError: it is no version.
    """
    major, _, minor = cuda.partition(".")
    return int(major), int(minor.partition(".")[0] or 0)


def driver_key(driver: str) -> tuple[int, ...]:
    """Return what versions of drivers are ordered by.

    Raises:
        ValueError: it is no version.
    """
    return tuple(int(part) for part in driver.split("."))
