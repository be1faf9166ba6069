"""Whether a view's lock is there, and answers what the recipe asks for now."""

from __future__ import annotations

from dataclasses import dataclass
from typing import TYPE_CHECKING, Literal

from mlviews.errors import BadInputError, MlviewsError, RefusedError
from mlviews.lock.lockfile import Lock, changes, find_lock, lock_path, read_lock
from mlviews.site.spec import for_site

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.recipe.compose import ViewSpec
    from mlviews.site.profile import Site

__all__ = ["LockState", "lock_state"]


@dataclass(frozen=True, slots=True)
class LockState:
    """A view's lock as it stands.

    Attributes:
        state: ``unavailable`` where the site cannot have the view at all.
        changes: what the recipe changed since, where the lock is stale.
        error: why the lock cannot be installed from, unless it is current.
    """

    state: Literal["current", "stale", "none", "invalid", "unavailable"]
    path: Path | None = None
    lock: Lock | None = None
    changes: tuple[str, ...] = ()
    error: MlviewsError | None = None


def lock_state(spec: ViewSpec, site: Site) -> LockState:
    """Look at the view's lock in the site's folder, or in the one that travels with mlviews."""
    try:
        view = for_site(spec, site)
    except MlviewsError as error:
        return LockState("unavailable", error=error)
    path = find_lock(spec.name, site.lockfiles, site.shipped_lockfiles)
    if path is None:
        wanted = lock_path(site.lockfiles, spec.name)
        missing = RefusedError("lock-missing", f"there is no {wanted}", f"`mlviews lock {spec.name}` makes it.")
        return LockState("none", error=missing)
    try:
        lock = read_lock(path)
    except MlviewsError as error:
        return LockState("invalid", path, error=error)
    if lock.view != spec.name:
        other = BadInputError(
            "lock-invalid", f"{path} is the lock of view {lock.view!r}", f"`mlviews lock {spec.name}` makes its own."
        )
        return LockState("invalid", path, error=other)
    found = changes(lock, view.inputs)
    if not found:
        return LockState("current", path, lock)
    stale = RefusedError(
        "lock-stale",
        f"{path} is stale: the recipe has changed since",
        f"`mlviews lock {spec.name}` makes it anew.",
        faults=found,
    )
    return LockState("stale", path, lock, found, stale)
