"""Lock against lock: what was added, removed, moved up or down or rebuilt, and what it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rattler import Version

if TYPE_CHECKING:
    from mlviews.lock.lockfile import Lock, LockedPackage


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package that differs between two locks.

    Attributes:
        before: its version there, with its build where only that differs; null where it is not there.
        after: the same of the later lock.
        bytes: bytes of archive added; negative where taken away.
    """

    kind: Literal["added", "removed", "up", "down", "rebuilt"]
    name: str
    platform: str
    before: str | None
    after: str | None
    bytes: int


def compare(before: Lock, after: Lock) -> tuple[PackageChange, ...]:
    """Return every difference, by platform and name."""
    old = {(package.platform, package.name): package for package in before.packages}
    new = {(package.platform, package.name): package for package in after.packages}
    return tuple(
        _change(*key, old.get(key), new.get(key))
        for key in sorted({*old, *new})
        if _identity(old.get(key)) != _identity(new.get(key))
    )


def _identity(package: LockedPackage | None) -> tuple[str, str] | None:
    if package is None:
        return None
    return package.url, package.made.sha256 if package.made else package.sha256


def _change(platform: str, name: str, before: LockedPackage | None, after: LockedPackage | None) -> PackageChange:
    added = (after.size if after else 0) - (before.size if before else 0)
    if before is None or after is None:
        old, new = (package.version if package else None for package in (before, after))
        return PackageChange("removed" if before else "added", name, platform, old, new, added)
    if (one := Version(before.version)) == (other := Version(after.version)):
        old, new = (f"{package.version} {package.build}" for package in (before, after))
        return PackageChange("rebuilt", name, platform, old, new, added)
    return PackageChange("up" if one < other else "down", name, platform, before.version, after.version, added)
