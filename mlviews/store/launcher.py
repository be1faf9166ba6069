"""Find what starts a release on this host, or say why there is none.

Read by `mlviews run` before anything else: no more is imported here than that needs.
"""

from __future__ import annotations

import os
from contextlib import suppress
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.errors import MlviewsError, NotBuiltError, RefusedError, nearest
from mlviews.files.reading import RELEASE_FILE, content, folders_in, is_file, status
from mlviews.hardware import host_platform
from mlviews.store.layout import default_of, refuse_removed

if TYPE_CHECKING:
    from mlviews.release import Release


def no_release_error(root: Path, view: str, *, lost: str = "") -> RefusedError:
    """Return the error for a view that has no default release, with where there is one.

    Args:
        lost: the release that its default link names all the same.
    """
    from mlviews.store.disk import Store  # noqa: PLC0415

    store = Store(root, root)
    built = store.entries(view)
    if built or lost:
        message = f"there is no default release of {view} under {root}"
        if lost:
            message = f"the default of {view}, {lost}, is not there any more under {root}"
        hint = f"`mlviews build {view}` makes one."
        if built:
            hint = f"`mlviews promote {view}/{built[-1].name}` makes the newest one the default."
        return RefusedError("release-missing", message, hint)
    message = f"there is no release of {view} under {root}"
    if site := _site_with(view, root):
        hint = f"Site {site} has one: add `--site {site}`, or type `mlviews use {site}` once."
        return RefusedError("release-missing", message, hint)
    hint = f"`mlviews build {view}` makes one."
    return NotBuiltError("release-missing", message, hint, view=view, built=store.views())


def _site_with(view: str, root: Path) -> str | None:
    """Return a site that has a default release of a view, besides the one of that root."""
    from mlviews.site.file import other_roots  # noqa: PLC0415

    for name, there in other_roots(root):
        with suppress(MlviewsError):  # a root that cannot be read helps nobody
            if default_of(there / "envs" / view):
                return name
    return None


def launcher(root: Path, view: str, release: str | None) -> Path:
    """Return the ``launch`` of a view's release for this host.

    Args:
        release: its release; the default one where None or ``default``.

    Raises:
        RefusedError: there is no such release, it was removed, or it is not for this host's platform.
    """
    folder = root / "envs" / view
    if any(part in {"", ".", ".."} or "/" in part for part in (view, release or "default")):
        raise RefusedError("release-missing", f"{view}/{release} is not a release", "Write VIEW or VIEW/RELEASE.")
    # The link is followed once: a promotion in the middle of the start must not mix two releases.
    chosen = default_of(folder) if release in {None, "default"} else release
    if not chosen:
        raise no_release_error(root, view)
    refuse_removed(folder, chosen)
    launch = folder / chosen / host_platform() / "launch"
    if not is_file(launch.parent / RELEASE_FILE):
        there = [path.name for path in folders_in(folder / chosen)]
        if release in {None, "default"} and not there:
            raise no_release_error(root, view, lost=chosen)
        meant = nearest(chosen, (path.name for path in folders_in(folder)))
        raise RefusedError(
            "release-missing",
            f"there is no release {chosen} of {view} for {host_platform()} under {root}"
            + (f"; it is there for {', '.join(sorted(there))}" if there else meant),
            f"`mlviews releases {view}` lists what there is.",
        )
    if status(launch) is None or not os.access(launch, os.X_OK):
        raise RefusedError("release-broken", f"{launch} cannot be run", f"Build it again: `mlviews build {view}`.")
    return launch


def release_here(root: Path, label: str) -> tuple[Path, Release]:
    """Return where a release for this host lies, and what it is.

    Args:
        label: ``VIEW`` for its default release, or ``VIEW/RELEASE``.

    Raises:
        RefusedError: there is no such release.
    """
    from mlviews.files.storefile import parse  # noqa: PLC0415
    from mlviews.release import Release  # noqa: PLC0415  (who only starts a program need not wait for pydantic)

    name, _, chosen = label.partition("/")
    prefix = launcher(root, name, chosen or None).parent
    return prefix, parse(Release, content(prefix / RELEASE_FILE) or b"", prefix / RELEASE_FILE)
