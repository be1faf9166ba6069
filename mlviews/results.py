"""What each command gives back: the ``data`` of the JSON envelope, one model a command.

Their JSON Schemas travel with mlviews, in ``mlviews/schemas/``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "DiffResult", "ListResult", "LockResult", "LockState", "NewResult", "PackageChange", "ShowResult", "ViewLine",
]  # fmt: skip

LockState = Literal["current", "stale", "none", "invalid"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class ViewLine(_Result):
    """One view in ``mlviews list``."""

    name: str
    module: str
    summary: str
    platforms: list[str]
    cuda: str | None
    lock: LockState
    packages: int | None = Field(description="Packages locked for the first platform.")


class ListResult(_Result):
    """``mlviews list``."""

    recipes: str = Field(description="The folder of recipes.")
    views: list[ViewLine]


class AskedPackage(_Result):
    """A request and who made it."""

    spec: str
    by: list[str]


class Why(_Result):
    """A package and the reason it is treated as it is."""

    package: str
    why: str


class ShownHardware(_Result):
    """What the view is solved for."""

    glibc: str
    cuda: str | None
    archspec: str | None
    gpus: list[str]


class ShownLock(_Result):
    """The state of the view's lock."""

    state: LockState
    path: str | None
    digest: str | None
    packages: dict[str, int] = Field(description="Packages by platform.")
    bytes: dict[str, int] = Field(description="Bytes of archives by platform.")
    changes: list[str] = Field(description="What the recipe changed since, where the lock is stale.")


class ShowResult(_Result):
    """``mlviews show VIEW``."""

    name: str
    summary: str
    module: str
    layers: list[str]
    platforms: list[str]
    hardware: ShownHardware
    dependencies: list[AskedPackage]
    constraints: list[AskedPackage]
    pypi: list[AskedPackage]
    gaps: list[Why]
    cpu_only: list[Why] = Field(alias="cpu-only")
    smoke: list[str]
    lock: ShownLock


class NewResult(_Result):
    """``mlviews new VIEW``."""

    view: str
    path: str


class PackageChange(_Result):
    """One package that differs between two locks."""

    kind: Literal["added", "removed", "up", "down", "rebuilt"]
    name: str
    platform: str
    before: str | None
    after: str | None
    bytes: int = Field(description="Bytes of archive added; negative where taken away.")


class LockedView(_Result):
    """What became of one view's lock."""

    view: str
    path: str
    status: Literal["new", "updated", "unchanged", "failed"]
    digest: str | None
    packages: int
    changes: list[PackageChange]


class LockResult(_Result):
    """``mlviews lock``."""

    locks: list[LockedView]


class DiffResult(_Result):
    """``mlviews diff VIEW``."""

    view: str
    before: str
    after: str
    bytes: int = Field(description="Bytes of archives added in all; negative where taken away.")
    changes: list[PackageChange]
