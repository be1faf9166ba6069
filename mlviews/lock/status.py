"""Whether a view's lock answers what its recipe asks for now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Any, Literal

from mlviews.errors import BadInputError, MlviewsError, RefusedError
from mlviews.lock.lockfile import lock_path, read_lock
from mlviews.reading import is_file
from mlviews.recipe.compose import inputs_digest

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

    from mlviews.lock.lockfile import Lock
    from mlviews.site.profile import Site
    from mlviews.site.spec import SiteSpec

__all__ = ["LockState", "LockStatus", "changes", "find_lock", "lock_status"]


LockState = Literal["current", "stale", "none", "invalid", "unavailable"]


def changes(lock: Lock, inputs: Mapping[str, Any]) -> tuple[str, ...]:
    """Say what differs between the inputs of a lock and what the recipe asks for now; empty if it is up to date."""
    if lock.recipe_digest == inputs_digest(inputs):
        return ()
    found: list[str] = []
    for key in sorted({*lock.inputs, *inputs}):
        before, after = lock.inputs.get(key), inputs.get(key)
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
        changes: what the recipe changed since, where the lock is stale.
        error: why the lock cannot be installed from, unless it is current.
    """

    state: LockState
    path: Path | None = None
    lock: Lock | None = None
    changes: tuple[str, ...] = ()
    error: MlviewsError | None = None


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
        lock = read_lock(path) if path else None
    except MlviewsError as error:
        return LockStatus("invalid", path, error=error)
    if lock is None:
        wanted = lock_path(site.lockfiles, view)
        missing = RefusedError("lock-missing", f"there is no {wanted}", f"`mlviews lock {view}` makes it.")
        return LockStatus("none", error=missing)
    if lock.view != view:
        other = BadInputError(
            "lock-invalid", f"{path} is the lock of view {lock.view!r}", f"`mlviews lock {view}` makes its own."
        )
        return LockStatus("invalid", path, error=other)
    found = changes(lock, site_spec.inputs)
    if not found:
        return LockStatus("current", path, lock)
    stale = RefusedError(
        "lock-stale",
        f"{path} is stale: the recipe has changed since",
        f"`mlviews lock {view}` makes it anew.",
        faults=found,
    )
    return LockStatus("stale", path, lock, found, stale)
