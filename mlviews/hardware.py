"""What a lock is solved for, and what this host is.

conda states a host's abilities as virtual packages (CEP 30): ``__glibc``, ``__cuda``, ``__archspec``, and (CEP 46)
``__cuda_arch``. A lock is made from the recipe's figures, never from the machine that happens to solve it: that is why
a GPU lock needs no GPU.
"""

from __future__ import annotations

import os
from dataclasses import dataclass
from platform import libc_ver

from mlviews.gpus.nvidia import dotted

LINUX_VERSION = "5.14"  # el9's kernel; conda asks for a value of __linux, and no package of the catalogue a newer one

PLATFORMS: dict[str, str] = {"linux-64": "x86_64", "linux-aarch64": "aarch64"}
"""conda subdirs that views are made for, with the machine name that the kernel gives."""

ARCHSPECS: dict[str, tuple[str, ...]] = {
    "linux-64": ("x86_64", "x86_64_v2", "x86_64_v3", "x86_64_v4"),
    "linux-aarch64": ("aarch64",),
}
"""Micro-architecture levels of each platform, the baseline first (x86-64 psABI; archspec's names)."""


@dataclass(frozen=True, slots=True)
class VirtualPackage:
    """One ability of a host, stated as conda does."""

    name: str
    version: str
    build: str = "0"

    def __str__(self) -> str:
        return f"{self.name}={self.version}={self.build}"


def virtual_packages(
    platform: str, *, glibc: str, cuda: str | None = None, archspec: str | None = None, compute: int | None = None
) -> tuple[VirtualPackage, ...]:
    """Return everything that a solve for ``platform`` may count on.

    Args:
        platform: a conda subdir, ``linux-64`` or ``linux-aarch64``.
        glibc: the oldest glibc that the view must run on.
        cuda: the newest CUDA that the driver must support; None for a view without GPU.
        compute: compute capability of the oldest GPU that the view must serve, 70 for 7.0; None where none is named.
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
    if compute is not None:
        # CEP 46: the lowest of all GPUs of a host.
        packages.append(VirtualPackage("__cuda_arch", dotted(compute)))
    return tuple(packages)


def host_platform() -> str:
    """Return this host's conda subdir, whether views are made for it or not."""
    machine = os.uname().machine
    return next((subdir for subdir, name in PLATFORMS.items() if name == machine), f"linux-{machine}")


def host_glibc() -> str:
    """Return the version of this host's glibc, such as ``2.36``; empty where the C library is another one."""
    try:
        return (os.confstr("CS_GNU_LIBC_VERSION") or "").removeprefix("glibc ")
    except (ValueError, OSError):
        return libc_ver()[1]
