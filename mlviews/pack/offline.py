"""A lock's archives as a conda channel in a folder, from which a host without a network builds the view.

The channel holds what the lock names and nothing else; its repodata say what the lock says, so that a solve on it gives
the same lock. See CEP 26 for names, and https://docs.conda.io/projects/conda-build/en/stable/concepts/generating-index.html.
"""

from __future__ import annotations

import asyncio
import json
import shutil
import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from rattler.package_streaming import PackageArchive, download_to_path

from mlviews.conda.servers import http_client, mirror_servers
from mlviews.errors import FailedError, RefusedError
from mlviews.files.filelock import LOCK, announce, hold
from mlviews.files.reading import is_file, is_folder_at, names_in
from mlviews.files.writing import (
    delete_tree,
    file_sha256,
    forget_parts,
    make_folder,
    remove_file,
    replacing,
    take_after,
    write_atomically,
    write_failure,
)
from mlviews.hardware import PLATFORMS
from mlviews.lock.lockfile import LOCK_SUFFIX, Lock, LockedPackage, lock_path
from mlviews.lock.parse import read_lock
from mlviews.loop import run
from mlviews.prefix.archives import hash_mismatch, install_failure, local_archive, with_lengths

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from rattler.networking import Client

    from mlviews.progress import Advance, Progress
    from mlviews.site.profile import Site

_AT_ONCE = 8
_LOCKS = "lockfiles"
_NOARCH = "noarch"
_NAMED = 5
_SCRATCH = ".mlviews-index-"


@dataclass(frozen=True, slots=True)
class OfflineChannel:
    """What `pack_offline` made of a folder.

    Attributes:
        lock: the lock's digest.
        folder: the channel.
        lockfile: the lock, in a folder of its own beside the archives.
        channels: those that it stands for, as ``--mirror`` names them.
        archives: how many there are.
        bytes: their size.
        fetched: how many were not there before.
        removed: those of the lock that lay there before which this one does not name.
    """

    view: str
    lock: str
    folder: Path
    lockfile: Path
    channels: Sequence[str]
    platforms: Sequence[str]
    archives: int
    bytes: int
    fetched: int
    removed: Sequence[str]


def pack_offline(lock_file: Path, folder: Path, *, site: Site, progress: Progress) -> OfflineChannel:
    """Make a folder the channel of exactly what a lock names: each archive checked against its sha256.

    Called again it fetches what is not there or not what the lock says; killed at any moment, too.

    Args:
        folder: the channel; a new folder, or one that this function wrote for an earlier lock.
        site: its mirrors are fetched from.

    Raises:
        RefusedError: the lock names wheels, which no channel can hold, two archives of one name, or the folder holds
            archives of something else.
    """
    lock = read_lock(lock_file)
    _refuse_wheels(lock, site)
    wanted = _by_path(lock)
    subdirs = sorted({*lock.platforms, _NOARCH})
    _refuse_others(folder, lock.view)
    with hold(folder / LOCK, waiting=announce(progress, str(folder))):
        for left in folder.glob(f"{_SCRATCH}*"):  # of a call that was killed: nobody else is at work here
            delete_tree(left)
        there = _old_archives(folder, lock.view, wanted)
        for path in {*there, *wanted}:
            forget_parts(folder / path)
        fetched = _make(folder, subdirs, wanted, site, progress)
        removed = sorted(there - wanted.keys())
        for path in removed:
            remove_file(folder / path)
        # Last: the lock that lies there tells the next call what of the folder is its own.
        write_atomically(lock_path(folder / _LOCKS, lock.view), lock_file.read_text(encoding="utf-8"))
    kept = lock_path(folder / _LOCKS, lock.view)
    size = sum((folder / path).stat().st_size for path in wanted)
    return OfflineChannel(
        lock.view, lock.digest, folder, kept, tuple(lock.inputs["channels"]), lock.platforms, len(wanted), size,
        fetched, removed,
    )  # fmt: skip


def _make(
    folder: Path, subdirs: Sequence[str], wanted: Mapping[str, LockedPackage], site: Site, progress: Progress
) -> int:
    """Make the folder hold what is wanted, and say so in its repodata; return how many archives came."""
    for subdir in subdirs:
        make_folder(folder / subdir)
    fetched = _fill(folder, wanted, site.mirrors, progress)
    tables = _tables(folder, wanted, subdirs)
    for subdir in subdirs:
        write_atomically(folder / subdir / "repodata.json", json.dumps(tables[subdir], indent=1, sort_keys=True) + "\n")
    return fetched


def _refuse_wheels(lock: Lock, site: Site) -> None:
    wheels = {package.name for package in lock.packages if package.manager == "pip" or site.packages == "wheels"}
    if wheels:
        some = ", ".join(sorted(wheels)[:_NAMED])
        raise RefusedError(
            "offline-wheels",
            f"the lock of {lock.view} names wheels, which no channel holds: {some}"
            + (f" and {len(wheels) - _NAMED} more" if len(wheels) > _NAMED else ""),
            "`mlviews pack VIEW -o FILE` packs the built release instead, with its wheels.",
        )


def _by_path(lock: Lock) -> dict[str, LockedPackage]:
    """Return what a lock names, by its path in a channel; a noarch package stands in it once for each platform."""
    found: dict[str, LockedPackage] = {}
    for package in lock.packages:
        known = found.setdefault(f"{package.subdir}/{package.archive}", package)
        if known.sha256 != package.sha256:
            raise RefusedError(
                "offline-clash",
                f"{known.url} and {package.url} have the same name and different contents",
                "Remove one of them from the view: the folder stands for all channels.",
            )
    return found


