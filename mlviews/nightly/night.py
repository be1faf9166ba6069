"""What is asked of a night: which day, which views on which platforms, and what is supposed."""

from __future__ import annotations

from dataclasses import dataclass, replace
from typing import TYPE_CHECKING

from mlviews.errors import BadInputError
from mlviews.lock.lockfile import Lock
from mlviews.site.spec import SiteSpec

if TYPE_CHECKING:
    from collections.abc import Sequence
    from datetime import date, datetime
    from pathlib import Path

    from mlviews.recipe.compose import Request, ViewSpec

__all__ = ["Night", "named_from", "only_on", "part_for", "suppose_cuda"]


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


def named_from(spec: ViewSpec, folder: Path) -> ViewSpec:
    """Return the view with its recipe's files named as seen from a folder: a report says nothing of its host.

    Args:
        spec: the view.
        folder: what is left out of the names of files below it.
    """

    def shorter(requests: tuple[Request, ...]) -> tuple[Request, ...]:
        return tuple(
            replace(
                request,
                origins=tuple(replace(o, where=o.where.removeprefix(f"{folder}/")) for o in request.origins),
            )
            for request in requests
        )

    return replace(spec, dependencies=shorter(spec.dependencies), constraints=shorter(spec.constraints))


def only_on(view: SiteSpec, platform: str) -> SiteSpec:
    """Return the view as it would be if it were for one of its platforms alone."""
    spec = replace(view.spec, platforms=(platform,))
    return SiteSpec(spec, view.absent, {**view.inputs, "platforms": [platform]})


def part_for(lock: Lock, platform: str) -> Lock | None:
    """Return the part of a lock for one platform, as a lock; None where it has none."""
    if platform not in lock.platforms:
        return None
    return Lock(lock.view, {**lock.inputs, "platforms": [platform]}, lock.solver, lock.on(platform))
