"""What nobody needs: what died processes left behind, and what in the cache no release has."""

from __future__ import annotations

from datetime import timedelta
from typing import TYPE_CHECKING

from mlviews.files.filelock import LOCK
from mlviews.files.reading import RELEASE_FILE, folders_in, is_folder_at, names_in, status
from mlviews.files.writing import aged
from mlviews.jupyter import SPECIFICATION
from mlviews.prefix.bytecode import BYTECODE
from mlviews.prefix.catalogs import MARKER
from mlviews.prefix.unpacked import NOTES, PACKAGES
from mlviews.render.defaultfile import NOTHING_PROMOTED
from mlviews.render.modulefile import MODULE
from mlviews.store.layout import HISTORY, UNPUBLISHED, is_removed
from mlviews.store.loaders import modulefiles_of, release_named_in

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Sequence
    from pathlib import Path

    from mlviews.release import Release
    from mlviews.store.disk import ReleaseEntry, Store

# In a view's folder these hidden names are no debris.
_VIEW_NAMES = frozenset({LOCK, UNPUBLISHED, HISTORY})
# In folders of modules these hidden names are read by module systems.
_MODULE_NAMES = frozenset({".version", ".modulerc", ".modulerc.lua", NOTHING_PROMOTED, f"{NOTHING_PROMOTED}.lua"})


def view_debris(store: Store, view: str, entries: Sequence[ReleaseEntry]) -> tuple[Path, ...]:
    """Return what is left of interrupted work on a view. Only who holds the view's lock knows that it is that.

    A folder without ``release.json`` is, unless it is the default or pinned; one whose file cannot be read is none.

    Args:
        entries: its releases, those that cannot be read among them.
    """
    folder = store.view_folder(view)
    found = [path for path in _hidden(folder) if path.name not in _VIEW_NAMES]
    there = {entry.name for entry in entries}
    modules = {name for entry in entries for release in entry.platforms.values() for name, _ in release.modules}
    for name in store.folders(view):
        if is_removed(folder, name):
            continue
        if name in there or store.default(view) == name or store.is_pinned(view, name):
            found += _in_release(folder / name, lost=name in there)
        else:
            found.append(folder / name)
    for module in sorted(modules):
        found += [path for path in _hidden(store.root / "modulefiles" / module) if path.name not in _MODULE_NAMES]
    found += _of_deleted(store, view, modules)
    for kernel in (view, *(f"{view}-{name}" for name in store.folders(view))):
        found += _hidden(store.root / "kernels" / kernel)
    found += [path for path in _hidden(store.root / "views") if path.name.startswith(f".{view}.")]
    found += aged(path for folder in folders_in(store.root / "records" / view) for path in _hidden(folder))
    return tuple(found)


def _of_deleted(store: Store, view: str, modules: Iterable[str]) -> Iterator[Path]:
    """Yield modulefiles and kernels of releases whose folder somebody deleted."""
    there = {*store.folders(view), "default"}
    for module in sorted(modules):
        for path, release in modulefiles_of(store, view, store.root / "modulefiles" / module):
            if release not in there:
                yield path
    for name in names_in(store.root / "kernels"):
        folder, release = store.root / "kernels" / name, name.removeprefix(f"{view}-")
        if release not in {name, *there} and release_named_in(folder / SPECIFICATION, store, view) == release:
            yield folder


def common_debris(root: Path) -> tuple[Path, ...]:
    """Return what is left of interrupted work that no lock covers, a day after it was touched."""
    folders = (*folders_in(root / "commands"), root / "modulefiles" / MODULE)
    return tuple(aged(path for folder in folders for path in _hidden(folder)))


def cache_debris(cache: Path) -> tuple[Path, ...]:
    """Return what is left of interrupted work in the cache. Only who has the cache alone knows that it is that."""
    known = {LOCK, ".cache.lock", NOTES}
    folders = (cache / PACKAGES, *folders_in(cache / BYTECODE))
    found = [path for folder in folders for path in _hidden(folder) if path.name not in known]
    working = (*_hidden(cache), *_hidden(cache / "images"))
    return (*found, *aged(path for path in working if path.name not in known))


def _in_release(folder: Path, *, lost: bool) -> Iterator[Path]:
    for path in (folder / name for name in names_in(folder) if name != MARKER):
        if path.name.startswith("."):
            yield from aged([path])
        elif lost and is_folder_at(path) and status(path / RELEASE_FILE) is None:
            yield path  # a platform that was being added


def _hidden(folder: Path) -> list[Path]:
    return [folder / name for name in names_in(folder) if name.startswith(".") and name != MARKER]


def unused(cache: Path, entries: Iterable[ReleaseEntry], *, within: timedelta) -> tuple[str, ...]:
    """Return files and folders in the cache that nobody needs, by their paths in it.

    Args:
        entries: the releases that stay.
        within: how long metadata and base images stay, which no release has; a day at least.
    """
    releases = [release for entry in entries for release in entry.platforms.values()]
    found = {*_packages(cache, releases), *_byte_code(cache, releases), *_of_wheels(cache, releases)}
    fetched = (*cache.glob("repodata*/**/*.*"), *cache.glob("index/*.json"), *cache.glob("images/*.tar"))
    found |= {*aged(fetched, max(within, timedelta(days=1)))}
    return tuple(sorted(path.relative_to(cache).as_posix() for path in found))


def _packages(cache: Path, releases: Iterable[Release]) -> Iterator[Path]:
    used = {package.stem for release in releases for package in release.packages}
    return (cache / PACKAGES / name for name in _names(cache / PACKAGES) - used)


def _byte_code(cache: Path, releases: Iterable[Release]) -> Iterator[Path]:
    """Byte code is of a package and of the Python that compiled it: both must be in one release."""
    used: dict[str, set[str]] = {}
    for release in releases:
        stems = {package.name: package.stem for package in release.packages}
        used.setdefault(stems.get("python", ""), set()).update(stems.values())
    for python in _names(cache / BYTECODE):
        if python in used:
            yield from (cache / BYTECODE / python / name for name in _names(cache / BYTECODE / python) - used[python])
        else:
            yield cache / BYTECODE / python


def _of_wheels(cache: Path, releases: Iterable[Release]) -> Iterator[Path]:
    if not is_folder_at(cache / "wheels"):
        return
    from mlviews.wheels.restore import unused_archives, unused_wheels  # noqa: PLC0415  (only such sites need it)

    packages = {package for release in releases for package in release.packages}
    yield from unused_archives(cache, {package.stem for package in packages})
    yield from unused_wheels(cache, {(package.name, package.version) for package in packages})


def _names(folder: Path) -> set[str]:
    found = {name.removesuffix(".lock") for name in names_in(folder)}
    return {name for name in found if name and not name.startswith(".")}
