"""Lock -> prefix: every archive checked against the lock, fetched, linked, and the conda records put right."""

from __future__ import annotations

import asyncio
import re
import stat
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from itertools import count
from pathlib import Path
from typing import TYPE_CHECKING

from rattler import RepoDataRecord, Subdir
from rattler import install as rattler_install
from rattler.install import InstallerReporter
from rattler.package_cache import PackageCache, ValidationMode

from mlviews.conda.records import CondaRecord, is_installed
from mlviews.conda.servers import http_client, mirror_servers
from mlviews.errors import FailedError
from mlviews.files.filelock import LOCK, announce, hold
from mlviews.files.permissions import CLOSED, group_id, settle
from mlviews.files.writing import delete_tree, make_folder, write_failure
from mlviews.loop import run
from mlviews.prefix.archives import Located, check_archives, install_failure, local_archive, refused_path, source_record
from mlviews.prefix.clobbers import LINKING_FAILED, Programs, link_all
from mlviews.prefix.complete import complete_records
from mlviews.prefix.realize import realized
from mlviews.prefix.unpacked import (
    PACKAGES,
    check_unpacked,
    close_cache,
    note_unpacked,
    noted,
    unpacked_state,
)
from mlviews.progress import Advance, Progress, silent

if TYPE_CHECKING:
    from collections.abc import Container, Iterable, Iterator, Mapping, Sequence

    from mlviews.lock.lockfile import Lock, LockedPackage
    from mlviews.site.profile import Site

PREFIX_LENGTH = 255
"""Longest prefix in bytes: conda packages are built with a placeholder of that length (conda-build's default)."""

_UNSAFE_IN_PREFIX = "\"'`$\\!#:;"
_JUPYTERS = re.compile(r"\{\w+\}")
_TICK_SECONDS = 0.1
_REST_SECONDS = 0.5
_SHOWN = 200  # characters of a path


@dataclass(frozen=True, slots=True)
class Prefix:
    """A prefix of conda's: a folder that packages are installed into.

    Attributes:
        folder: where it lies.
        baked: where its files and programs believe that it lies; the same, except where one builds for another place.
        platform: the conda subdir that its packages are for.
    """

    folder: Path
    baked: Path
    platform: str

    @classmethod
    def in_place(cls, folder: Path, platform: str) -> Prefix:
        """Return one that is used where it lies."""
        return cls(folder, folder, platform)


def check_prefix(prefix: Path) -> None:
    """Refuse a prefix that the scripts of conda packages would not survive.

    Raises:
        FailedError: it is too long, or holds a character that a shebang or a shell reads as something else.
    """
    text = str(prefix)
    hint = "Choose another folder with --root."
    if len(text.encode()) > PREFIX_LENGTH:
        raise FailedError(
            "prefix-too-long", f"{text} is {len(text.encode())} bytes long; conda packages allow {PREFIX_LENGTH}", hint
        )
    if braces := _JUPYTERS.search(text):
        raise FailedError("prefix-unsafe", f"{text} holds {braces[0]}, which Jupyter would replace in a kernel", hint)
    if bad := sorted(
        {character for character in text if character in _UNSAFE_IN_PREFIX or not character.isprintable()}
    ):
        raise FailedError(
            "prefix-unsafe",
            f"{text!r} holds {' '.join(map(repr, bad))}, which must not be in the path of packages' scripts",
            hint,
        )


def install(
    packages: Sequence[LockedPackage],
    prefix: Prefix,
    *,
    cache: Path,
    mirrors: Mapping[str, str],
    group: str | None = None,
    compared: Iterable[str] = (),
    progress: Progress = silent,
) -> tuple[CondaRecord, ...]:
    """Install locked packages into an empty or partly installed prefix; return the conda records of all in it.

    Args:
        cache: folder of unpacked packages, shared between prefixes by hard links.
        mirrors: channel -> folder or URL to fetch from.
        group: whose members may write what is installed, too.
        compared: names of packages whose archives were compared with their sha256 just now.

    Raises:
        FailedError: an archive is missing or its bytes are not the lock's, the network or the disk failed, or the
            prefix is one that packages cannot bear.
        BadInputError: this host does not know the group.
        KeyboardInterrupt: Ctrl-C; what is there then is no release, and the next install starts over.
    """
    check_prefix(prefix.baked)
    located = [Located(package, local_archive(package, mirrors)) for package in packages]
    gid, unpacked = group_id(group), cache / PACKAGES
    watcher = _Watcher(packages, unpacked)  # type: ignore[abstract]  # its methods do nothing unless overridden
    linker = _Linker(prefix, mirrors, unpacked, watcher)
    _make_closed(prefix.folder)
    close_cache(unpacked, gid)
    with (
        # There, `gc` knows that it is debris as soon as nobody installs.
        tempfile.TemporaryDirectory(dir=unpacked, prefix=".archives-") as scratch,
        # rattler lets one process at a time into its cache anyway.
        hold(unpacked / LOCK, waiting=announce(progress, "the cache")),
    ):
        fresh = {package.name for package in check_unpacked(unpacked, packages, gid, linked_in=prefix.folder)}
        # Of what is unpacked already, rattler reads no archive.
        read = fresh - {*compared}
        check_archives([item for item in located if item.package.name in read], progress)
        records = _link(linker, located, fresh, Path(scratch), group=gid, progress=progress)
    settle(prefix.folder, gid)
    return records


