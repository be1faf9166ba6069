"""What is asked of a night: which day, which views on which platforms, and what is supposed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Literal

from pydantic import BaseModel, ConfigDict, Field

from mlviews.errors import BadInputError
from mlviews.lock.diff import PackageChange  # noqa: TC001  (pydantic reads it)
from mlviews.lock.lockfile import Lock
from mlviews.lock.status import LockState  # noqa: TC001  (pydantic reads it)
from mlviews.recipe.view import VIEW_NAME
from mlviews.smoke.report import CheckLine  # noqa: TC001  (pydantic reads it)
from mlviews.values import Problem  # noqa: TC001  (pydantic reads it)

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from pathlib import Path

    from mlviews.recipe.view import Request, ViewSpec
    from mlviews.site.spec import SiteSpec

CellState = Literal["ok", "updated", "unsolvable", "install-failed", "check-failed", "not-run"]


class _Kept(BaseModel):
    """What a history keeps and reads again."""

    model_config = ConfigDict(frozen=True, populate_by_name=True)


class CellFigures(_Kept):
    """What a cell measured; null where that was not looked at."""

    packages: int | None = None
    download: int | None = Field(None, description="Bytes of archives.")
    installed: int | None = Field(None, description="Bytes of installed files.")
    age: float | None = Field(None, description="Median age of the packages that night, in days.")
    solve_seconds: float | None = Field(None, alias="solve-seconds")
    install_seconds: float | None = Field(None, alias="install-seconds")
    check_seconds: float | None = Field(None, alias="check-seconds")


class Earlier(_Kept):
    """What earlier nights found of the same view on the same platform."""

    last: str | None = Field(None, description="The night before.")
    last_state: CellState | None = Field(None, alias="last-state")
    since: str | None = Field(None, description="The first night of this failure.")
    good: str | None = Field(None, description="The last night before it that was without.")


class NightCell(_Kept):
    """One view on one platform in one night."""

    # Files are named after these, and a history may come from another host.
    view: str = Field(pattern=f"^{VIEW_NAME}$")
    platform: str = Field(pattern=r"^[a-z0-9_]+(-[a-z0-9_]+)*$")
    state: CellState = Field(description="not-run is no success: there was no such platform or GPU, or no way to know.")
    reason: str = Field("", description="The state in a line.")
    problem: Problem | None = Field(None, description="Why it could not be solved, installed, or looked at.")
    tested: bool = Field(False, description="Whether the newest packages were installed and checked.")
    lock: LockState = Field(description="Of the committed lock.")
    committed: str | None = Field(None, description="Digest of the committed lock's part for this platform.")
    committed_state: CellState | None = Field(
        None, alias="committed-state", description="What the committed lock gave; null: it was not tried."
    )
    digest: str | None = Field(None, description="Digest of the lock that the newest packages would give.")
    changes: list[PackageChange] = Field([], description="What that lock changes in the committed one.")
    suspects: list[PackageChange] = Field([], description="Where it fails: what changed since the last good night.")
    checks: list[CheckLine] = Field([], description="What they found with the newest packages.")
    figures: CellFigures = CellFigures()
    earlier: Earlier = Earlier()
    looked_back: bool = Field(False, alias="looked-back", description="Whether it was found on a later day.")


@dataclass(frozen=True, slots=True)
class NightRun:
    """One night: views x platforms.

    Attributes:
        night: the day (UTC), which names its folder.
        as_of: the moment that it looks back to.
        cuda: the CUDA version that was supposed in the place of the recipes'.
        solve_only: whether nothing was installed, and so nothing tested.
    """

    night: str
    as_of: str | None
    cuda: str | None
    solve_only: bool
    seconds: float
    cells: Sequence[NightCell]


@dataclass(frozen=True, slots=True, kw_only=True)
class Night:
    """One night.

    Attributes:
        day: the day (UTC) that names it.
        as_of: leave out what was built later than this; None: the newest there is.
        cuda: the CUDA version to suppose in the place of the recipes'; such nights have a history of their own.
        solve_only: install and test nothing.
    """

    day: date
    as_of: datetime | None = None
    cuda: str | None = None
    solve_only: bool = False

    @property
    def variant(self) -> str:
        """What sets its history apart: empty, or such as ``cuda-13.0``."""
        return f"cuda-{self.cuda}" if self.cuda else ""

    @property
    def folder(self) -> str:
        """The name of its folder: ``2026-11-24``, ``2026-11-24-cuda-13.0``."""
        return f"{self.day:%Y-%m-%d}{'-' if self.cuda else ''}{self.variant}"

    def result(self, cells: Sequence[NightCell], *, seconds: float = 0.0) -> NightRun:
        """Return what was found, and in how long, with what was asked."""
        as_of = self.as_of.isoformat() if self.as_of else None
        return NightRun(self.day.isoformat(), as_of, self.cuda, self.solve_only, seconds, cells)


def suppose_cuda(specs: Sequence[ViewSpec], cuda: str) -> tuple[ViewSpec, ...]:
    """Return the views that state ``hardware.cuda``, as if they stated another version.

    What they ask of ``cuda-version``, which conda-forge ties every CUDA build to, follows: at most that version.

    Raises:
        BadInputError: none of them does.
    """
    gpu = tuple(spec for spec in specs if spec.hardware.cuda is not None)
    if not gpu:
        raise BadInputError("cuda-of-cpu-views", "none of these views states hardware.cuda", "Name a GPU view.")

    def moved(requests: tuple[Request, ...]) -> tuple[Request, ...]:
        text = f"cuda-version <={cuda}"
        return tuple(replace(item, text=text) if item.name == "cuda-version" else item for item in requests)

    return tuple(
        replace(
            spec,
            hardware=replace(spec.hardware, cuda=cuda),
            dependencies=moved(spec.dependencies),
            constraints=moved(spec.constraints),
        )
        for spec in gpu
    )


def named_from(spec: ViewSpec, *folders: Path) -> ViewSpec:
    """Return the view with its recipe's files named as seen from a folder: a report says nothing of its host.

    Args:
        folders: what is left out of the names of files below them.
    """

    def name(where: str) -> str:
        for folder in folders:
            where = where.removeprefix(f"{folder}/")
        return where

    def shorter(requests: tuple[Request, ...]) -> tuple[Request, ...]:
        return tuple(
            replace(request, origins=tuple(replace(o, where=name(o.where)) for o in request.origins))
            for request in requests
        )

    return replace(spec, dependencies=shorter(spec.dependencies), constraints=shorter(spec.constraints))


def only_on(site_spec: SiteSpec, platform: str) -> SiteSpec:
    """Return the view as it would be if it were for one of its platforms alone."""
    spec = replace(site_spec.spec, platforms=(platform,))
    return replace(site_spec, spec=spec, inputs={**site_spec.inputs, "platforms": [platform]})


def part_for(lock: Lock, platform: str) -> Lock | None:
    """Return the part of a lock for one platform, as a lock; None where it has none."""
    if platform not in lock.platforms:
        return None
    return Lock(lock.view, {**lock.inputs, "platforms": [platform]}, lock.solver, lock.on(platform))
