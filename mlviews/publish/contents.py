"""What is published of a view, as names and as a tar: a release, its default, its proofs, or that it is gone."""

from __future__ import annotations

import os
import stat
import tarfile
from dataclasses import dataclass
from datetime import datetime, timedelta
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING

import mlviews
from mlviews import jupyter
from mlviews.files.permissions import private
from mlviews.files.reading import NOTE, UNPROMOTED, folders_in, link_text, names_in, paths_in, status
from mlviews.files.writing import forget_parts, is_folder, make_folder, replacing, walk, write_failure
from mlviews.lock.lockfile import lock_path
from mlviews.release import RELEASE_LOCK, module_versions
from mlviews.render.defaultfile import NOTHING_PROMOTED, default_name
from mlviews.render.modulefile import MODULE
from mlviews.render.sbom import SBOM
from mlviews.render.setup_script import REMOVED_FILES

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

    from mlviews.progress import Progress
    from mlviews.store.disk import ReleaseEntry, Store
    from mlviews.store.listing import RemovalNote


@dataclass(frozen=True, slots=True)
class Item:
    """One name that is published.

    Attributes:
        path: below the repository's part of the root.
        source: where it lies on this host.
        status: what ``lstat`` says of it there.
        time: of its last change, in seconds. What can be written again has its release's, and so is always the same.
        made: the text of a link that is made for the repository alone.
    """

    path: str
    source: Path
    status: os.stat_result
    time: int
    made: str = ""

    @property
    def link(self) -> str:
        """The text of a link."""
        return self.made or os.readlink(self.source)  # noqa: PTH115  (as it is written)


def tree_items(store: Store, view: str, entry: ReleaseEntry, platform: str) -> Iterator[Item]:
    """Yield the prefix of one platform of a release, and all in it; byte code may go by the files' own times."""
    folder = store.platform_folder(view, entry.name, platform)
    top = str(folder.relative_to(store.root))
    yield _item(store, top, int(folder.lstat().st_mtime))
    for inner, found in walk(folder):
        yield Item(f"{top}/{inner}", folder / inner, found, int(found.st_mtime))


def release_items(store: Store, view: str, entry: ReleaseEntry) -> Iterator[Item]:
    """Yield what a release has beside its prefixes: modulefiles, kernel, bills of materials, and its ``version``.

    Of one that was never the default, also what says so, where a plain ``module load`` would give it.
    """
    release = entry.release
    own = f"envs/{view}/{entry.name}"
    names = [f"{own}/{_version(store).removeprefix('.')}"]
    names += [f"{own}/{platform}.{SBOM}" for platform in sorted(entry.platforms)]
    names += _modulefiles(release.modules)
    if status(store.root / own / UNPROMOTED):
        names += [f"{own}/{UNPROMOTED}", *_nothing_promoted(store, release.modules)]
    yield from _there(store, [*names, *_in(store, f"kernels/{jupyter.kernel_name(release)}")], _time(entry))


def default_items(store: Store, view: str, entry: ReleaseEntry) -> Iterator[Item]:
    """Yield what makes a release the default: the links, the kernel that follows it, and where its lock is."""
    release = entry.release
    names = [f"envs/{view}/default", f"modulefiles/{release.module}/{_version(store)}", f"views/{view}"]
    names += _in(store, f"kernels/{jupyter.kernel_name(release, versioned=False)}")
    yield from _there(store, names, _time(entry))
    default = store.view_folder(view) / "default"
    if found := status(default):
        path = lock_path(Path("lockfiles"), view)
        target = f"../envs/{view}/default/{release.platform}/{RELEASE_LOCK}"
        yield Item(str(path), default, found, _time(entry), made=target)


def proof_items(store: Store, view: str, entry: ReleaseEntry) -> Iterator[Item]:
    """Yield the records of a release's lock."""
    folder = store.root / "records" / view / entry.lock_digest
    for path in paths_in(folder, ".json"):
        if found := status(path):
            yield Item(str(path.relative_to(store.root)), path, found, int(found.st_mtime))