def _link(
    linker: _Linker,
    located: Sequence[Located],
    fresh: Container[str],
    scratch: Path,
    *,
    group: int | None,
    progress: Progress,
) -> tuple[CondaRecord, ...]:
    """Link packages, note what was unpacked for it, and complete the conda records.

    Args:
        fresh: names of the packages that must be unpacked.
        scratch: a folder for archives that are written anew.
    """
    label = "Unpacking" if all(item.archive for item in located) else "Downloading"
    with (
        progress(label, total=sum(item.package.size for item in located), unit="bytes") as loaded,
        progress("Linking", total=len(located)) as linked,
    ):
        try:
            wanted = [source_record(item, scratch if item.package.name in fresh else None) for item in located]
            folder = linker.prefix.folder
            with _noted(linker.unpacked, located, fresh, group=group, prefix=folder, progress=progress):
                run(linker.link_all(wanted, loaded, linked))
            return complete_records(folder, {item.package.archive: item.package for item in located})
        except (*LINKING_FAILED, OSError) as error:
            raise linker.watcher.refusal or install_failure(str(error)) from error


@dataclass(frozen=True, slots=True)
class _Linker:
    """Has rattler link packages into a prefix; other attributes as the arguments of `install`.

    Attributes:
        unpacked: folder of unpacked packages.
    """

    prefix: Prefix
    mirrors: Mapping[str, str]
    unpacked: Path
    watcher: _Watcher

    async def link_all(self, records: Sequence[RepoDataRecord], loaded: Advance, linked: Advance) -> None:
        """Link packages, and show meanwhile how far that is."""
        ticker = asyncio.ensure_future(self.watcher.tick(loaded, linked))
        try:
            await link_all(records, self._link, self.watcher.programs, self.prefix.folder, clear=self._clear)
        finally:
            ticker.cancel()
            self.watcher.show(loaded, linked)

    async def _link(self, records: Sequence[RepoDataRecord]) -> None:
        folder, baked = self.prefix.folder, self.prefix.baked
        await rattler_install(
            [*records],
            folder,
            platform=Subdir(self.prefix.platform),
            client=http_client(mirror_servers(self.mirrors)),
            package_cache=PackageCache.new_layered([self.unpacked], validation_mode=ValidationMode.full()),
            alternative_target_prefix=None if baked == folder else baked,
            execute_link_scripts=False,
            reporter=self.watcher,
        )

    async def _clear(self) -> None:
        await self.watcher.at_rest()
        delete_tree(self.prefix.folder)
        _make_closed(self.prefix.folder)


@contextmanager
def _noted(
    unpacked: Path,
    located: Sequence[Located],
    fresh: Container[str],
    *,
    group: int | None,
    prefix: Path,
    progress: Progress,
) -> Iterator[None]:
    """When the context ends, note what an install has unpacked.

    Args:
        fresh: names of the packages that it must unpack. Where rattler finds another one damaged, it unpacks that, too.
    """
    packages = [item.package for item in located]
    before = unpacked_state(unpacked, packages)

    def note() -> None:
        now = unpacked_state(unpacked, packages)
        again = [
            item for item in located if now.get(name := item.package.name) != before.get(name) and name not in fresh
        ]
        try:
            check_archives(again, progress)
        except FailedError:
            for folder in (prefix, *(unpacked / item.package.stem for item in again)):
                delete_tree(folder)
            raise
        new = [item.package for item in located if item.package.name in fresh or item in again]
        note_unpacked(unpacked, [package for package in new if is_installed(prefix, package.stem)], group)

    try:
        yield
    except LINKING_FAILED:
        note()  # what is linked is whole, also where another package failed
        raise
    note()


def _make_closed(prefix: Path) -> None:
    """Make the prefix, or keep others out of it, until its files have the permissions that they should."""
    make_folder(prefix)
    try:
        prefix.chmod(CLOSED)
    except OSError as error:
        raise write_failure(f"{prefix} cannot be written", error) from error


@dataclass(frozen=True, slots=True)
class Installed:
    """What `installed` has put into a prefix.

    Attributes:
        packages: what the lock holds for the platform, as archives.
        records: the conda records of all that is there.
        compared: the moment at which each file that the prefix shares with the cache had been compared with its sha256:
            in nanoseconds, by the clock of the prefix's file system.
    """

    packages: tuple[LockedPackage, ...]
    records: tuple[CondaRecord, ...]
    compared: int


