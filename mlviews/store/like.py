"""From a result's stamp to the release of the same lock, or to the lock and where it can be had."""

from __future__ import annotations

import os
import shlex
from contextlib import suppress
from typing import TYPE_CHECKING

from mlviews.errors import MlviewsError, RefusedError
from mlviews.hardware import host_platform
from mlviews.lock.lockfile import lock_path
from mlviews.lock.parse import read_lock
from mlviews.lock.status import find_lock
from mlviews.site.file import quick_root, site_files
from mlviews.store.disk import Store
from mlviews.store.locksource import revision_of

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.provenance.stamp import Stamp
    from mlviews.site.profile import Site

_SHOWN = 12  # digits of a digest


def release_of_lock(root: Path, view: str, digest: str) -> str | None:
    """Return a release of a view that a lock gave and that runs on this host: the default one, else the newest."""
    store = Store(root, root)
    platform = host_platform()
    found = [
        entry.name
        for entry in store.releases(view)
        if platform in entry.platforms and entry.lock_digest == digest
    ]  # fmt: skip
    default = store.default(view)
    return default if default in found else found[-1] if found else None


def whence(stamp: Stamp, site: Site, recipes: Path) -> RefusedError:
    """Return the error for a lock that has no release here: which lock it is, and where it can be built from."""
    what = f"no release of {stamp.view} under {site.root} has the lock {stamp.lock[:_SHOWN]}"
    called = f", which was release {stamp.release} where the file was made" if stamp.release else ""
    return RefusedError("lock-not-built", f"{what}{called}", _way(stamp, site, recipes))


def _way(stamp: Stamp, site: Site, recipes: Path) -> str:
    view = stamp.view
    for name in dict.fromkeys(path.stem for path in site_files()):
        with suppress(MlviewsError):  # a root that cannot be read helps nobody
            root = quick_root(name)
            if root and root != site.root and release_of_lock(root, view, stamp.lock):
                return f"Site {name} has one: add `--site {name}`."
    with suppress(MlviewsError):
        path = find_lock(view, site.lockfiles, site.shipped_lockfiles)
        if path and read_lock(path).digest == stamp.lock:
            return f"{path} is that lock: `mlviews build {view}` makes the release."
    if (found := revision_of(lock_path(site.lockfiles, view), stamp.lock)) is not None:
        commit, top, inside = found
        tree = f"{view}-{stamp.lock[:_SHOWN]}"
        options = f"--lockfiles {shlex.quote(os.path.join(tree, inside.parent))}"  # noqa: PTH118
        with suppress(ValueError):  # recipes may lie elsewhere
            options += f" --recipes {shlex.quote(os.path.join(tree, recipes.resolve().relative_to(top)))}"  # noqa: PTH118
        add = f"git -C {shlex.quote(str(top))} worktree add $PWD/{tree} {commit[:_SHOWN]}"
        return f"Git has it: `{add}`, then `mlviews build {view} {options}`."
    if stamp.source:
        return f"Its recipe and its lock are kept in {stamp.source}: the lock says `mlviews-lock-digest: {stamp.lock}`."
    return (
        f"Ask who made the file for the lock of {view} that says `mlviews-lock-digest: {stamp.lock}`, and its recipe."
    )
