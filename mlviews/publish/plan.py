"""What publishing a release on CVMFS would do, and what forbids it: all known before a transaction is opened.

A release is built on one host and published on another: what is to be published is packed for ``cvmfs_server ingest``.
Nested catalogs go where a listing would be too large to fetch.
See https://cvmfs.readthedocs.io/en/stable/cpt-repo.html.
"""

from __future__ import annotations

import os
import shlex
import stat
from collections import Counter, defaultdict
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from mlviews import jupyter
from mlviews.errors import BadInputError
from mlviews.files import is_folder, walk
from mlviews.prefix.install import PREFIX_LENGTH
from mlviews.prefix.verify import verify
from mlviews.reading import is_folder_at, status
from mlviews.render.modulefile import default_file
from mlviews.render.sbom import SBOM

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlviews.progress import Progress
    from mlviews.store.disk import ReleaseEntry, Store

__all__ = [
    "LARGEST",
    "SMALLEST",
    "Catalog",
    "Item",
    "PublishRemark",
    "PublishResult",
    "RuleName",
    "place_catalogs",
    "plan",
]


LARGEST = 200_000
SMALLEST = 1_000


def place_catalogs(
    entries: Mapping[str, int], top: str, *, largest: int = LARGEST, smallest: int = SMALLEST
) -> dict[str, int]:
    """Return the folders that get a catalog of their own, with how many entries each lists.

    ``top`` always gets one. Where one would list more than ``largest``, the largest folders below it get their own, as
    long as those would list at least ``smallest``. What is larger still cannot be split.

    Args:
        entries: folder -> how many names it holds itself; with every folder, those above it up to ``top``.
        top: the folder that all others are below.
        largest: how many entries a catalog should have at most.
        smallest: how many at least.
    """
    below: dict[str, list[str]] = defaultdict(list)
    for folder in entries:
        if folder != top:
            below[folder.rpartition("/")[0]].append(folder)
    sizes: dict[str, int] = {}
    found: dict[str, int] = {}
    for folder in sorted(entries, key=lambda name: (-name.count("/"), name)):  # the deepest first
        size = entries[folder] + sum(sizes[child] for child in below[folder])
        for child in sorted(below[folder], key=lambda name: (-sizes[name], name)):
            if size <= largest or sizes[child] < smallest:
                break
            found[child] = sizes[child]
            size -= sizes[child]
        sizes[folder] = size
    found[top] = sizes[top]
    return dict(sorted(found.items()))


RuleName = Literal[
    "prefix", "published", "intact", "path-length", "readable", "writable", "special", "setuid", "link", "hard-link",
    "catalog", "file-size",
]  # fmt: skip

_MOUNT = PurePosixPath("/cvmfs")
_LONGEST_PATH, _LONGEST_NAME = 4095, 255
_LARGEST_FILE = 1024 * 1024 * 1024
"""CVMFS_FILE_MBYTE_LIMIT; above it `cvmfs_server` warns, or refuses where CVMFS_ENFORCE_LIMITS is set."""


@dataclass(frozen=True, slots=True)
class Item:
    """One name that is published.

    Attributes:
        path: below the repository's part of the root.
        source: where it lies on this host.
    """

    path: str
    source: Path
    status: os.stat_result


@dataclass(frozen=True, slots=True)
class PublishRemark:
    """Something that a rule says of what would be published.

    Attributes:
        forbids: whether it must not be published so; otherwise it is good to know.
    """

    rule: RuleName
    path: str
    why: str
    forbids: bool = True


@dataclass(frozen=True, slots=True)
class Catalog:
    """A folder with a catalog of its own on CVMFS."""

    folder: str
    entries: int


@dataclass(frozen=True, slots=True, kw_only=True)
class PublishResult:
    """``mlviews publish VIEW --plan``.

    Attributes:
        base: the folder in the repository that everything is put into.
        replaced: what becomes another; null where the repository is not mounted.
        tar: what is packed for `cvmfs_server ingest`.
        command: what publishes it.
    """

    view: str
    release: str
    repository: str
    base: str
    files: int
    bytes: int
    catalogs: Sequence[Catalog]
    replaced: Sequence[str] | None
    remarks: Sequence[PublishRemark]
    tar: Path | None
    command: str


