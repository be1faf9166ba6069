"""What people load a view by: modulefiles, the default's ``.version`` and kernelspecs, all made from releases."""

from __future__ import annotations

import os
from typing import TYPE_CHECKING

from mlviews.files import make_folder, write_atomically
from mlviews.render.kernel import render as render_kernel
from mlviews.render.modulefile import render_lua, render_tcl, version_file

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.store import ReleaseEntry, Store

__all__ = ["write_default_faces", "write_release_faces"]


def write_release_faces(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write a release's modulefiles, and the file that names it to whoever reads the default's ``.version``.

    Raises:
        FailedError: they cannot be written.
    """
    releases = [entry.platforms[platform] for platform in sorted(entry.platforms)]
    folder = store.root / "modulefiles" / releases[0].module
    write_atomically(folder / f"{entry.name}.lua", render_lua(releases))
    write_atomically(folder / entry.name, render_tcl(releases))
    write_atomically(store.view_folder(view) / entry.name / "version", version_file(entry.name))


def write_default_faces(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write what leads to the default release: the module folder's ``.version`` link, and the kernels.

    Raises:
        FailedError: they cannot be written.
    """
    release = entry.platforms[min(entry.platforms)]
    folder = store.root / "modulefiles" / release.module
    target = os.path.relpath(store.view_folder(view) / "default" / "version", folder)
    _link(folder / ".version", target)
    write_atomically(store.root / "kernels" / view / "kernel.json", render_kernel(release, versioned=False))


def _link(link: Path, target: str) -> None:
    make_folder(link.parent)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    temporary.unlink(missing_ok=True)
    temporary.symlink_to(target)
    temporary.replace(link)
