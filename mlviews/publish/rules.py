"""What forbids publishing, and what is good to know: all of it before a transaction is opened."""

from __future__ import annotations

import os
import stat
from dataclasses import dataclass
from pathlib import Path, PurePosixPath
from typing import TYPE_CHECKING, Literal

from mlviews.conda.records import read_conda_records
from mlviews.licences import Licences, judge
from mlviews.prefix.catalogs import LARGEST
from mlviews.prefix.install import PREFIX_LENGTH
from mlviews.prefix.verify import verify
from mlviews.smoke.programs import BASIC
from mlviews.smoke.records import last_results, read_records
from mlviews.store import history
from mlviews.store.releases import unproved

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from mlviews.progress import Progress
    from mlviews.publish.contents import Item
    from mlviews.release import Release
    from mlviews.site.model import Promotion
    from mlviews.store.disk import ReleaseEntry, Store

RuleName = Literal[
    "prefix", "published", "intact", "path-length", "readable", "writable", "special", "setuid", "link", "hard-link",
    "catalog", "file-size", "default", "command", "proved", "extension", "promotion", "licence", "removed",
]  # fmt: skip

_LONGEST_PATH, _LONGEST_NAME = 4095, 255
_LARGEST_FILE = 1024 * 1024 * 1024
"""CVMFS_FILE_MBYTE_LIMIT: above it `cvmfs_server ingest` warns, whatever CVMFS_ENFORCE_LIMITS says."""


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


def of_platform(
    store: Store, view: str, entry: ReleaseEntry, platform: str, *, shared: bool, progress: Progress
) -> Iterator[PublishRemark]:
    """Judge one platform of a release as a whole: every byte of it is read.

    Args:
        shared: whether a group shares the root.
    """
    release = entry.platforms[platform]
    folder = store.platform_folder(view, entry.name, platform)
    path = str(folder.relative_to(store.root))
    baked = str(store.baked(folder))
    if release.base:
        why = f"it extends {release.base.view} and belongs to one user: put what it adds into a view's recipe"
        yield PublishRemark("extension", path, why)
    if release.prefix != baked:
        yield PublishRemark("prefix", path, f"it was built for {release.prefix}, but would be published to {baked}")
    elif not release.catalogs:
        why = f"it has no catalog of its own; `mlviews build {view} --rebuild` makes a release that has one"
        yield PublishRemark("catalog", path, why)
    if len(baked.encode()) > PREFIX_LENGTH:
        why = f"{baked} is longer than the {PREFIX_LENGTH} bytes that packages allow"
        yield PublishRemark("path-length", path, why)
    if unproved := _unproved(store, release):
        yield PublishRemark("proved", path, unproved)
    found = verify(folder, shared=shared, progress=progress)
    unreadable = sum(fault.kind == "unreadable" for fault in found.faults)
    other = len(found.faults) - unreadable + found.bytecode
    advice = f"`mlviews verify {view}/{entry.name}` names them"
    if other:
        yield PublishRemark("intact", path, f"{other} files are not as they were built: {advice}")
    if unreadable:
        yield PublishRemark("intact", path, f"{unreadable} files cannot be read: {advice}")


def of_licences(
    store: Store, view: str, entry: ReleaseEntry, platform: str, licences: Licences | None
) -> Iterator[PublishRemark]:
    """Judge the licences that one platform's packages state; what cannot be judged is told."""
    folder = store.platform_folder(view, entry.name, platform)
    stated = ((record.name, record.license) for record in read_conda_records(folder))
    for remark in judge(stated, licences):
        why = f"{remark.licence}: {remark.why}"
        yield PublishRemark("licence", remark.package, why, forbids=remark.verdict == "denied")


def of_promotion(store: Store, view: str, entry: ReleaseEntry, demands: Promotion | None) -> Iterator[PublishRemark]:
    """Judge whether a release may become the default there; whoever promoted it here may have said why it may."""
    if history.overrides(history.read(store.view_folder(view))).get(entry.name):
        return
    for line in unproved(store, entry, demands):
        advice = f"`mlviews promote {view}/{entry.name}` says how to prove it"
        yield PublishRemark("promotion", f"envs/{view}/default", f"{line}; {advice}")


def _unproved(store: Store, release: Release) -> str | None:
    """Return what no record says of a platform of a release: that its first checks pass where it will lie."""
    if not release.has_python:
        return None  # no check can run in it
    records = read_records(store.root, release.view, release.lock_digest)
    results = last_results(record for record in records if record.platform == release.platform)
    advice = f"`mlviews smoke {release.label}` runs it in its final folder: as root, or with bwrap"
    if failed := sorted(name for name, passed in results.items() if not passed):
        return f"it failed {', '.join(failed)} in the last check; {advice}"
    if missing := [name for name in BASIC if name not in results]:
        return f"there is no record that it passes {', '.join(missing)}; {advice}"
    return None


def of_items(store: Store, items: Sequence[Item]) -> Iterator[PublishRemark]:
    """Judge each name by itself, then what is one file on this disk."""
    for item in items:
        yield from _of_item(store, item)
    yield from _hard_links(items)


def of_catalogs(catalogs: Mapping[str, int]) -> Iterator[PublishRemark]:
    """Judge how many entries each catalog would list."""
    for folder, count in catalogs.items():
        if count > LARGEST:
            yield PublishRemark("catalog", folder, f"its catalog would list {count} entries; {LARGEST} are too many")


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
    target = item.link
    place = os.path.normpath(store.prefix / PurePosixPath(item.path).parent / target)
    if not PurePosixPath(place).is_relative_to(store.prefix):
        return f"it leads to {target}, which other users do not have"
    return None


def _hard_links(items: Sequence[Item]) -> Iterator[PublishRemark]:
    """Tell of files that are one on this disk: CVMFS knows hard links in one folder only."""
    seen: dict[tuple[int, int], str] = {}
    for item in items:
        if stat.S_ISREG(item.status.st_mode) and item.status.st_nlink > 1:
            first = seen.setdefault((item.status.st_dev, item.status.st_ino), item.path)
            if first != item.path:
                yield PublishRemark("hard-link", item.path, f"one file with {first}; two when published", forbids=False)
