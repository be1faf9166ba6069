"""What processes that died have left behind: nothing of it is a release, and nobody waits for it."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.files import aged
from mlviews.prefix.bytecode import BYTECODE
from mlviews.release import RECORD
from mlviews.render.command import MODULE
from mlviews.store.disk import KEPT
from mlviews.store.gone import is_gone
from mlviews.store.unused import PACKAGES

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence
    from pathlib import Path

    from mlviews.store.disk import ReleaseEntry, Store

__all__ = ["cache_debris", "common_debris", "view_debris"]

# In folders of modules these hidden names are read by module systems.
_MODULE_NAMES = frozenset({".version", ".modulerc", ".modulerc.lua"})


def view_debris(store: Store, view: str, entries: Sequence[ReleaseEntry]) -> tuple[Path, ...]:
    """Return what is left of interrupted work on a view. Only who holds the view's lock knows that it is that.

    A release whose ``release.json`` cannot be read is debris too, unless it is the default or pinned.

    Args:
        store: where it lies.
        view: the view.
        entries: its releases.
    """
    folder = store.view_folder(view)
    found = [path for path in _hidden(folder) if path.name not in KEPT]
    there = {entry.name for entry in entries}
    modules = {release.module for entry in entries for release in entry.platforms.values()}
    for name in store.folders(view):
        if is_gone(folder, name):
            continue
        if name in there or store.default(view) == name or store.is_pinned(view, name):
            found += _in_release(folder / name, lost=name in there)
        else:
            found.append(folder / name)
    for module in sorted(modules):
        found += [path for path in _hidden(store.root / "modulefiles" / module) if path.name not in _MODULE_NAMES]
    for kernel in (view, *(f"{view}-{name}" for name in store.folders(view))):
        found += _hidden(store.root / "kernels" / kernel)
    found += [path for path in _hidden(store.root / "views") if path.name.startswith(f".{view}.")]
    found += aged(path for folder in (store.root / "records" / view).glob("*") for path in _hidden(folder))
    return tuple(found)


def common_debris(root: Path) -> tuple[Path, ...]:
    """Return what is left of interrupted work that no lock covers, a day after it was touched."""
    folders = (*root.glob("commands/*"), root / "modulefiles" / MODULE)
    return tuple(aged(path for folder in folders for path in _hidden(folder)))


def cache_debris(cache: Path) -> tuple[Path, ...]:
    """Return what is left of interrupted work in the cache. Only who has the cache alone knows that it is that."""
    known = {".lock", ".cache.lock"}
    folders = (cache / PACKAGES, *(cache / BYTECODE).glob("*"))
    found = [path for folder in folders for path in _hidden(folder) if path.name not in known]
    return (*found, *aged(path for path in _hidden(cache) if path.name not in known))


def _in_release(folder: Path, *, lost: bool) -> Iterator[Path]:
    for path in sorted(folder.iterdir()):
        if path.name.startswith("."):
            yield from aged([path])
        elif lost and path.is_dir() and not path.is_symlink() and not (path / RECORD).exists():
            yield path  # a platform that was being added


def _hidden(folder: Path) -> list[Path]:
    try:
        return sorted(path for path in folder.iterdir() if path.name.startswith("."))
    except OSError:
        return []
