"""From views to lock files: read what was locked, solve side by side, write what changed."""

from __future__ import annotations

import asyncio
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from importlib import import_module
from typing import TYPE_CHECKING, Literal

from mlviews.conda.channels import open_sources
from mlviews.errors import BadInputError, MlviewsError, RefusedError
from mlviews.files import write_atomically
from mlviews.lock.diff import compare
from mlviews.lock.lockfile import Lock, find_lock, lock_of, lock_path, lock_state, read_lock
from mlviews.loop import run
from mlviews.progress import silent
from mlviews.recipe.compose import Origin, Request
from mlviews.recipe.model import nearest
from mlviews.site.spec import SiteSpec, for_site
from mlviews.solve import solve

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable, Mapping, Sequence
    from datetime import datetime
    from pathlib import Path

    from rattler import RepoDataRecord

    from mlviews.conda.channels import Sources
    from mlviews.lock.diff import Change
    from mlviews.progress import Advance, Progress
    from mlviews.recipe.compose import ViewSpec
    from mlviews.site.profile import Site
    from mlviews.solve import Solution

__all__ = ["LockOptions", "Locked", "check_lock", "lock_views", "prepare_view", "refuse_looking_back"]

_WRITER = "mlviews.lock.writer"


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


@dataclass(frozen=True, slots=True)
class Locked:
    """What became of one view: its lock and how it differs from the one before, or the error."""

    view: str
    path: Path
    status: Literal["new", "updated", "unchanged", "failed"]
    lock: Lock | None = None
    changes: tuple[Change, ...] = ()
    error: MlviewsError | None = None


def check_lock(spec: ViewSpec, site: Site) -> Locked:
    """Tell whether a view's lock answers its recipe; nothing is written."""
    found = lock_state(spec, site)
    path = found.path or lock_path(site.lockfiles, spec.name)
    if found.error:
        return Locked(spec.name, path, "failed", error=found.error)
    return Locked(spec.name, path, "unchanged", found.lock)


def lock_views(
    specs: Sequence[ViewSpec], site: Site, wishes: LockOptions, *, progress: Progress = silent
) -> tuple[Locked, ...]:
    """Lock views side by side and write each lock that changed; one view's failure does not stop the others.

    Raises:
        FailedError: a channel's folder cannot be read.
        BadInputError: a mirror is given for a channel that is not used, or no view has a package to be upgraded.
        KeyboardInterrupt: Ctrl-C; locks that were not yet written stay as they were.
    """
    befores = {spec.name: _before(spec, site) for spec in specs}
    _refuse_unknown_upgrades(befores.values(), wishes.packages)
    prepared = [_prepare(spec, befores[spec.name], site, wishes, progress=progress) for spec in specs]
    views = [view for view in prepared if isinstance(view, SiteSpec)]
    platforms = dict.fromkeys(platform for view in views for platform in view.spec.platforms)
    if not views:
        return tuple(view for view in prepared if isinstance(view, Locked))
    sources = open_sources(site.channels, platforms, mirrors=site.mirrors, cache=site.cache)

    async def lock_all(advance: Advance) -> list[Locked]:
        async def one(view: SiteSpec | Locked) -> Locked:
            if isinstance(view, Locked):
                return view
            try:
                return await _lock_one(view, befores[view.spec.name], site, wishes, sources, background=background)
            except MlviewsError as error:
                return _failed(view.spec, site, error)
            finally:
                advance(note=view.spec.name)

        return await asyncio.gather(*(one(view) for view in prepared))

    background = ThreadPoolExecutor(1)
    if any(before.lock is None for before in befores.values()):
        # conda-lock takes half a second to import: meanwhile the solver, which is not Python, works.
        background.submit(import_module, _WRITER)
    try:
        with progress("Solving", total=len(views)) as advance:
            return tuple(run(lock_all(advance)))
    finally:
        background.shutdown(wait=False)  # an interrupt does not wait for an import


def _failed(spec: ViewSpec, site: Site, error: MlviewsError) -> Locked:
    return Locked(spec.name, lock_path(site.lockfiles, spec.name), "failed", error=error)


def _prepare(
    spec: ViewSpec, before: _Before, site: Site, wishes: LockOptions, *, progress: Progress
) -> SiteSpec | Locked:
    try:
        kept = _kept_versions(before.lock, wishes)
        return prepare_view(spec, site, kept=kept, as_of=wishes.as_of, progress=progress)
    except MlviewsError as error:
        return _failed(spec, site, error)


