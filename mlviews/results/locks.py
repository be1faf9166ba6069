"""What ``lock`` and ``diff`` give back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlviews.results.base import Result

__all__ = ["DiffResult", "LockResult", "LockState", "LockedView", "PackageChange"]

LockState = Literal["current", "stale", "none", "invalid", "unavailable"]


class PackageChange(Result):
    """One package that differs between two locks."""

    kind: Literal["added", "removed", "up", "down", "rebuilt"]
    name: str
    platform: str
    before: str | None
    after: str | None
    bytes: int = Field(description="Bytes of archive added; negative where taken away.")


class LockedView(Result):
    """What became of one view's lock."""

    view: str
    path: str
    status: Literal["new", "updated", "unchanged", "failed"]
    digest: str | None
    packages: int
    changes: list[PackageChange]


class LockResult(Result):
    """``mlviews lock``."""

    locks: list[LockedView]


class DiffResult(Result):
    """``mlviews diff VIEW``."""

    view: str
    before: str
    after: str
    bytes: int = Field(description="Bytes of archives added in all; negative where taken away.")
    changes: list[PackageChange]