def _refuse_others(folder: Path, view: str) -> None:
    """Refuse a folder that holds anything but a channel: it may be somebody's home."""
    own = {*PLATFORMS, _NOARCH, _LOCKS, LOCK}
    names = names_in(folder) if is_folder_at(folder, follow=True) else []
    if others := sorted(name for name in names if name not in own and not name.startswith(_SCRATCH)):
        raise _not_its_folder(folder, others[0], view)


def _not_its_folder(folder: Path, what: str, view: str) -> RefusedError:
    return RefusedError(
        "offline-folder",
        f"{folder} holds {what}, which is not of the lock of {view}",
        "Name a new folder: it may hold nothing but the archives of the lock.",
    )


def _old_archives(folder: Path, view: str, wanted: Mapping[str, LockedPackage]) -> set[str]:
    """Return the archives in a folder, each of which is to be the lock's, or that of the lock which lies there."""
    old = lock_path(folder / _LOCKS, view)
    known = {f"{package.subdir}/{package.archive}" for package in read_lock(old).packages} if is_file(old) else set()
    there = {str(path.relative_to(folder)) for ending in (".conda", ".tar.bz2") for path in folder.glob(f"*/*{ending}")}
    others = {path.name for path in (folder / _LOCKS).glob(f"*{LOCK_SUFFIX}")} - {old.name}
    if strangers := sorted((there - known - wanted.keys()) | others):
        raise _not_its_folder(folder, strangers[0], view)
    return there


def _fill(folder: Path, wanted: Mapping[str, LockedPackage], mirrors: Mapping[str, str], progress: Progress) -> int:
    """Put each archive there that is not; return how many that were."""
    gate = asyncio.Semaphore(_AT_ONCE)
    client = http_client(mirror_servers(mirrors))

    async def one(path: str, package: LockedPackage, advance: Advance) -> bool:
        async with gate:
            target = folder / path
            fresh = not await asyncio.to_thread(_is_intact, target, package)
            if fresh:
                await _fetch(package, target, local_archive(package, mirrors), client)
            advance(package.size, note=package.archive)
            return fresh

    async def work(advance: Advance) -> int:
        tasks = [asyncio.ensure_future(one(path, package, advance)) for path, package in wanted.items()]
        try:
            return sum(await asyncio.gather(*tasks))
        finally:
            for task in tasks:
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)

    total = sum(package.size for package in wanted.values())
    with progress("Collecting archives", total=total, unit="bytes") as advance:
        return run(work(advance))


def _is_intact(path: Path, package: LockedPackage) -> bool:
    return is_file(path) and file_sha256(path) == package.sha256


async def _fetch(package: LockedPackage, target: Path, source: Path | None, client: Client) -> None:
    try:
        with replacing(target) as part:
            if source:
                await asyncio.to_thread(shutil.copyfile, source, part)
            else:
                await download_to_path(client, package.url, part)
            found = await asyncio.to_thread(file_sha256, part)
            if found != package.sha256:
                raise hash_mismatch(f"{source or package.url} has sha256 {found}, the lock says {package.sha256}")
            take_after(part, 0o644)
    except FileNotFoundError as error:
        if source is None:
            raise write_failure(f"{target} cannot be written", error) from error
        raise FailedError(
            "archive-missing", f"there is no {source}", "Complete the mirror, or leave it out."
        ) from error
    except OSError as error:
        raise write_failure(f"{target} cannot be written", error) from error
    except RuntimeError as error:  # all that rattler says of a download
        raise install_failure(f"{package.url}: error sending request: {error}") from error


def _tables(folder: Path, wanted: Mapping[str, LockedPackage], subdirs: Iterable[str]) -> dict[str, dict[str, Any]]:
    """Return the repodata of each subdir."""
    tables: dict[str, dict[str, Any]] = {
        subdir: {"info": {"subdir": subdir}, "packages": {}, "packages.conda": {}, "repodata_version": 1}
        for subdir in subdirs
    }
    with tempfile.TemporaryDirectory(prefix=_SCRATCH, dir=folder) as scratch:
        told = run(_indexes([with_lengths(folder / path, Path(scratch)) for path in wanted]))
    for (path, package), index in zip(wanted.items(), told, strict=True):
        key = "packages.conda" if path.endswith(".conda") else "packages"
        tables[package.subdir][key][package.archive] = _record(folder / path, package, index)
    return tables


async def _indexes(archives: Iterable[Path]) -> list[bytes | OSError]:
    """Return ``info/index.json`` of each archive, or why there is none."""

    async def one(archive: Path) -> bytes | OSError:
        try:
            return await (await PackageArchive.from_path(archive)).read_file("info/index.json") or b""
        except OSError as error:
            return error

    return [await one(archive) for archive in archives]


def _record(archive: Path, package: LockedPackage, index: bytes | OSError) -> dict[str, Any]:
    """Return what the channel says of a package: what its archive says, and where the lock differs the lock."""
    try:
        if isinstance(index, OSError):
            raise index
        record: dict[str, Any] = json.loads(index)
        told = (record["name"], record["version"], record["build"])
    except (OSError, ValueError, TypeError, KeyError, RecursionError) as error:
        raise FailedError(
            "archive-invalid", f"{archive} is not a conda package: {error}", "Tell the people who run the channel."
        ) from error
    if told != (package.name, package.version, package.build):
        raise FailedError(
            "archive-invalid",
            f"{archive} says that it is {'-'.join(map(str, told))}",
            "Tell the people who run the channel.",
        )
    # The channel may have corrected these since the package was made.
    record |= {"depends": [*package.needs], "constrains": [*package.rest.constrains]}
    record.pop("python_site_packages_path", None)
    if package.rest.python_site_packages_path:
        record["python_site_packages_path"] = package.rest.python_site_packages_path
    record |= {"subdir": package.subdir, "size": archive.stat().st_size}
    return {**record, "md5": package.md5, "sha256": package.sha256}
