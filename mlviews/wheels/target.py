"""The host that a wheel channel is made for: its CPython, and what wheel tags and markers mean there."""

from __future__ import annotations

import functools
import platform
import re
import sys
from collections.abc import Mapping
from dataclasses import dataclass

from packaging.markers import default_environment
from packaging.tags import Tag, compatible_tags, cpython_tags, sys_tags

from mlviews.errors import FailedError
from mlviews.hardware import PLATFORMS

_SUBDIRS = {machine: subdir for subdir, machine in PLATFORMS.items()}
# glibc -> what wheels for it are tagged with besides (PEP 513, 571 and 599).
_LEGACY = {"2.5": "manylinux1", "2.12": "manylinux2010", "2.17": "manylinux2014"}
# PEP 600 begins with glibc 2.5 on x86_64 and 2.17 elsewhere.
_OLDEST = {"x86_64": 5, "aarch64": 17}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the packages will run.

    Attributes:
        subdir: the conda platform.
        python: the full version of its Python, such as ``3.11.7``.
        abi: that Python's own wheel ABI: ``cp311``, or ``cp313t`` without the GIL.
        markers: the environment that PEP 508 markers are evaluated in.
        tags: the wheel tags that it accepts.
        platforms: their platforms, best first, where it is not the running interpreter.
    """

    subdir: str
    python: str
    abi: str
    markers: Mapping[str, str]
    tags: frozenset[Tag]
    platforms: tuple[str, ...] = ()

    @property
    def minor(self) -> str:
        """Python's major and minor version: ``3.11``."""
        return ".".join(self.python.split(".")[:2])

    @property
    def site_packages(self) -> str:
        """Where packages lie, relative to the prefix."""
        return f"lib/python{self.minor}/site-packages"


@functools.cache
def host_target() -> Target:
    """Return the running interpreter's target.

    Raises:
        FailedError: ``host-python`` where it is no CPython for glibc Linux on x86_64 or aarch64.
    """
    machine = platform.machine()
    kind = f"{platform.python_implementation()} {platform.python_version()} on {sys.platform} {machine}"
    if sys.implementation.name != "cpython" or sys.platform != "linux" or machine not in _SUBDIRS:
        raise FailedError(
            "host-python",
            f"views can be made of wheels only with CPython on Linux, x86_64 or aarch64; this is {kind}",
            "Use a site with a conda channel, such as --site local.",
        )
    tags = list(sys_tags())
    if not any("manylinux" in tag.platform for tag in tags):
        raise FailedError(
            "host-python",
            f"views can be made of wheels only on a host with glibc; {kind} has another C library",
            "Use a site with a conda channel, such as --site local.",
        )
    environment = {key: str(value) for key, value in default_environment().items()}
    return Target(
        subdir=_SUBDIRS[machine],
        python=platform.python_version().rstrip("+"),
        abi=tags[0].abi,
        markers=environment,
        tags=frozenset(tags),
    )


def target_of(subdir: str, python: str, build: str, *, glibc: str) -> Target:
    """Return the target that a view is, whatever runs mlviews.

    Wheels tagged ``linux_x86_64``, which promise nothing of the C library, are none of it.

    Args:
        subdir: the conda platform, such as ``linux-64``.
        python: the version of its Python.
        build: the build of its Python, which ends with ``t`` where that has no GIL.
        glibc: the oldest C library that it must run on, such as ``2.34``.
    """
    machine = PLATFORMS[subdir]
    major, minor = (int(part) for part in python.split(".")[:2])
    abi = f"cp{major}{minor}{'t' if build.endswith('t') else ''}"
    platforms = tuple(
        f"{name}_{machine}"
        for figure in range(int(glibc.split(".")[1]), _OLDEST[machine] - 1, -1)
        for name in (f"manylinux_2_{figure}", _LEGACY.get(f"2.{figure}"))
        if name
    )
    version = (major, minor)
    tags = {*cpython_tags(version, [abi], platforms), *compatible_tags(version, f"cp{major}{minor}", platforms)}
    markers = {
        "implementation_name": "cpython",
        "implementation_version": python,
        "os_name": "posix",
        "platform_machine": machine,
        "platform_python_implementation": "CPython",
        "platform_release": "",
        "platform_system": "Linux",
        "platform_version": "",
        "python_full_version": python,
        "python_version": f"{major}.{minor}",
        "sys_platform": "linux",
    }
    return Target(subdir=subdir, python=python, abi=abi, markers=markers, tags=frozenset(tags), platforms=platforms)


def tag_glibc(platform: str) -> str:
    """Return the glibc that a wheel's platform tag promises to do with (PEP 600), or ``""``."""
    if match := re.match(r"manylinux_(\d+)_(\d+)_", platform):
        return f"{match[1]}.{match[2]}"
    name = platform.partition("_")[0]
    return next((glibc for glibc, legacy in _LEGACY.items() if legacy == name), "")