def plan(
    store: Store, view: str, entry: ReleaseEntry, tar: Path | None, *, shared: bool = False, progress: Progress
) -> tuple[PublishResult, tuple[Item, ...]]:
    """Plan the publishing of a release: its files, its modulefiles and kernel, and the default's if it is that here.

    Args:
        store: where it lies; its prefix is where it will lie.
        view: the view.
        entry: its release.
        tar: where it should be packed, if it should; the plan names it only where no rule forbids it.
        shared: whether a group shares the root; a tar never says so.
        progress: told of what is verified.

    Returns:
        The plan, and every file, link and folder, folders before what they hold.

    Raises:
        BadInputError: the store's prefix is in no CVMFS repository.
        OSError: something cannot be read.
        UnreadableError: nobody can tell whether something is there.
    """
    repository, base = _repository(store.prefix)
    items = tuple(sorted(_items(store, view, entry), key=lambda item: item.path))
    top = f"envs/{view}/{entry.name}"
    catalogs = place_catalogs(_entries(items, top), top)
    replaced = _replaced(store, items)
    remarks = [
        *_of_release(store, view, entry, shared=shared, progress=progress),
        *(remark for item in items for remark in _of_item(store, item)),
        *_hard_links(items),
        *_of_catalogs(catalogs),
    ]
    if any(path.startswith(f"{top}/") for path in replaced or ()):
        remarks.append(PublishRemark("published", top, "a release never changes, and this one is published already"))
    packed = None if any(remark.forbids for remark in remarks) else tar
    sizes = [item.status.st_size for item in items if stat.S_ISREG(item.status.st_mode)]
    file = shlex.quote(str(packed)) if packed else "FILE"
    found = PublishResult(
        view=view,
        release=entry.name,
        repository=repository,
        base=base,
        files=len(sizes),
        bytes=sum(sizes),
        catalogs=[Catalog(folder, count) for folder, count in catalogs.items()],
        replaced=replaced,
        remarks=remarks,
        tar=packed,
        command=f"cvmfs_server ingest --tar_file {file} --base_dir {shlex.quote(base)} {repository}",
    )
    return found, items


def _repository(prefix: Path) -> tuple[str, str]:
    place = PurePosixPath(prefix)
    if not place.is_relative_to(_MOUNT) or place == _MOUNT:
        raise BadInputError(
            "not-cvmfs",
            f"{prefix} is in no CVMFS repository",
            "Name a site whose `prefix` is below /cvmfs/REPOSITORY: --site cvmfs, or your own.",
        )
    repository, *rest = place.relative_to(_MOUNT).parts
    return repository, "/".join(rest) or "/"


def _items(store: Store, view: str, entry: ReleaseEntry) -> Iterator[Item]:
    release = entry.platforms[min(entry.platforms)]
    own, modules = f"envs/{view}/{entry.name}", f"modulefiles/{release.module}"
    version, _ = default_file(str(store.prefix / "modulefiles"), entry.name)
    names = [f"{own}/{version.removeprefix('.')}", f"{modules}/{entry.name}", f"{modules}/{entry.name}.lua"]
    names += [f"{own}/{platform}.{SBOM}" for platform in sorted(entry.platforms)]
    trees = [f"{own}/{platform}" for platform in sorted(entry.platforms)] + [f"kernels/{jupyter.kernel_name(release)}"]
    if store.default(view) == entry.name:
        names += [f"envs/{view}/default", f"{modules}/{version}", f"views/{view}"]
        trees.append(f"kernels/{jupyter.kernel_name(release, versioned=False)}")
    above: set[str] = set()
    for path in (path for path in [*names, *trees] if status(store.root / path)):
        for folder in reversed(PurePosixPath(path).parents[:-1]):
            if str(folder) not in above:
                above.add(str(folder))
                yield _item(store, str(folder))
        yield _item(store, path)
        if path in trees:
            for inner, found in walk(store.root / path):
                yield Item(f"{path}/{inner}", store.root / path / inner, found)


def _item(store: Store, path: str) -> Item:
    return Item(path, store.root / path, (store.root / path).lstat())


def _entries(items: Sequence[Item], top: str) -> Counter[str]:
    entries: Counter[str] = Counter({top: 0})
    for item in items:
        if item.path.startswith(f"{top}/"):
            entries[item.path.rpartition("/")[0]] += 1
            if is_folder(item.status):
                entries[item.path] += 0
    return entries


