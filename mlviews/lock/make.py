"""From views to lock files: read what was locked, solve side by side, write what changed."""

from __future__ import annotations

import asyncio
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.conda.channels import Sources, open_sources
from mlviews.errors import BadInputError, FailedError, MlviewsError, RefusedError, nearest
from mlviews.files.permissions import share
from mlviews.files.writing import write_atomically
from mlviews.lock.diff import compare
from mlviews.lock.lockfile import Lock, lock_path
from mlviews.lock.packages import lock_of
from mlviews.lock.status import LockedView, LockOutcome, LockResult, LockStatus, lock_status, locked_view
from mlviews.lock.writer import lock_text
from mlviews.loop import run
from mlviews.progress import Advance, Progress, silent
from mlviews.recipe.view import Origin, Request, ViewSpec
from mlviews.site.spec import SiteSpec
from mlviews.solve.conflict import Base, askers
from mlviews.solve.solver import Solution, solve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
    from datetime import datetime

    from rattler import RepoDataRecord

    from mlviews.licences import LicenceRemark
    from mlviews.site.profile import Site
    from mlviews.wheels.convert import Offer
    from mlviews.wheels.offers import Index

_SIDE_BY_SIDE = 16  # views: each holds the metadata of some thousand packages while it is solved


@dataclass(frozen=True, slots=True)
class LockOptions:
    """What a re-lock may change: nothing that fits, the named packages, or everything.

    Attributes:
        upgrade: choose everything anew.
        packages: choose these anew, keep the rest wherever that is possible.
        as_of: leave out what was built later than this (UTC).
    """

    upgrade: bool = False
    packages: frozenset[str] = frozenset()
    as_of: datetime | None = None


def lock_views(
    site_specs: Sequence[SiteSpec], site: Site, options: LockOptions, *, progress: Progress = silent
) -> tuple[LockResult, tuple[MlviewsError, ...]]:
    """Lock views side by side and write each lock that changed; one view's failure does not stop the others.

    Returns:
        What became of each view, and the errors of those that failed.

    Raises:
        BadInputError: a mirror is given for a channel that is not used, no view has a package to be upgraded, or this
            host does not know the site's group.
        KeyboardInterrupt: Ctrl-C; locks that were not yet written stay as they were.
    """
    share(site.root, site.group)
    statuses = [lock_status(site_spec, site) for site_spec in site_specs]
    _refuse_unknown_upgrades([status.lock for status in statuses if status.lock], options.packages)
    prepared = [
        _prepared(site_spec, status, site, options, progress=progress)
        for site_spec, status in zip(site_specs, statuses, strict=True)
    ]
    found, left_out = _lock_prepared(prepared, statuses, site, options, progress=progress)
    locks = tuple(
        item
        if isinstance(item, LockedView)
        else locked_view(asked, lock_path(site.lockfiles, asked.spec.name), "failed")
        for asked, item in zip(site_specs, found, strict=True)
    )
    return LockResult(locks, left_out), tuple(item for item in found if isinstance(item, MlviewsError))


def _lock_prepared(
    prepared: Sequence[SiteSpec | MlviewsError],
    statuses: Sequence[LockStatus],
    site: Site,
    options: LockOptions,
    *,
    progress: Progress,
) -> tuple[Sequence[LockedView | MlviewsError], Mapping[str, str]]:
    """Return what became of each view, and which archives of the channels no lock can hold."""
    solvable = [item for item in prepared if isinstance(item, SiteSpec)]
    if not solvable:
        return [item for item in prepared if isinstance(item, MlviewsError)], {}
    platforms = dict.fromkeys(platform for site_spec in solvable for platform in site_spec.spec.platforms)
    opened = site.channels if site.packages == "conda" or any(item.base is None for item in solvable) else ()
    sources = open_sources(opened, platforms, mirrors=site.mirrors, cache=site.cache)

    async def lock_all(advance: Advance) -> list[LockedView | MlviewsError]:
        places = asyncio.Semaphore(_SIDE_BY_SIDE)

        async def one(site_spec: SiteSpec | MlviewsError, status: LockStatus) -> LockedView | MlviewsError:
            if isinstance(site_spec, MlviewsError):
                return site_spec
            try:
                async with places:
                    return await _lock_one(site_spec, status, site, options, sources, progress=progress)
            except MlviewsError as error:
                return error
            finally:
                advance(note=site_spec.spec.name)

        return await asyncio.gather(*map(one, prepared, statuses))

    with progress("Solving", total=len(solvable)) as advance:
        return run(lock_all(advance)), sources.left_out


def _prepared(
    site_spec: SiteSpec, status: LockStatus, site: Site, options: LockOptions, *, progress: Progress
) -> SiteSpec | MlviewsError:
    if isinstance(status.error, FailedError):
        return status.error  # the lock may be fine, and cannot be opened: it is not written over
    kept: dict[str, str] = {}
    if status.lock and not options.upgrade:
        kept = {item.name: item.version for item in status.lock.packages if item.name not in options.packages}
    try:
        return prepare_view(site_spec, site, kept=kept, as_of=options.as_of, progress=progress)
    except MlviewsError as error:
        return error


