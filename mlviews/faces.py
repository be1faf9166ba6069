"""What people load a view by: modulefiles, the default's ``.version`` and kernelspecs, all made from releases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlviews.files import swap_link, write_atomically
from mlviews.render.kernel import render as render_kernel
from mlviews.render.modulefile import default_file, render_lua, render_tcl
from mlviews.smoke.proof import proved_gpus
from mlviews.smoke.records import read_records

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.release import Release
    from mlviews.store import ReleaseEntry, Store

__all__ = ["tell_proofs", "write_default_faces", "write_gone_faces", "write_release_faces"]


def write_release_faces(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write a release's modulefiles, and beside it what module systems read when it is the default.

    The modulefiles tell on which GPUs records prove the release's lock.

    Raises:
        FailedError: they cannot be written.
    """
    releases = [entry.platforms[platform] for platform in sorted(entry.platforms)]
    folder = store.root / "modulefiles" / releases[0].module
    gpus = proved_gpus(releases[0].gpus, read_records(store.root, view, entry.lock_digest))
    write_atomically(folder / f"{entry.name}.lua", render_lua(releases, gpus))
    write_atomically(folder / entry.name, render_tcl(releases, gpus))
    name, content = default_file(_tree(store), entry.name)
    write_atomically(store.view_folder(view) / entry.name / name.removeprefix("."), content)


def tell_proofs(store: Store, release: Release, *, waiting: Callable[[str], None]) -> None:
    """Write a release's modulefiles again, after a GPU has proved or refuted its lock.

    Args:
        store: where the release lies.
        release: what was tested.
        waiting: told who holds the view's lock, if this has to wait.

    Raises:
        FailedError: they cannot be written.
    """
    with store.view_lock(release.view, waiting=waiting):
        for entry in store.releases(release.view):
            if entry.lock_digest == release.lock_digest:
                write_release_faces(store, release.view, entry)


def write_default_faces(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write what leads to the default release: the module folder's link to its file, and the kernel.

    The link goes through the view's ``default``, so that promoting a release changes one thing only.

    Raises:
        FailedError: they cannot be written.
    """
    release = entry.platforms[min(entry.platforms)]
    folder = store.root / "modulefiles" / release.module
    name, _ = default_file(_tree(store), entry.name)
    target = store.view_folder(view) / "default" / name.removeprefix(".")
    swap_link(folder / name, os.path.relpath(target, folder))
    write_atomically(store.root / "kernels" / view / "kernel.json", render_kernel(release, versioned=False))


def write_gone_faces(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write the modulefiles of a release that was removed: they say so, and load nothing else instead.

    Raises:
        FailedError: they cannot be written.
    """
    releases = [entry.platforms[platform] for platform in sorted(entry.platforms)]
    module, default = releases[0].module, store.default(view)
    instead = f"{module} loads the default, {default} by then" if default else "it has no default to load instead"
    gone = f"mlviews: release {entry.name} of {view} was removed; {instead}."
    folder = store.root / "modulefiles" / module
    write_atomically(folder / f"{entry.name}.lua", render_lua(releases, gone=gone))
    write_atomically(folder / entry.name, render_tcl(releases, gone=gone))


def _tree(store: Store) -> str:
    return str(store.prefix / "modulefiles")