def _replaced(store: Store, items: Sequence[Item]) -> tuple[str, ...] | None:
    if not is_folder_at(store.prefix, follow=True):
        return None
    if store.prefix.samefile(store.root):
        return ()
    there = (item.path for item in items if not is_folder(item.status))
    return tuple(path for path in there if status(store.prefix / path))


def _of_release(
    store: Store, view: str, entry: ReleaseEntry, *, shared: bool, progress: Progress
) -> Iterator[PublishRemark]:
    for platform, release in entry.platforms.items():
        folder = store.platform_folder(view, entry.name, platform)
        path = str(folder.relative_to(store.root))
        baked = str(store.baked(folder))
        if release.prefix != baked:
            yield PublishRemark("prefix", path, f"it was built for {release.prefix}, and would lie in {baked}")
        if len(baked.encode()) > PREFIX_LENGTH:
            why = f"{baked} is longer than the {PREFIX_LENGTH} bytes that packages bear"
            yield PublishRemark("path-length", path, why)
        found = verify(folder, shared=shared, progress=progress)
        unreadable = sum(fault.kind == "unreadable" for fault in found.faults)
        other = len(found.faults) - unreadable + found.bytecode
        advice = f"`mlviews verify {view}/{entry.name}` names them"
        if other:
            yield PublishRemark("intact", path, f"{other} files are not as they were built: {advice}")
        if unreadable:
            yield PublishRemark("intact", path, f"{unreadable} files cannot be read: {advice}")


def _of_item(store: Store, item: Item) -> Iterator[PublishRemark]:
    mode, path = item.status.st_mode, item.path
    if len(str(store.prefix / path).encode()) > _LONGEST_PATH or len(Path(path).name.encode()) > _LONGEST_NAME:
        yield PublishRemark("path-length", path, f"a path has at most {_LONGEST_PATH} bytes, a name {_LONGEST_NAME}")
    if stat.S_ISLNK(mode):
        if why := _leads_out(store, item):
            yield PublishRemark("link", path, why)
    elif not (stat.S_ISREG(mode) or stat.S_ISDIR(mode)):
        yield PublishRemark("special", path, "it is a device, a pipe or a socket")
    else:
        needed = stat.S_IROTH | (stat.S_IXOTH if stat.S_ISDIR(mode) or mode & stat.S_IXUSR else 0)
        if mode & needed != needed:
            yield PublishRemark("readable", path, f"its permissions {stat.S_IMODE(mode):o} keep others out")
        if mode & stat.S_IWOTH:
            yield PublishRemark("writable", path, f"its permissions {stat.S_IMODE(mode):o} let everybody change it")
        if mode & (stat.S_ISUID | stat.S_ISGID) and stat.S_ISREG(mode):
            yield PublishRemark("setuid", path, "it would run as another user")
    if stat.S_ISREG(mode) and item.status.st_size > _LARGEST_FILE:
        why = f"{item.status.st_size / 1e9:.1f} GB; cvmfs_server warns above 1024 MiB (CVMFS_FILE_MBYTE_LIMIT)"
        yield PublishRemark("file-size", path, why, forbids=False)


def _leads_out(store: Store, item: Item) -> str | None:
    """Return why a link cannot be published: it leads out of what will lie on CVMFS."""
    target = os.readlink(item.source)  # noqa: PTH115  (as it is written)
    place = os.path.normpath(store.prefix / PurePosixPath(item.path).parent / target)
    if not PurePosixPath(place).is_relative_to(store.prefix):
        return f"it leads to {target}, which others do not have"
    return None


def _hard_links(items: Sequence[Item]) -> Iterator[PublishRemark]:
    """Tell of files that are one on this disk: CVMFS knows hard links in one folder only."""
    seen: dict[tuple[int, int], str] = {}
    for item in items:
        if stat.S_ISREG(item.status.st_mode) and item.status.st_nlink > 1:
            first = seen.setdefault((item.status.st_dev, item.status.st_ino), item.path)
            if first != item.path:
                yield PublishRemark("hard-link", item.path, f"published as a file beside {first}", forbids=False)


def _of_catalogs(catalogs: Mapping[str, int]) -> Iterator[PublishRemark]:
    for folder, count in catalogs.items():
        if count > LARGEST:
            yield PublishRemark("catalog", folder, f"its catalog would list {count} entries; {LARGEST} are too many")
