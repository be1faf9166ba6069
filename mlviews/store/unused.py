"""What in the cache no release has: packages, and their byte code."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.prefix.bytecode import BYTECODE

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.store.disk import ReleaseEntry

__all__ = ["PACKAGES", "unused"]

PACKAGES = "pkgs"
"""The cache's folder of unpacked packages; beside each, rattler keeps a lock."""


def unused(cache: Path, entries: Iterable[ReleaseEntry]) -> tuple[str, ...]:
    """Return the folders of packages and of byte code that none of the releases has, by their paths in the cache.

    Byte code is of a package and of the Python that compiled it: both must be in one release.
    """
    used = set[str]()
    for release in (release for entry in entries for release in entry.platforms.values()):
        names = {package.name: f"{package.name}-{package.version}-{package.build}" for package in release.packages}
        python = f"{BYTECODE}/{names.get('python')}"
        used |= {python, *(f"{folder}/{name}" for folder in (PACKAGES, python) for name in names.values())}
    there = {*_names(cache, PACKAGES), *_names(cache, BYTECODE)}
    there |= {name for python in there & used if python.startswith(BYTECODE) for name in _names(cache, python)}
    return tuple(sorted(there - used))


def _names(cache: Path, folder: str) -> set[str]:
    try:
        found = {path.name.removesuffix(".lock") for path in (cache / folder).iterdir()}
    except OSError:
        return set()
    return {f"{folder}/{name}" for name in found if name and not name.startswith(".")}
