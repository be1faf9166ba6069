"""What people load a view by: modulefiles, the default's ``.version`` and kernelspecs, all made from releases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlviews.files import swap_link, write_atomically
from mlviews.render.kernel import render as render_kernel
from mlviews.render.modulefile import default_file, render_lua, render_tcl

if TYPE_CHECKING:
    from mlviews.store import ReleaseEntry, Store

__all__ = ["write_default_faces", "write_release_faces"]


def write_release_faces(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write a release's modulefiles, and beside it what module systems read when it is the default.

    Raises:
        FailedError: they cannot be written.
    """
    releases = [entry.platforms[platform] for platform in sorted(entry.platforms)]
    folder = store.root / "modulefiles" / releases[0].module
    write_atomically(folder / f"{entry.name}.lua", render_lua(releases))
    write_atomically(folder / entry.name, render_tcl(releases))
    name, content = default_file(_tree(store), entry.name)
    write_atomically(store.view_folder(view) / entry.name / name.removeprefix("."), content)


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


def _tree(store: Store) -> str:
    return str(store.prefix / "modulefiles")