def prepare_view(
    site_spec: SiteSpec, site: Site, *, kept: Mapping[str, str], as_of: datetime | None, progress: Progress = silent
) -> SiteSpec:
    """Return the view as it is solved; a site of wheels first makes the channel that it is solved from.

    Args:
        kept: package -> version that pip is to keep wherever that is possible; of no use elsewhere.
        as_of: the day that the solve looks back to.

    Raises:
        RefusedError: the site cannot have the view, or cannot look back, or pip finds no set of wheels that fits.
    """
    if site_spec.error:
        raise site_spec.error
    if site.packages == "conda" or site_spec.base:
        return site_spec
    if as_of:
        refuse_looking_back(site)
    from mlviews.wheels.channel import make_channel  # noqa: PLC0415  (only such sites need it)

    spec = site_spec.spec
    made = make_channel(
        [request.text for request in spec.dependencies],
        pins=site_spec.pins,
        cache=site.cache,
        cuda=spec.hardware.cuda,
        cpu_index=site.cpu_index,
        constraints=[request.text for request in spec.constraints],
        keep=kept,
        sdists=spec.sdists,
        overrides=spec.loosened,
        askers={request.text: askers(request) for request in spec.dependencies},
        progress=progress,
    )
    chosen = Origin(f"site {site.name}", "what pip resolved")
    pinned = tuple(Request(text, (chosen,)) for text in made.constraints)
    return replace(site_spec, spec=replace(spec, constraints=(*spec.constraints, *pinned)))


def refuse_looking_back(site: Site) -> None:
    """Refuse to look back to an earlier day.

    Raises:
        RefusedError: the site is one of wheels.
    """
    if site.packages == "wheels":
        raise RefusedError(
            "as-of-wheels", f"site {site.name} has no --as-of: wheels carry no date", "Leave --as-of out."
        )


async def _lock_one(
    site_spec: SiteSpec, status: LockStatus, site: Site, options: LockOptions, sources: Sources, *, progress: Progress
) -> LockedView:
    spec = site_spec.spec
    base = Base(site_spec.base.name, site_spec.base.records(spec.replace)) if site_spec.base else None
    editable = _editable(spec, site, progress)
    solutions: list[Solution] = []
    for platform in spec.platforms:
        old = None if options.upgrade else status.lock
        beside = sources if base is None else sources.only(()) if site.packages == "wheels" else sources.noarch()
        kept = await _kept(old, platform, options.packages, beside)
        wheels = [one for one in old.on(platform) if one.manager == "pip"] if old and spec.pypi else []
        found = await solve(
            spec,
            platform,
            beside,
            locked=kept,
            as_of=options.as_of,
            base=base,
            index=index_of(site, progress) if spec.pypi or editable else None,
            kept={wheel.url: wheel.sha256 for wheel in wheels if wheel.name not in options.packages},
            editable=editable,
        )
        solutions.append(found)
    lock = lock_of(site_spec, solutions)
    remarks: tuple[LicenceRemark, ...] = ()
    if site.licences:
        from mlviews.licences import judge, refuse_denied  # noqa: PLC0415  (few sites look at them)

        remarks = judge(_licences(solutions), site.licences)
        needs = {package.name: package.dependencies.keys() for package in lock.packages}
        refuse_denied(spec.name, remarks, needs, {request.name for request in spec.asked})
    path = lock_path(site.lockfiles, spec.name)
    same = status.lock and status.path == path and status.lock.digest == lock.digest
    if not same:
        write_atomically(path, lock_text(lock))
    changes = () if same or status.lock is None else compare(status.lock, lock)
    became: LockOutcome = "unchanged" if same else "updated" if status.lock else "new"
    return replace(locked_view(site_spec, path, became, lock, changes, cache=site.cache), licences=remarks)


def _licences(solutions: Iterable[Solution]) -> Iterator[tuple[str, str]]:
    """Yield each package and the licence that its channel or its wheel states."""
    for found in solutions:
        yield from ((record.name.normalized, record.license or "") for record in found.packages)
        if not found.wheels:
            continue
        from mlviews.wheels.convert import stated_license  # noqa: PLC0415  (only views with wheels need it)

        yield from ((wheel.offer.name, stated_license(wheel.offer)) for wheel in found.wheels)


def index_of(site: Site, progress: Progress = silent) -> Index:
    """Return where a site looks wheels up: with pip's own configuration."""
    from mlviews.wheels.offers import Index  # noqa: PLC0415  (only views with wheels need it)

    return Index(site.cache / "index", site.cache, progress)


def _editable(spec: ViewSpec, site: Site, progress: Progress) -> tuple[Offer, ...]:
    if not spec.editable:
        return ()
    from mlviews.wheels.editable import editable_offer  # noqa: PLC0415  (few views need it)

    return tuple(editable_offer(Path(folder), site.cache, progress=progress) for folder in spec.editable)


def _refuse_unknown_upgrades(locks: Iterable[Lock], packages: Collection[str]) -> None:
    locked = {package.name for lock in locks for package in lock.packages}
    for name in sorted(packages):
        if name not in locked:
            raise BadInputError(
                "package-not-locked",
                f"no package {name!r} is locked{nearest(name, locked)}",
                "Take the name from the lock, or upgrade all with --upgrade.",
            )


async def _kept(lock: Lock | None, platform: str, upgraded: Collection[str], sources: Sources) -> list[RepoDataRecord]:
    """Return the channel's repodata of what was locked: only it holds all that the solver needs."""
    if lock is None:
        return []
    channels = [package for package in lock.on(platform) if package.manager == "conda"]
    urls = {package.name: package.url for package in channels if package.name not in upgraded}
    found = await sources.repodata(platform, urls)
    return [record for record in found if record.url == urls[record.name.normalized]]
