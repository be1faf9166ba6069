"""Lock against lock: what was added, removed, moved up or down or rebuilt, and what it weighs."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from rattler import Version

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlviews.lock.lockfile import Lock, LockedPackage

__all__ = ["Change", "Kind", "PackageChange", "compare", "package_changes"]


@dataclass(frozen=True, slots=True)
class PackageChange:
    """One package that differs between two locks.

    Attributes:
        bytes: bytes of archive added; negative where taken away.
    """

    kind: Literal["added", "removed", "up", "down", "rebuilt"]
    name: str
    platform: str
    before: str | None
    after: str | None
    bytes: int


Kind = Literal["added", "removed", "up", "down", "rebuilt"]


@dataclass(frozen=True, slots=True)
class Change:
    """One package that differs on one platform; ``before`` or ``after`` is None where it is not there."""

    kind: Kind
    platform: str
    before: LockedPackage | None
    after: LockedPackage | None

    @property
    def name(self) -> str:
        """The package's name."""
        package = self.after or self.before
        assert package
        return package.name

    @property
    def bytes(self) -> int:
        """How many bytes of archive it adds; negative where it takes away."""
        return (self.after.size if self.after else 0) - (self.before.size if self.before else 0)


def compare(before: Lock, after: Lock) -> tuple[Change, ...]:
    """Return every difference, by platform and name."""
    old = {(package.platform, package.name): package for package in before.packages}
    new = {(package.platform, package.name): package for package in after.packages}
    return tuple(
        Change(_kind(old.get(key), new.get(key)), key[0], old.get(key), new.get(key))
        for key in sorted({*old, *new})
        if _identity(old.get(key)) != _identity(new.get(key))
    )


def _identity(package: LockedPackage | None) -> tuple[str, str] | None:
    return (package.url, package.sha256) if package else None


def _kind(before: LockedPackage | None, after: LockedPackage | None) -> Kind:
    if before is None:
        return "added"
    if after is None:
        return "removed"
    old, new = Version(before.version), Version(after.version)
    if old == new:
        return "rebuilt"
    return "up" if old < new else "down"


def package_changes(changes: Iterable[Change]) -> list[PackageChange]:
    """Return changes as results hold them; a version comes with its build only where just the build changed."""
    return [
        PackageChange(
            kind=change.kind,
            name=change.name,
            platform=change.platform,
            before=_label(change.kind, change.before),
            after=_label(change.kind, change.after),
            bytes=change.bytes,
        )
        for change in changes
    ]


def _label(kind: Kind, package: LockedPackage | None) -> str | None:
    if package is None:
        return None
    return f"{package.version} {package.build}" if kind == "rebuilt" else package.version
