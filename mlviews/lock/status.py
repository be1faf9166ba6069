"""Whether a view's lock answers what its recipe asks for now."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any, Literal

from mlviews.errors import BadInputError, FailedError, MlviewsError, RefusedError
from mlviews.files.reading import is_file, is_folder_at
from mlviews.lock.lockfile import Lock, lock_bytes, lock_path, unpacked_scripts
from mlviews.lock.summary import FoundLock, LockSummary
from mlviews.recipe.view import inputs_digest

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence
    from pathlib import Path

    from mlviews.licences import LicenceRemark
    from mlviews.lock.diff import PackageChange
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec

LockState = Literal["current", "stale", "none", "invalid", "unavailable"]
LockOutcome = Literal["new", "updated", "unchanged", "failed", "none"]


def changes(locked: Mapping[str, Any], inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what differs between the inputs of a lock and what the recipe asks for now; empty if it is up to date."""
    if inputs_digest(locked) == inputs_digest(inputs):
        return ()
    found: list[str] = []
    for key in sorted({*locked, *inputs}):
        before, after = locked.get(key), inputs.get(key)
        if isinstance(before, dict) and isinstance(after, dict):
            found += [
                f"{key}.{part}: {before.get(part)} -> {after.get(part)}"
                for part in sorted({*before, *after})
                if before.get(part) != after.get(part)
            ]
        elif isinstance(before, list) and isinstance(after, list):
            told = [f"{key}: {item} taken out" for item in before if item not in after]
            told += [f"{key}: {item} added" for item in after if item not in before]
            if before != after and not told:
                told = [f"{key}: {'another order' if len(before) == len(after) else 'one is named more than once'}"]
            found += told
        elif before != after:
            found.append(f"{key}: {before} -> {after}")
    return tuple(found)


@dataclass(frozen=True, slots=True)
class LockStatus:
    """A view's lock as it stands.

    Attributes:
        state: ``unavailable`` where the site cannot have the view at all.
        found: the lock's file, where it holds a lock of the view.
        changes: what the recipe changed since, where the lock is stale.
        error: why the lock cannot be installed from, unless it is current.
    """

    state: LockState
    path: Path | None = None
    found: FoundLock | None = None
    changes: tuple[str, ...] = ()
    error: MlviewsError | None = None

    @property
    def lock(self) -> Lock | None:
        """The whole lock; who needs no packages takes the summary, which is there at once."""
        return self.found.lock if self.found else None

    @property
    def summary(self) -> LockSummary | None:
        """The lock without its packages."""
        return self.found.summary if self.found else None

    @property
    def unreadable(self) -> tuple[FailedError, ...]:
        """The error where a lock may be fine, and cannot be read."""
        return (self.error,) if isinstance(self.error, FailedError) else ()


def find_lock(view: str, folders: Iterable[Path]) -> Path | None:
    """Return the view's lock in the first folder that has one."""
    return next(filter(is_file, (lock_path(folder, view) for folder in folders)), None)


def no_lock_error(view: str, site: Site) -> RefusedError:
    """Return the error for a view that has no lock at a site."""
    wanted = lock_path(site.lockfiles, view)
    return RefusedError("lock-missing", f"there is no {wanted}", f"`mlviews lock {view}` makes it.")


def lock_status(site_spec: SiteSpec, site: Site) -> LockStatus:
    """Look at the view's lock in the site's folder, or in the one that travels with mlviews."""
    if site_spec.error:
        return LockStatus("unavailable", error=site_spec.error)
    view = site_spec.spec.name
    path = None
    try:
        path = find_lock(view, site.lock_folders)
        if path is None:
            return LockStatus("none", error=no_lock_error(view, site))
        found = FoundLock(path, view, lock_bytes(path))
        lock = found.summary
    except MlviewsError as error:
        return LockStatus("invalid", path, error=error)
    if lock.view != view:
        other = BadInputError(
            "lock-invalid", f"{path} is the lock of view {lock.view!r}", f"`mlviews lock {view}` makes its own."
        )
        return LockStatus("invalid", path, error=other)
    changed = changes(lock.inputs, site_spec.inputs)
    if not changed:
        return LockStatus("current", path, found)
    stale = RefusedError(
        "lock-stale",
        f"{path} is stale: the recipe has changed since",
        f"`mlviews lock {view}` makes it again.",
        faults=changed,
    )
    return LockStatus("stale", path, found, changed, stale)


@dataclass(frozen=True, slots=True)
class LockedView:
    """What became of one view's lock.

    Attributes:
        status: ``none`` where none was due: a view with wheels is locked where it is built.
        changes: against the lock before.
        link_scripts: packages with a post-link script that the recipe does not name; of those alone that lie unpacked
            in the cache, since no channel tells of scripts.
        licences: what the site says of packages' licences, where it looks at them.
    """

    view: str
    path: Path
    status: LockOutcome
    digest: str | None
    packages: int
    changes: tuple[PackageChange, ...]
    link_scripts: tuple[str, ...] = ()
    licences: tuple[LicenceRemark, ...] = ()


@dataclass(frozen=True, slots=True)
class LockResult:
    """``mlviews lock``.

    Attributes:
        unusable: archives of a channel that were left out of the solve, since no lock can hold them, and why.
    """

    locks: tuple[LockedView, ...]
    unusable: Mapping[str, str] = field(default_factory=dict)


def check_locks(
    site_specs: Sequence[SiteSpec], site: Site, *, every: bool = False
) -> tuple[LockResult, tuple[MlviewsError, ...]]:
    """Tell whether the locks of views answer their recipes, and what is wrong with those that do not.

    Args:
        every: whether they are all that there are. Such as have wheels then need no lock: it names an index's files,
            and is made where the view is built.
    """
    statuses = [lock_status(site_spec, site) for site_spec in site_specs]
    locks, errors = [], []
    for site_spec, status in zip(site_specs, statuses, strict=True):
        if every and status.state == "none" and site_spec.spec.pypi:
            locks.append(locked_view(site_spec, lock_path(site.lockfiles, site_spec.spec.name), "none"))
            continue
        errors += [status.error] if status.error else []
        path = status.path or lock_path(site.lockfiles, site_spec.spec.name)
        summary = status.summary if status.error is None else None
        if summary is None:
            locks.append(locked_view(site_spec, path, "failed"))
        elif is_folder_at(site.cache / "pkgs"):  # packages may lie unpacked there: each is looked at
            locks.append(locked_view(site_spec, path, "unchanged", status.lock, cache=site.cache))
        else:
            count = sum(summary.packages.values())
            locks.append(LockedView(site_spec.spec.name, path, "unchanged", summary.digest, count, ()))
    return LockResult(tuple(locks)), tuple(errors)


def locked_view(
    site_spec: SiteSpec,
    path: Path,
    status: LockOutcome,
    lock: Lock | None = None,
    changes: tuple[PackageChange, ...] = (),
    *,
    cache: Path | None = None,
) -> LockedView:
    """Return what became of a view's lock.

    Args:
        path: where its lock lies, or would.
        cache: of the site, where packages may lie unpacked.
    """
    digest, packages = (lock.digest, len(lock.packages)) if lock else (None, 0)
    known = unpacked_scripts(lock.packages, cache) if lock and cache else frozenset()
    skipped = tuple(sorted(known - {*site_spec.spec.link_scripts}))
    return LockedView(site_spec.spec.name, path, status, digest, packages, changes, skipped)
