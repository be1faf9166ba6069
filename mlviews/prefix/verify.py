"""Whether a release is what was built: every byte, link and permission, against files that vouch for each other.

``release.json`` has a seal and vouches for ``files.json``, that one for the conda records, those for all other files.
"""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from threading import Event
from typing import Literal

from mlviews.conda.records import CondaRecordError, RecordedPath, is_conda_record
from mlviews.files.permissions import private
from mlviews.files.reading import RELEASE_FILE, DamagedError, UnreadableError, content
from mlviews.files.storefile import parse
from mlviews.files.writing import file_sha256, is_folder
from mlviews.prefix.bytecode import module_of
from mlviews.prefix.inventory import FILES, Inventory, Tree, expected_mode, own_files, read_tree
from mlviews.progress import Advance, Progress, silent
from mlviews.release import Release, is_intact

FaultKind = Literal["changed", "missing", "extra", "link", "mode", "unreadable"]

_THREADS = os.cpu_count() or 1  # more only wait for each other, and take processor time for it
_BATCH = 64
_LARGE = 8 << 20
_SAID = 1 << 20  # bytes after which somebody is told: a terminal takes longer than a small file
_UNREADABLE = "unreadable"


class _OverError(Exception):
    """Nobody waits for a file's hash any more."""


@dataclass(frozen=True, slots=True, order=True)
class Fault:
    """One thing in a release that is not as it was built.

    Attributes:
        path: in the prefix.
        kind: link: it leads elsewhere, or a file and a link stand in each other's place; unreadable: the disk does not
            give it, or a newer mlviews wrote it.
        package: whose it is; empty for what the build wrote and what nobody knows.
    """

    path: str
    kind: FaultKind
    package: str = ""


@dataclass(frozen=True, slots=True)
class VerifiedRelease:
    """What `verify` found of one platform of a release.

    Attributes:
        view: whose release it is.
        files: files and links that were looked at.
        bytes: bytes that were read.
        bytecode: files of byte code that Python has written since; nobody vouches for them.
        whole: false where a damaged file kept others from being judged.
        faults: what is not as it was built; after a repair, what still is not.
        repaired: what was not, and is again.
    """

    view: str
    release: str
    platform: str
    files: int
    bytes: int
    bytecode: int
    whole: bool
    faults: Sequence[Fault]
    repaired: Sequence[Fault] = ()


def verify(prefix: Path, *, shared: bool = False, progress: Progress = silent) -> VerifiedRelease:
    """Compare a release with what it should hold.

    Args:
        prefix: the folder of one platform of it, which names both.
        shared: whether the site says that a group may write too; for others it is a fault.
    """
    tree = read_tree(prefix)
    release, broken = _release(tree)
    inventory, lost = _inventory(tree, release, vouched=broken is None)
    faults = [Fault(path, kind) for path, kind in ((RELEASE_FILE, broken), (FILES, lost)) if kind]
    own = own_files(inventory) if inventory else {}
    total = sum(status.st_size for status in tree.found.values() if stat.S_ISREG(status.st_mode))
    with progress("Verifying", total=total, unit="bytes") as advance:
        hashes = _hashes(tree, own, advance)
        faults += _compare(own, tree.found, hashes)
        packages, unknown = _packages(tree, own or tree.found, {fault.path for fault in faults})
        hashes |= _hashes(tree, packages, advance)
    faults += _compare(packages, tree.found, hashes)
    bytecode: set[str] = set()
    if inventory:
        faults += _modes(inventory, tree, {fault.path for fault in faults}, packages, shared=shared)
        if not unknown:
            known = own.keys() | packages.keys()
            bytecode = {path for path in tree.found.keys() - known if module_of(path) in known}
            faults += _extra(tree.found, known | bytecode)
    return VerifiedRelease(
        view=prefix.parent.parent.name,
        release=prefix.parent.name,
        platform=prefix.name,
        files=len(hashes),
        bytes=sum(tree.found[path].st_size for path in hashes),
        bytecode=len(bytecode),
        whole=inventory is not None and not unknown,
        faults=tuple(sorted(faults)),
    )