def prepare_view(
    spec: ViewSpec, site: Site, *, kept: Mapping[str, str], as_of: datetime | None, progress: Progress = silent
) -> SiteSpec:
    """Return the view as the site solves it; a site of wheels first makes the channel that it is solved from.

    Args:
        spec: the view.
        site: where it is solved.
        kept: package -> version that pip is to keep wherever that is possible; of no use elsewhere.
        as_of: the day that the solve looks back to.
        progress: told about wheels.

    Raises:
        RefusedError: the site cannot have the view, or cannot look back, or pip finds no set of wheels that fits.
        FailedError: wheels cannot be fetched or made into packages.
    """
    view = for_site(spec, site)
    if site.packages == "conda":
        return view
    if as_of:
        refuse_looking_back(site)
    from mlviews.wheels.channel import make_channel  # noqa: PLC0415  (only such sites need it)

    made = make_channel(
        [request.text for request in view.spec.dependencies],
        pins=site.pins,
        cache=site.cache,
        constraints=[request.text for request in view.spec.constraints],
        keep=kept,
        progress=progress,
    )
    chosen = Origin(f"site {site.name}", "what pip resolved")
    pinned = tuple(Request(text, (chosen,)) for text in made.constraints)
    return replace(view, spec=replace(view.spec, constraints=(*view.spec.constraints, *pinned)))


def refuse_looking_back(site: Site) -> None:
    """Refuse to look back to an earlier day at a site that cannot.

    Raises:
        RefusedError: it makes its packages of wheels.
    """
    if site.packages == "wheels":
        raise RefusedError(
            "as-of-wheels", f"site {site.name} cannot look back: wheels carry no date", "Leave --as-of out."
        )


def _kept_versions(lock: Lock | None, wishes: LockOptions) -> dict[str, str]:
    if lock is None or wishes.upgrade:
        return {}
    return {package.name: package.version for package in lock.packages if package.name not in wishes.packages}


async def _lock_one(
    view: SiteSpec,
    before: _Before,
    site: Site,
    wishes: LockOptions,
    sources: Sources,
    *,
    background: ThreadPoolExecutor,
) -> Locked:
    spec = view.spec
    solutions: list[Solution] = []
    for platform in spec.platforms:
        kept = [] if wishes.upgrade else await _kept(before.lock, platform, wishes.packages, sources)
        solutions.append(await solve(spec, platform, sources, locked=kept, as_of=wishes.as_of))
    path = lock_path(site.lockfiles, spec.name)
    lock = lock_of(view, solutions)
    if before.lock and before.path == path and before.lock.digest == lock.digest:
        return Locked(spec.name, path, "unchanged", before.lock)
    # In the thread that began it: two threads that import one module hide each other's errors.
    writer = await asyncio.get_running_loop().run_in_executor(background, import_module, _WRITER)
    write_atomically(path, writer.lock_text(lock, spec))
    if before.lock is None:
        return Locked(spec.name, path, "new", lock)
    return Locked(spec.name, path, "updated", lock, compare(before.lock, lock))


@dataclass(frozen=True, slots=True)
class _Before:
    path: Path | None
    lock: Lock | None


def _before(spec: ViewSpec, site: Site) -> _Before:
    path = find_lock(spec.name, site.lockfiles, site.shipped_lockfiles)
    if path is None:
        return _Before(None, None)
    try:
        return _Before(path, read_lock(path))
    except BadInputError:
        # Locking is how a broken lock is mended: it has nothing to keep.
        return _Before(path, None)


def _refuse_unknown_upgrades(befores: Iterable[_Before], packages: Collection[str]) -> None:
    locked = {package.name for before in befores if before.lock for package in before.lock.packages}
    for name in sorted(packages):
        if name not in locked:
            raise BadInputError(
                "package-not-locked",
                f"no package {name!r} is locked{nearest(name, locked)}",
                "Take the name from the lock, or upgrade all with --upgrade.",
            )


async def _kept(
    before: Lock | None, platform: str, upgraded: Collection[str], sources: Sources
) -> list[RepoDataRecord]:
    """Return the channel's records of what was locked: only they hold all that the solver needs."""
    if before is None:
        return []
    urls = {package.name: package.url for package in before.on(platform) if package.name not in upgraded}
    return [record for record in await sources.records(platform, urls) if record.url == urls[record.name.normalized]]
