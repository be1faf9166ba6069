"""What a lock is solved for, and the GPUs by name.

conda states a host's abilities as virtual packages (CEP 30): ``__glibc``, ``__cuda``, ``__archspec``. A lock is made
from the recipe's figures, never from the machine that happens to solve it: that is why a GPU lock needs no GPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass

__all__ = [
    "ARCHSPECS",
    "GPUS",
    "LINUX_VERSION",
    "PLATFORMS",
    "Gpu",
    "VirtualPackage",
    "host_platform",
    "virtual_packages",
]

LINUX_VERSION = "5.14"  # el9's kernel; conda asks for a value of __linux, and no package of the catalogue a newer one

PLATFORMS: dict[str, str] = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
"""conda subdirs that views are made for, with the machine name that the kernel gives."""

ARCHSPECS: dict[str, tuple[str, ...]] = {
    "linux-64": ("x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4"),
    "linux-aarch64": ("aarch64",),
}
"""Micro-architecture levels of each platform, the baseline first (x86-64 psABI; archspec's names)."""


@dataclass(frozen=True, slots=True)
class Gpu:
    """A GPU as people name it.

    Attributes:
        name: the product.
        compute: compute capability, as in ``sm_70``: 70.
    """

    name: str
    compute: int


# Compute capabilities: NVIDIA, "CUDA GPU Compute Capability", developer.nvidia.com/cuda-gpus
GPUS: dict[str, Gpu] = {
    gpu.name: gpu
    for gpu in (
        Gpu("P100", 60),
        Gpu("V100", 70),
        Gpu("T4", 75),
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


@dataclass(frozen=True, slots=True)
class VirtualPackage:
    """One ability of a host, stated as conda does."""

    name: str
    version: str
    build: str = "0"

    def __str__(self) -> str:
        return f"{self.name}={self.version}={self.build}"


def virtual_packages(
    platform: str, *, glibc: str, cuda: str | None = None, archspec: str | None = None
) -> tuple[VirtualPackage, ...]:
    """Return everything that a solve for ``platform`` may count on.

    Args:
        platform: a conda subdir, ``linux-64`` or ``linux-aarch64``.
        glibc: the oldest glibc that the view must run on.
        cuda: the newest CUDA that the driver must support; None for a view without GPU.
        archspec: a micro-architecture level; one of another platform stands for that platform's own baseline.
    """
    levels = ARCHSPECS[platform]
    level = archspec if archspec in levels else levels[0]
    packages = [
        VirtualPackage("__unix", "0"),
        VirtualPackage("__linux", LINUX_VERSION),
        VirtualPackage("__glibc", glibc),
        # The level is the build string: packages ask for `__archspec * x86_64_v3`.
        VirtualPackage("__archspec", "1", level),
    ]
    if cuda is not None:
        packages.append(VirtualPackage("__cuda", cuda))
    return tuple(packages)


def host_platform() -> str:
    """Return this host's conda subdir, whether views are made for it or not."""
    machine = os.uname().machine
    return next((subdir for subdir, name in PLATFORMS.items() if name == machine), f"linux-{machine}")
