"""What people load a view by: modulefiles, the default's ``.version`` and kernelspecs, all made from releases."""

from __future__ import annotations

import os
import re
import sys
from contextlib import suppress
from typing import TYPE_CHECKING

import mlviews
from mlviews import jupyter
from mlviews.files.reading import content, is_file, link_text, names_in, status
from mlviews.files.writing import delete_tree, remove_file, swap_link, write_atomically
from mlviews.render import modulefile
from mlviews.render.defaultfile import NOTHING_PROMOTED, default_name, render_default, render_nothing_promoted
from mlviews.render.modulefile import ModuleNotes, render_lua, render_tcl
from mlviews.smoke.records import proved_gpus, read_records

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence
    from pathlib import Path

    from mlviews.files.filelock import Waiting
    from mlviews.release import Release
    from mlviews.store.disk import ReleaseEntry, Store

# What every view has tells nothing of what one is for.
_COMMON = {"python", "pip", "ipykernel"}
_STAND_INS = 3


def write_release_loaders(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write a release's modulefiles and kernel, and beside it what module systems read when it is the default.

    The modulefiles tell on which GPUs records prove the release's lock. Without Python there is no kernel. Where the
    view has no default, its module says so before there is a release that it could give instead.
    """
    entry.check()
    releases = entry.releases
    name = default_name(_tree(store))
    text = render_default(name, releases[0], _views(store))
    write_atomically(store.view_folder(view) / entry.name / name.removeprefix("."), text)
    _tell_nothing_promoted(store, releases[0])
    _write_modulefiles(store, releases, module_notes(store, entry))
    _write_kernel(store, releases[0], versioned=True)


def _tell_nothing_promoted(store: Store, release: Release) -> None:
    """See to it that a plain ``module load`` fails where nothing names a default: it would give the newest release."""
    name, variant = default_name(_tree(store)), release.variant
    modules = {release.view: release.module} | ({variant.view: variant.module} if variant else {})
    for view, module in modules.items():
        folder = store.root / "modulefiles" / module
        if store.default(view) is None and status(folder / name) is None:
            for file, text in sorted(render_nothing_promoted(name, view, module, _views(store)).items()):
                write_atomically(folder / file, text)


def _write_modulefiles(store: Store, releases: Sequence[Release], told: ModuleNotes) -> None:
    for module, version in releases[0].modules:
        alike = [release.model_copy(update={"module": module}) for release in releases]
        folder = store.root / "modulefiles" / module
        write_atomically(folder / f"{version}.lua", render_lua(alike, told))
        write_atomically(folder / version, render_tcl(alike, told))


def tell_proofs(store: Store, release: Release, *, waiting: Waiting) -> None:
    """Write a release's modulefiles again, after a GPU has proved or refuted its lock.

    Args:
        waiting: told who holds the view's lock, if this has to wait.
    """
    with store.view_lock(release.view, waiting=waiting):
        for entry in store.releases(release.view):
            if entry.lock_digest == release.lock_digest:
                write_release_loaders(store, release.view, entry)


def make_default(store: Store, view: str, entry: ReleaseEntry, *, back: bool = False, override: str = "") -> None:
    """Make a release the default, for module systems and Jupyter too.

    Other arguments as for `mlviews.store.disk.Store.promote`.
    """
    # Without a default of its own, a module gives its newest release.
    for path, _ in other_defaults(store, view, entry):
        _remove_default(store, view, store.root / path)
    store.promote(view, entry.name, back=back, override=override)
    write_default_loaders(store, view, entry)


def _remove_default(store: Store, view: str, path: Path) -> None:
    """Delete what names a module's default, or says that it has none, unless that is of another view."""
    module = str(path.parent.relative_to(store.root / "modulefiles"))
    told = render_nothing_promoted(path.name, view, module, _views(store))
    if link_text(path) == _default_target(store, view, path) or content(path) == told[path.name].encode():
        for name in told:
            remove_file(path.with_name(name))


def other_defaults(store: Store, view: str, entry: ReleaseEntry) -> tuple[tuple[str, str], ...]:
    """Return the links that name a view's default in modules that do not hold it: path below the root, and text.

    They are those that the view's releases had before its recipe named another module.
    """
    own = entry.release.module
    name = default_name(_tree(store))
    modules = {item.module for other in store.releases(view) for item in other.platforms.values()} - {own}
    links = [store.root / "modulefiles" / module / name for module in sorted(modules)]
    return tuple((str(link.relative_to(store.root)), _default_target(store, view, link)) for link in links)


def _default_target(store: Store, view: str, link: Path) -> str:
    return os.path.relpath(store.view_folder(view) / "default" / link.name.removeprefix("."), link.parent)


def write_default_loaders(store: Store, view: str, entry: ReleaseEntry) -> None:
    """Write what leads to the default release: the module folder's link, the kernel, and ``views/<view>``.

    The links go through the view's ``default``, so that promoting a release changes one thing only. ``views/<view>``
    has the shape of an LCG view: ``views/<view>/<platform>/setup.sh``.
    """
    release = entry.release
    name = default_name(_tree(store))
    link = store.root / "modulefiles" / release.module / name
    swap_link(link, _default_target(store, view, link))
    for file in (NOTHING_PROMOTED, f"{NOTHING_PROMOTED}.lua"):
        remove_file(link.with_name(file))
    _write_kernel(store, release, versioned=False)
    swap_link(store.root / "views" / view, os.path.relpath(store.view_folder(view) / "default", store.root / "views"))


def write_command_loaders(store: Store) -> None:
    """Write the module that brings the ``mlviews`` command, the one that is running."""
    version = mlviews.__version__
    folder = store.root / "commands" / version
    write_atomically(folder / "mlviews", modulefile.render_command_program(sys.executable), executable=True)
    modules = store.root / "modulefiles" / modulefile.MODULE
    places = {"root": store.prefix, "folder": store.baked(folder)}
    write_atomically(modules / f"{version}.lua", modulefile.render_command_lua(version, **places))
    write_atomically(modules / version, modulefile.render_command_tcl(version, **places))


def module_notes(store: Store, entry: ReleaseEntry) -> ModuleNotes:
    """Return what a modulefile tells of a release besides what the release holds."""
    release = entry.release
    gpus = proved_gpus(release.gpus, read_records(store.root, release.view, entry.lock_digest))
    return ModuleNotes(gpus, _stand_ins(store, release) if release.cuda else ())


def _stand_ins(store: Store, release: Release) -> tuple[tuple[str, str | None], ...]:
    """Return the modules of other views that share what was asked for, those that share most first."""
    found = []
    for view in store.views():
        default = store.default(view)
        entry = store.entry(view, default) if default else None
        other = entry.release if entry and entry.platforms else release
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
    """Write the modulefiles and the kernel of a release that was removed: they say so, and load nothing else."""
    releases = entry.releases
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

    What leads to releases whose folders somebody deleted by hand is found by the paths that it names.

    Args:
        modules: of each release that was removed, the modules and versions that tell of it.
    """
    for module in {module for found in modules.values() for module, _ in found}:
        for path, _ in modulefiles_of(store, view, store.root / "modulefiles" / module):
            remove_file(path)
    jupyter.remove_below(jupyter.Place("path", store.root / "kernels"), store.baked(store.view_folder(view)))
    for release, found in modules.items():
        delete_tree(store.root / "kernels" / f"{view}-{release}")
        for module, version in found:
            _leave_module(store, view, store.root / "modulefiles" / module, version)
    delete_tree(store.root / "kernels" / view)
    remove_file(store.root / "views" / view)


def _leave_module(store: Store, view: str, folder: Path, version: str) -> None:
    """Delete what a module has of a view: the version, and what names the default; all of it, if nothing else is left.

    Args:
        folder: of the module, which another view may share.
    """
    for name in (version, f"{version}.lua"):
        remove_file(folder / name)
    _remove_default(store, view, folder / default_name(_tree(store)))
    if all(name.startswith(".") for name in names_in(folder)):  # a variant's shared module: no other is left
        for name in names_in(folder):
            remove_file(folder / name)
    with suppress(OSError):
        folder.rmdir()  # unless it holds another view's


def modulefiles_of(store: Store, view: str, folder: Path) -> Iterator[tuple[Path, str]]:
    """Yield the modulefiles in a module's folder that load releases of a view, be these there or not: file, release.

    A variant's shared module has them under the release's name and the variant's.
    """
    for path in (folder / name for name in names_in(folder)):
        release = release_named_in(path, store, view)
        if release and path.name.startswith(release):
            yield path, release


def release_named_in(file: Path, store: Store, view: str) -> str | None:
    """Return the release of a view whose folder a modulefile or a kernel names first; None where it names none."""
    text = content(file) if is_file(file) else None
    below = f"{store.baked(store.view_folder(view))}/"
    named = re.search(re.escape(below).encode() + rb"([^/]+)/", text or b"")
    return os.fsdecode(named[1]) if named else None


def _views(store: Store) -> Path:
    return store.baked(store.root / "envs")


def _tree(store: Store) -> str:
    return str(store.prefix / "modulefiles")
