"""What ``list``, ``show`` and ``new`` give back."""

from __future__ import annotations

from pydantic import Field

from mlviews.results.base import Result, Why
from mlviews.results.checks import GpuLine  # noqa: TC001  (pydantic reads it)
from mlviews.results.locks import LockState  # noqa: TC001  (pydantic reads it)

__all__ = ["AskedPackage", "ListResult", "NewResult", "ShowResult", "ShownHardware", "ShownLock", "ViewLine"]


class ViewLine(Result):
    """One view in ``mlviews list``."""

    name: str
    module: str
    summary: str
    platforms: list[str]
    cuda: str | None
    lock: LockState
    packages: int | None = Field(description="Packages locked for the first platform.")


class ListResult(Result):
    """``mlviews list``."""

    recipes: str = Field(description="The folder of recipes.")
    views: list[ViewLine]


class AskedPackage(Result):
    """A request and who made it."""

    spec: str
    by: list[str]


class ShownHardware(Result):
    """What the view is solved for."""

    glibc: str
    cuda: str | None
    archspec: str | None
    gpus: list[str]


class ShownLock(Result):
    """The state of the view's lock."""

    state: LockState
    path: str | None
    digest: str | None
    packages: dict[str, int] = Field(description="Packages by platform.")
    bytes: dict[str, int] = Field(description="Bytes of archives by platform.")
    changes: list[str] = Field(description="What the recipe changed since, where the lock is stale.")


class ShowResult(Result):
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
    some_gpus_only: list[Why] = Field(alias="some-gpus-only")
    smoke: list[str]
    lock: ShownLock
    gpus: list[GpuLine] = Field(description="What proves this lock on the GPUs that the recipe names, and others.")


class NewResult(Result):
    """``mlviews new VIEW``."""

    view: str
    path: str
