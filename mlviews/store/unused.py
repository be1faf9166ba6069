"""What in the cache no release has: packages, their byte code, wheels; and what was fetched long ago."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mlviews.files import aged
from mlviews.prefix.bytecode import BYTECODE

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator
    from pathlib import Path

    from mlviews.release import Release, ReleasePackage
    from mlviews.store.disk import ReleaseEntry

__all__ = ["PACKAGES", "unused"]

PACKAGES = "pkgs"
"""The cache's folder of unpacked packages; beside each, rattler keeps a lock."""


def unused(cache: Path, entries: Iterable[ReleaseEntry], *, within: timedelta) -> tuple[str, ...]:
    """Return files and folders in the cache that nobody needs, by their paths in it.

    Args:
        cache: a site's.
        entries: the releases that stay.
        within: how long metadata and base images stay, which no release has; a day at least.
    """
    releases = [release for entry in entries for release in entry.platforms.values()]
    found = {*_packages(cache, releases), *_byte_code(cache, releases), *_of_wheels(cache, releases)}
    fetched = (*cache.glob("repodata/**/*.*"), *cache.glob("images/*.tar"))
    found |= {*aged(fetched, max(within, timedelta(days=1)))}
    return tuple(sorted(path.relative_to(cache).as_posix() for path in found))


def _packages(cache: Path, releases: Iterable[Release]) -> Iterator[Path]:
    used = {_stem(package) for release in releases for package in release.packages}
    return (cache / PACKAGES / name for name in _names(cache / PACKAGES) - used)


def _byte_code(cache: Path, releases: Iterable[Release]) -> Iterator[Path]:
    """Byte code is of a package and of the Python that compiled it: both must be in one release."""
    used: dict[str, set[str]] = {}
    for release in releases:
        stems = {package.name: _stem(package) for package in release.packages}
        used.setdefault(stems.get("python", ""), set()).update(stems.values())
    for python in _names(cache / BYTECODE):
        if python in used:
            yield from (cache / BYTECODE / python / name for name in _names(cache / BYTECODE / python) - used[python])
        else:
            yield cache / BYTECODE / python


def _of_wheels(cache: Path, releases: Iterable[Release]) -> Iterator[Path]:
    if not (cache / "wheels").is_dir():
        return
    from mlviews.channel.unused import unused_archives, unused_wheels  # noqa: PLC0415  (only such sites need it)

    packages = {package for release in releases for package in release.packages}
    yield from unused_archives(cache, {_stem(package) for package in packages})
    yield from unused_wheels(cache, {(package.name, package.version) for package in packages})


def _stem(package: ReleasePackage) -> str:
    return f"{package.name}-{package.version}-{package.build}"


def _names(folder: Path) -> set[str]:
    try:
        found = {path.name.removesuffix(".lock") for path in folder.iterdir()}
    except OSError:
        return set()
    return {name for name in found if name and not name.startswith(".")}