def verify_new(
    tree: Tree, inventory: Inventory, *, compared: int, shared: bool = False, progress: Progress = silent
) -> tuple[Fault, ...]:
    """Return what `verify` would find in a prefix that is about to be a release, and no repair could mend.

    What the inventory holds was read for it just now, so that only the packages' files are compared.

    Args:
        tree: the prefix, as it was read when all was in it but ``release.json``.
        inventory: what was taken of it.
        compared: the moment at which an install had compared all that it shares with the cache; see `_is_compared`.
        shared: as for `verify`.
    """
    packages = {path.path: path for file in tree.records.values() for path in file.record.paths}
    found = tree.found
    hashes = {path: to.sha256 for path, to in packages.items() if path in found and _is_compared(found[path], compared)}
    unread = {path: entry for path, entry in packages.items() if path not in hashes}
    total = sum(found[path].st_size for path in unread if path in found)
    with progress("Verifying", total=total, unit="bytes") as advance:
        hashes |= _hashes(tree, unread, advance)
    faults = [*_compare(packages, found, hashes)]
    faults += _modes(inventory, tree, {fault.path for fault in faults}, packages, shared=shared)
    faults += _extra(found, own_files(inventory).keys() | packages.keys())
    return tuple(sorted(faults))


def _release(tree: Tree) -> tuple[Release | None, FaultKind | None]:
    """Return what ``release.json`` says, and what is wrong with it."""
    if RELEASE_FILE not in tree.found:
        return None, "missing"
    path = tree.prefix / RELEASE_FILE
    try:
        text = content(path) or b""
        release = parse(Release, text, path)
    except DamagedError:
        return None, "changed"
    except UnreadableError:
        return None, "unreadable"
    return release, None if is_intact(text, release) else "changed"


def _inventory(tree: Tree, release: Release | None, *, vouched: bool) -> tuple[Inventory | None, FaultKind | None]:
    """Return what ``files.json`` says, and what is wrong with it.

    Args:
        vouched: whether the release's file is whole: what a damaged one says of the inventory may be the damage.
    """
    if release is None:
        return None, None
    if FILES not in tree.found:
        return None, "missing"
    path = tree.prefix / FILES
    try:
        text = content(path) or b""
        if vouched and hashlib.sha256(text).hexdigest() != release.files:
            return None, "changed"
        return parse(Inventory, text, path), None
    except DamagedError:
        return None, None  # so is release.json, or it would not vouch for this
    except UnreadableError:
        return None, "unreadable"


def _packages(tree: Tree, known: Iterable[str], damaged: set[str]) -> tuple[dict[str, RecordedPath], bool]:
    """Return what the conda records say, and whether one of them cannot be believed."""
    names = set(filter(is_conda_record, known))
    expected: dict[str, RecordedPath] = {}
    for name in sorted(names - damaged):
        try:
            expected |= {path.path: path for path in tree.records[name].record.paths}
        except CondaRecordError:
            damaged = damaged | {name}
    return expected, bool(names & damaged)


def _compare(
    expected: Mapping[str, RecordedPath], found: Mapping[str, os.stat_result], hashes: Mapping[str, str]
) -> Iterator[Fault]:
    for path, entry in expected.items():
        if path not in found:
            yield Fault(path, "missing", entry.package)
        elif _kind(found[path]) != entry.kind:
            yield Fault(path, "link" if "link" in {entry.kind, _kind(found[path])} else "changed", entry.package)
        elif entry.kind != "folder" and hashes[path] == _UNREADABLE:
            yield Fault(path, "unreadable", entry.package)
        elif entry.kind != "folder" and entry.sha256 and hashes[path] != entry.sha256:
            yield Fault(path, "link" if entry.kind == "link" else "changed", entry.package)


