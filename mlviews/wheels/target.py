"""The host that a wheel channel is made for: its CPython, and what wheel tags and markers mean there."""

from __future__ import annotations

import functools
import platform
import sys
from dataclasses import dataclass
from typing import TYPE_CHECKING

from packaging.markers import default_environment
from packaging.tags import Tag, sys_tags

from mlviews.errors import FailedError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["Target", "host_target"]


_SUBDIRS = {"x86_64": "linux-64", "aarch64": "linux-aarch64"}


@dataclass(frozen=True, kw_only=True, slots=True)
class Target:
    """Where the packages will run.

    ``subdir`` is a conda platform, ``python`` a full version (``3.11.7``), ``abi`` the interpreter's own wheel ABI
    (``cp311``; ``cp313t`` without the GIL), ``markers`` the environment that PEP 508 markers are evaluated in, ``tags``
    the wheel tags that it accepts.
    """

    subdir: str
    python: str
    abi: str
    markers: Mapping[str, str]
    tags: frozenset[Tag]

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
