"""What people load a view by: modulefiles, the default's ``.version`` and kernelspecs, all made from releases."""

from __future__ import annotations

import os
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import mlviews
from mlviews import jupyter
from mlviews.files.reading import link_text
from mlviews.files.writing import delete_tree, remove_file, swap_link, write_atomically
from mlviews.render import modulefile
from mlviews.render.modulefile import ModuleNotes, SharedDefault, default_file, render_lua, render_tcl
from mlviews.smoke.records import proved_gpus, read_records

if TYPE_CHECKING:
    from collections.abc import Callable, Mapping, Sequence
    from pathlib import Path

    from mlviews.release import Release
    from mlviews.store.disk import ReleaseEntry, Store

# What every view has tells nothing of what one is for.
_COMMON = {"python", "pip", "ipykernel"}
_STAND_INS = 3


def write_release_loaders(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write a release's modulefiles and kernel, and beside it what module systems read when it is the default.

    The modulefiles tell on which GPUs records prove the release's lock. Without Python there is no kernel.

    Raises:
        FailedError: they cannot be written.
        UnreadableError: a platform of the release cannot be read, which they would then leave out.
    """
    for error in entry.errors.values():
        raise error
    releases = [entry.platforms[platform] for platform in sorted(entry.platforms)]
    _write_modulefiles(store, releases, module_notes(store, entry))
    _write_kernel(store, releases[0], versioned=True)
    shared = SharedDefault(store.baked(store.root / "envs"), releases[0]) if releases[0].cuda else None
    name, content = default_file(_tree(store), entry.name, shared)
    write_atomically(store.view_folder(view) / entry.name / name.removeprefix("."), content)


def _write_modulefiles(store: Store, releases: Sequence[Release], told: ModuleNotes) -> None:
    for module, version in releases[0].modules:
        alike = [release.model_copy(update={"module": module}) for release in releases]
        folder = store.root / "modulefiles" / module
        write_atomically(folder / f"{version}.lua", render_lua(alike, told))
        write_atomically(folder / version, render_tcl(alike, told))


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
                write_release_loaders(store, release.view, entry)


def leave_other_modules(store: Store, view: str, entry: ReleaseEntry) -> None:
    """See to it that modules which do not hold a release do not name it when it becomes the default.

    They are those that the view's releases had before its recipe named another module. What is left is a module without
    a default of its own: module systems give its newest release.

    Raises:
        FailedError: they cannot be changed.
    """
    for path, target in other_defaults(store, view, entry):
        if link_text(store.root / path) == target:  # another view may share the module
            remove_file(store.root / path)


def other_defaults(store: Store, view: str, entry: ReleaseEntry) -> tuple[tuple[str, str], ...]:
    """Return the links of those modules, by their path below the root, and the text that makes each the view's."""
    own = entry.platforms[min(entry.platforms)].module
    name, _ = default_file(_tree(store), entry.name)
    modules = {item.module for other in store.releases(view) for item in other.platforms.values()} - {own}
    links = [store.root / "modulefiles" / module / name for module in sorted(modules)]
    return tuple((str(link.relative_to(store.root)), _default_target(store, view, link)) for link in links)


def _default_target(store: Store, view: str, link: Path) -> str:
    return os.path.relpath(store.view_folder(view) / "default" / link.name.removeprefix("."), link.parent)


def write_default_loaders(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write what leads to the default release: the module folder's link, the kernel, and ``views/<view>``.

    The links go through the view's ``default``, so that promoting a release changes one thing only. ``views/<view>``
    has the shape of an LCG view: ``views/<view>/<platform>/setup.sh``.

    Raises:
        FailedError: they cannot be written.
    """
    release = entry.platforms[min(entry.platforms)]
    name, _ = default_file(_tree(store), entry.name)
    link = store.root / "modulefiles" / release.module / name
    swap_link(link, _default_target(store, view, link))
    _write_kernel(store, release, versioned=False)
    swap_link(store.root / "views" / view, os.path.relpath(store.view_folder(view) / "default", store.root / "views"))


def write_command_loaders(store: Store) -> None:
    """Write the module that brings the ``mlviews`` command, the one that is running.

    Raises:
        FailedError: they cannot be written.
    """
    version = mlviews.__version__
    folder = store.root / "commands" / version
    write_atomically(folder / "mlviews", modulefile.render_command_program(sys.executable), executable=True)
    modules = store.root / "modulefiles" / modulefile.MODULE
    places = {"root": store.prefix, "folder": store.baked(folder)}
    write_atomically(modules / f"{version}.lua", modulefile.render_command_lua(version, **places))
    write_atomically(modules / version, modulefile.render_command_tcl(version, **places))


def module_notes(store: Store, entry: ReleaseEntry) -> ModuleNotes:
    """Return what a modulefile tells of a release besides what the release holds."""
    release = entry.platforms[min(entry.platforms)]
    gpus = proved_gpus(release.gpus, read_records(store.root, release.view, entry.lock_digest))
    return ModuleNotes(gpus, _stand_ins(store, release) if release.cuda else ())


def _stand_ins(store: Store, release: Release) -> tuple[tuple[str, str | None], ...]:
    """Return the modules of other views that share what was asked for, those that share most first."""
    found = []
    for view in store.views():
        default = store.default(view)
        platforms = store.entry(view, default).platforms if default else {}
        other = platforms[min(platforms)] if platforms else release
        shared = {*map(_plain, release.requested)} & {*map(_plain, other.requested)} - _COMMON
        if other.view != release.view and shared:
            found.append((-len(shared), other.module, other.cuda))
    return tuple((module, cuda) for _, module, cuda in sorted(found, key=lambda item: item[:2])[:_STAND_INS])


def _plain(package: str) -> str:
    """Return a package's name without what tells its build for a GPU from the one without."""
    return package.removesuffix("-gpu").removesuffix("-cpu")


def _write_kernel(store: Store, release: Release, *, versioned: bool) -> None:
    folder = store.root / "kernels" / jupyter.kernel_name(release, versioned=versioned)
    if not release.has_python:
        delete_tree(folder)  # the default before this one may have had Python
        return
    for name, text in jupyter.kernelspec(release, versioned=versioned).items():
        write_atomically(folder / name, text)


def write_removed_loaders(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write the modulefiles and the kernel of a release that was removed: they say so, and load nothing else instead.

    Raises:
        FailedError: they cannot be written.
    """
    releases = [entry.platforms[platform] for platform in sorted(entry.platforms)]
    module, default = releases[0].module, store.default(view)
    now = store.entry(view, default).platforms if default else {}
    loads = next((release.module for release in now.values()), module)
    instead = f"{loads} loads the default, {default} by then" if default else "it has no default to load instead"
    removed = f"mlviews: release {entry.name} of {view} was removed; {instead}."
    _write_modulefiles(store, releases, ModuleNotes(gone=removed))
    if releases[0].has_python:
        kernelspec = store.root / "kernels" / jupyter.kernel_name(releases[0]) / jupyter.SPECIFICATION
        write_atomically(kernelspec, jupyter.render_kernel(releases[0], removed=True))


def remove_loaders(store: Store, view: str, modules: Mapping[str, Sequence[tuple[str, str]]]) -> None:
    """Delete what leads to a view that has no release any more: modulefiles, their default, kernels, ``views/<view>``.

    Args:
        store: where they lie.
        view: the view.
        modules: of each release that was removed, the modules and versions that tell of it; none where nobody knows.

    Raises:
        FailedError: one cannot be deleted.
    """
    for release, found in modules.items():
        delete_tree(store.root / "kernels" / f"{view}-{release}")
        for module, version in found:
            folder = store.root / "modulefiles" / module
            for name in (version, f"{version}.lua"):
                remove_file(folder / name)
            name, _ = default_file(_tree(store), release)
            if link_text(folder / name) == _default_target(store, view, folder / name):  # views may share a module
                remove_file(folder / name)
            with suppress(OSError):
                folder.rmdir()  # unless it holds another view's
    delete_tree(store.root / "kernels" / view)
    remove_file(store.root / "views" / view)


def _tree(store: Store) -> str:
    return str(store.prefix / "modulefiles")