@contextmanager
def installed(
    lock: Lock, prefix: Prefix, *, site: Site, base: str | None = None, progress: Progress
) -> Iterator[Installed]:
    """Install what a site's lock holds for a prefix; nobody clears the site's cache until the context ends.

    Other arguments and errors are those of `install`.

    Args:
        base: the prefix that the lock's view extends.
    """
    with hold(site.cache / LOCK, waiting=announce(progress, "the cache"), shared=True):
        packages = realized(lock, prefix.platform, cache=site.cache, base=base, progress=progress)
        records = install(
            packages,
            prefix,
            cache=site.cache,
            mirrors=site.mirrors,
            group=site.group,
            compared=restore(packages, site, noted=noted(site.cache / PACKAGES, packages), progress=progress),
            progress=progress,
        )
        yield Installed(packages, records, _moment(prefix.folder))


def _moment(prefix: Path) -> int:
    """Return now, as the prefix's file system notes it of every file that is changed (``ctime``)."""
    try:
        prefix.chmod(stat.S_IMODE(prefix.stat().st_mode))
        return prefix.stat().st_ctime_ns
    except OSError as error:
        raise write_failure(f"{prefix} cannot be written", error) from error


def restore(
    packages: Sequence[LockedPackage], site: Site, *, noted: Container[str] = (), progress: Progress = silent
) -> set[str]:
    """See to it that a site of wheels, whose channel is its own, holds the archives that its locks name.

    Args:
        noted: names of packages that were unpacked of these archives: they are not read again.

    Returns:
        The names of the packages whose archives were compared with their sha256.
    """
    if site.packages != "wheels":
        return set()
    from mlviews.wheels.restore import restore_archives  # noqa: PLC0415  (only such sites need it)

    theirs = [package for package in packages if package.md5]  # the others were made for this install
    archives = {f"{package.subdir}/{package.archive}": package.sha256 for package in theirs}
    unread = {f"{package.subdir}/{package.archive}" for package in theirs if package.name in noted}
    restore_archives(archives, cache=site.cache, unread=unread, progress=progress)
    return {package.name for package in theirs if package.name not in noted}


class _Watcher(InstallerReporter):
    """Counts what rattler reports from its own threads, which must not wait for a terminal; looks at what is unpacked.

    A package that rattler must not link is taken out of the cache at once: then it cannot.
    """

    def __init__(self, packages: Sequence[LockedPackage], cache: Path) -> None:
        self.linked = 0
        self.programs = Programs()
        self.refusal: FailedError | None = None
        self._cache = cache
        self._stems = {package.name: package.stem for package in packages}
        self._sizes = {package.name: package.size for package in packages}
        self._names: dict[int, str] = {}
        self._numbers = count()
        self._linking: set[int] = set()
        self._there: dict[str, int] = {}
        self._coming: dict[int, int] = {}
        self._shown = (0, 0)

    def on_populate_cache_start(self, operation: int, package_name: str) -> int:
        del operation
        number = next(self._numbers)
        self._names[number] = package_name
        return number

    def on_download_progress(self, download_idx: int, progress: int, total: int | None) -> None:
        del download_idx  # py-rattler 0.28 gives 0 to every download: their sizes tell them apart
        if total:
            self._coming[total] = progress

    def on_populate_cache_complete(self, cache_entry: int) -> None:
        name = self._names[cache_entry]
        self._there[name] = self._sizes.get(name, 0)
        self._coming.pop(self._there[name], None)
        unpacked = self._cache / self._stems[name]
        if path := refused_path(unpacked):
            self.refusal = FailedError(
                "archive-unsafe",
                f"{self._stems[name]} holds {path[:_SHOWN]!r}, a path that is absolute, leads out or lies too deep",
                "Leave the package out, and tell the people who run the channel.",
            )
            delete_tree(unpacked)
        else:
            self.programs.look(name, unpacked)

    def on_link_start(self, operation: int, package_name: str) -> int:
        del operation, package_name
        self._linking.add(number := next(self._numbers))
        return number

    def on_link_complete(self, index: int) -> None:
        self._linking.discard(index)
        self.linked += 1

    async def at_rest(self) -> None:
        """Wait, after an error, until no thread links any more; of what is not linked after all, none tells."""
        while self._linking:
            before = len(self._linking)
            await asyncio.sleep(_REST_SECONDS)
            if len(self._linking) == before:
                self._linking.clear()

    def show(self, loaded: Advance, linked: Advance) -> None:
        """Move the bars on to where the work is."""
        now = (sum(self._there.copy().values()) + sum(self._coming.copy().values()), self.linked)
        loaded(now[0] - self._shown[0])
        linked(now[1] - self._shown[1])
        self._shown = now

    async def tick(self, loaded: Advance, linked: Advance) -> None:
        """Do so again and again."""
        while True:
            await asyncio.sleep(_TICK_SECONDS)
            self.show(loaded, linked)
