"""Whether a view's lock answers what its recipe asks for now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlviews.errors import BadInputError, FailedError, MlviewsError, RefusedError
from mlviews.lock.lockfile import lock_bytes, lock_path
from mlviews.lock.summary import FoundLock
from mlviews.reading import is_file
from mlviews.recipe.compose import inputs_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlviews.lock.lockfile import Lock
    from mlviews.lock.summary import LockSummary
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec

__all__ = ["LockState", "LockStatus", "changes", "find_lock", "lock_status"]


LockState = Literal["current", "stale", "none", "invalid", "unavailable"]


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
            found += [f"{key}: {item} taken out" for item in before if item not in after]
            found += [f"{key}: {item} added" for item in after if item not in before]
            if before != after and sorted(before) == sorted(after):
                found.append(f"{key}: another order")
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


def find_lock(view: str, *folders: Path | None) -> Path | None:
    """Return the view's lock in the first folder that has one.

    Raises:
        UnreadableError: nobody can tell whether there is one.
    """
    return next((path for folder in folders if folder and is_file(path := lock_path(folder, view))), None)


def lock_status(site_spec: SiteSpec, site: Site) -> LockStatus:
    """Look at the view's lock in the site's folder, or in the one that travels with mlviews."""
    if site_spec.error:
        return LockStatus("unavailable", error=site_spec.error)
    view = site_spec.spec.name
    path = None
    try:
        path = find_lock(view, site.lockfiles, site.shipped_lockfiles)
        if path is None:
            wanted = lock_path(site.lockfiles, view)
            missing = RefusedError("lock-missing", f"there is no {wanted}", f"`mlviews lock {view}` makes it.")
            return LockStatus("none", error=missing)
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
        f"`mlviews lock {view}` makes it anew.",
        faults=changed,
    )
    return LockStatus("stale", path, found, changed, stale)