def command_items(store: Store, time: int) -> tuple[Item, ...]:
    """Return the module of the command ``mlviews`` itself: this version of it."""
    version = mlviews.__version__
    names = [f"modulefiles/{MODULE}/{version}", f"modulefiles/{MODULE}/{version}.lua", f"commands/{version}/mlviews"]
    return tuple(_there(store, names, time))


def removal_items(store: Store, view: str, note: RemovalNote, module: str | None) -> Iterator[Item]:
    """Yield what tells that a release is gone: the note, and what stands where programs and people look for it.

    Args:
        note: of its removal.
        module: whose modulefile tells it; None where nobody knows.
    """
    own = store.view_folder(view) / note.release
    names = [f"envs/{view}/{note.release}/{NOTE}"]
    for platform in folders_in(own):
        names += [f"{platform.relative_to(store.root)}/{name}" for name in sorted(REMOVED_FILES)]
    names += _modulefiles(module_versions(module, note.release, note.variant)) if module else []
    yield from _there(store, [*names, *_in(store, f"kernels/{view}-{note.release}")], _seconds(note.removed))


def _nothing_promoted(store: Store, modules: Iterable[tuple[str, str]]) -> Iterator[str]:
    """Yield the files by which modules without a default say so; a link there names a default."""
    for module, _ in modules:
        path = f"modulefiles/{module}/{_version(store)}"
        if link_text(store.root / path) is None:
            yield from (path, *_modulefiles([(module, NOTHING_PROMOTED)]))


def _modulefiles(modules: Iterable[tuple[str, str]]) -> list[str]:
    return [f"modulefiles/{module}/{version}{ending}" for module, version in modules for ending in ("", ".lua")]


def with_folders(store: Store, items: Iterable[Item]) -> tuple[Item, ...]:
    """Return items with the folders that they lie in, in order: folders before what they hold."""
    found = {item.path: item for item in items}
    usual = store.root.lstat()
    for item in list(found.values()):
        for folder in list(PurePosixPath(item.path).parents)[:-1]:
            path = str(folder)
            if path not in found:
                there = status(store.root / path)
                found[path] = Item(path, store.root / path, there or usual, item.time)
    return tuple(found[path] for path in sorted(found))


def _there(store: Store, names: Iterable[str], time: int) -> Iterator[Item]:
    for path in names:
        if (found := status(store.root / path)) and not is_folder(found):
            yield Item(path, store.root / path, found, time)


def _in(store: Store, folder: str) -> list[str]:
    return [f"{folder}/{name}" for name in names_in(store.root / folder) if not name.startswith(".")]


def _item(store: Store, path: str, time: int) -> Item:
    return Item(path, store.root / path, (store.root / path).lstat(), time)


def _version(store: Store) -> str:
    return default_name(str(store.prefix / "modulefiles"))


def _time(entry: ReleaseEntry) -> int:
    return _seconds(max(release.created for release in entry.platforms.values()))


def _seconds(moment: datetime) -> int:
    return int(moment.timestamp())


def pack(items: Iterable[Item], path: Path, *, total: int, progress: Progress) -> None:
    """Write the tar for ``cvmfs_server ingest``, whole or not at all, and the same every time.

    It holds every file for itself, owned by root.

    Args:
        items: what it holds, folders before what lies in them.
        total: bytes of all files.
    """
    make_folder(path.parent)
    forget_parts(path, than=timedelta(days=1))
    try:
        with replacing(path) as part, part.open("wb") as file:
            with (
                tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
                progress("Packing", total=total, unit="bytes") as advance,
            ):
                for item in items:
                    _add(tar, item)
                    advance(item.status.st_size if stat.S_ISREG(item.status.st_mode) else 0)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error


def _add(tar: tarfile.TarFile, item: Item) -> None:
    member = tarfile.TarInfo(item.path)
    member.uname = member.gname = "root"
    member.mode = private(item.status.st_mode)  # what a group may do here is no business of the repository's
    member.mtime = item.time
    if stat.S_ISLNK(item.status.st_mode):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, item.link, 0o777
    elif stat.S_ISDIR(item.status.st_mode):
        member.type = tarfile.DIRTYPE
    else:
        member.size = item.status.st_size
        with item.source.open("rb") as file:
            tar.addfile(member, file)
        return
    tar.addfile(member)