def _modes(
    inventory: Inventory, tree: Tree, known: set[str], packages: Mapping[str, RecordedPath], *, shared: bool
) -> Iterator[Fault]:
    modes = inventory.mode_of
    for path, status in {".": tree.prefix.lstat(), **tree.found}.items():
        if stat.S_ISLNK(status.st_mode) or path in known:
            continue
        mode = private(status.st_mode) if shared else stat.S_IMODE(status.st_mode)
        if mode != expected_mode(modes, path, status) and not _is_pythons(path, packages):
            yield Fault(path, "mode", packages[path].package if path in packages else "")


def _extra(found: Mapping[str, os.stat_result], known: set[str]) -> Iterator[Fault]:
    for path, status in found.items():
        if path not in known and path not in {RELEASE_FILE, FILES} and not is_folder(status):
            yield Fault(path, "extra")


def _is_pythons(path: str, packages: Mapping[str, RecordedPath]) -> bool:
    """Tell whether Python writes such a path itself: who may write where, it takes from the module."""
    return path.endswith("/__pycache__") or (module_of(path) is not None and path not in packages)


def _kind(status: os.stat_result) -> str:
    if stat.S_ISLNK(status.st_mode):
        return "link"
    if is_folder(status):
        return "folder"
    return "file" if stat.S_ISREG(status.st_mode) else "none of these"  # of a pipe, the first byte may never come


def _hashes(tree: Tree, expected: Mapping[str, RecordedPath], advance: Advance) -> dict[str, str]:
    """Return the sha256 of every expected file and of the text of every expected link, as far as they are there."""
    there = [
        path
        for path, entry in expected.items()
        if path in tree.found and _kind(tree.found[path]) == entry.kind != "folder"
    ]
    hashes = {path: tree.records[path].sha256 or _UNREADABLE for path in there if path in tree.records}
    advance(sum(tree.found[path].st_size for path in hashes))
    over = Event()

    def work(batch: Sequence[str]) -> dict[str, str]:
        unsaid = 0

        def told(read: int) -> None:
            nonlocal unsaid
            if over.is_set():
                raise _OverError
            unsaid += read
            if unsaid >= _SAID:
                advance(unsaid)
                unsaid = 0

        done = {path: _sha256(f"{tree.prefix}/{path}", tree.found[path], told) for path in batch}
        advance(unsaid)
        return done

    batches = _batches([path for path in there if path not in hashes], tree.found)
    with ThreadPoolExecutor(_THREADS) as pool:
        try:
            for part in pool.map(work, batches):
                hashes |= part
        finally:
            over.set()  # the pool waits for its threads; Ctrl-C must not wait for gigabytes
    return hashes


def _batches(paths: Sequence[str], found: Mapping[str, os.stat_result]) -> Iterator[Sequence[str]]:
    """Divide files among threads: large ones first, each by itself, so that no core waits for another at the end."""
    large = sorted((path for path in paths if found[path].st_size >= _LARGE), key=lambda path: -found[path].st_size)
    small = [path for path in paths if found[path].st_size < _LARGE]
    yield from ((path,) for path in large)
    yield from (small[start : start + _BATCH] for start in range(0, len(small), _BATCH))


def _is_compared(status: os.stat_result, moment: int) -> bool:
    """Tell whether a file is still what an install compared.

    It is one with the cache's file, whose sha256 the install has taken (by rattler; of what was unpacked just then by
    `mlviews.prefix.unpacked`). Whatever wrote to it since has moved its ``ctime``, which nobody can set back, to the
    moment or past it: both are given by the one clock of that file system, so its resolution does not matter. A file
    of that very tick is read again. What is no hard link is the install's own work, and is always read, as is all that
    came later: byte code, and what link scripts wrote.
    """
    return stat.S_ISREG(status.st_mode) and status.st_nlink > 1 and status.st_ctime_ns < moment


def _sha256(path: str, status: os.stat_result, told: Callable[[int], object]) -> str:
    """Return a hash; one that nothing has where the disk gives no bytes."""
    try:
        if stat.S_ISLNK(status.st_mode):
            return hashlib.sha256(os.fsencode(os.readlink(path))).hexdigest()  # noqa: PTH115  (as bytes)
        return file_sha256(path, told)
    except OSError:
        return _UNREADABLE
