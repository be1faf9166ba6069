"""Archives: where they lie, whether they are the lock's, what rattler cannot bear in one, and its words for people."""

from __future__ import annotations

import hashlib
import re
import shutil
import zipfile
from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from threading import Event
from typing import TYPE_CHECKING

from mlviews.conda.servers import (
    CERTIFICATE_HINT,
    CLOCK_HINT,
    OUT_OF_DATE,
    PORTAL_HINT,
    UNKNOWN_CERTIFICATE,
    channel_folder,
    channel_url,
)
from mlviews.errors import FailedError
from mlviews.files.writing import DISK_FULL_HINT
from mlviews.lock.packages import repodata_record

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping, Sequence

    from rattler import RepoDataRecord

    from mlviews.lock.lockfile import LockedPackage
    from mlviews.progress import Progress

_CHUNK = 1 << 20

_LENGTH_BEHIND = 0x08  # general purpose bit 3 (APPNOTE.TXT, 4.4.4): the length follows the content
_DEEPEST = 200  # folders; genuine packages have some 30, and a thousand are too many for Python's own rmtree and walk
_REFUSED = re.compile(
    rb'"_path"\s*:\s*"(?:((?:/|\.\.(?:/|"))[^"]*)|([^"]*/\.\.(?:/|")[^"]*)|((?:[^"/]*/){%d}[^"]*))' % _DEEPEST
)
_LISTED = re.compile(rb"(?m)^(/.*|(?:.*/)?\.\.(?:/.*)?|(?:[^/\n]*/){%d}.*)$" % _DEEPEST)


def refused_path(unpacked: Path) -> str | None:
    """Return a path in an unpacked package that is absolute, leads out of it or lies too deep; None where none is.

    At an absolute one, rattler ends the whole process.
    """
    found = next(listed_paths(unpacked, _REFUSED, _LISTED), None)
    return None if found is None else found.decode(errors="replace")


def listed_paths(unpacked: Path, keys: re.Pattern[bytes], lines: re.Pattern[bytes]) -> Iterator[bytes]:
    """Yield what a pattern's groups find in the list of files of an unpacked package.

    Args:
        keys: for ``paths.json``.
        lines: for the list that packages of before 2017 have in its place.
    """
    for name, pattern in (("paths.json", keys), ("files", lines)):
        with suppress(FileNotFoundError):
            text = (unpacked / "info" / name).read_bytes()
            yield from (match[match.lastindex or 0] for match in pattern.finditer(text))
            return


def with_lengths(archive: Path, folder: Path) -> Path:
    """Return an archive that rattler can read from a file: a ``.conda`` that states each length before the content.

    Zip files that were written to a stream state it behind the content, which rattler bears over http alone.

    Args:
        folder: takes the other one, with the same name and content.
    """
    if archive.suffix != ".conda":
        return archive
    try:
        with zipfile.ZipFile(archive) as packed:
            if not any(member.flag_bits & _LENGTH_BEHIND for member in packed.infolist()):
                return archive
            with zipfile.ZipFile(folder / archive.name, "w") as written:
                for member in packed.infolist():
                    stated = zipfile.ZipInfo(member.filename)
                    stated.file_size = member.file_size
                    with packed.open(member) as source, written.open(stated, "w") as target:
                        shutil.copyfileobj(source, target, _CHUNK)
    except zipfile.BadZipFile as error:
        raise FailedError("archive-invalid", f"{archive} is not a conda package: {error}", _TELL) from error
    return folder / archive.name


_TELL = "Tell the people who run the channel."
_MISMATCH = "The archive was changed or cut off. Fetch it again. If the error stays, do not trust the channel."
# What rattler says -> the error's code and hint; the first that matches.
_KINDS = tuple(
    (re.compile(pattern), code, hint)
    for pattern, code, hint in (
        ("hash mismatch", "hash-mismatch", _MISMATCH),
        ("No space left|Disk quota", "disk-full", DISK_FULL_HINT),
        (
            "Too many open files",
            "files-limited",
            "Type `ulimit -n 4096`, then the same command again. If it is refused, ask the people who run this host.",
        ),
        (OUT_OF_DATE, "certificate-unknown", CLOCK_HINT),
        (UNKNOWN_CERTIFICATE, "certificate-unknown", CERTIFICATE_HINT),
        (
            r"HTTP status client error \((404|410)",
            "archive-missing",
            "The channel has withdrawn the package: `mlviews lock VIEW --upgrade-package PACKAGE` takes another one.",
        ),
        (
            r"HTTP status client error \((401|403|407)",
            "download-refused",
            "The server wants a user, or another user: docs/recipes.md shows how to name one.",
        ),
        (
            "HTTP status|error sending request|error decoding response",
            "download-failed",
            "Check the network, or name a mirror with --mirror. With a Python package index alone: --site pypi.",
        ),
        ("(?i)invalid zip archive|bz2 header|Unknown frame descriptor", "archive-invalid", PORTAL_HINT),
        (
            r"Permission denied|Operation not permitted|Read-only file system|Input/output error",
            "write-failed",
            "Check the folder's permissions and its disk, or choose another folder with --root.",
        ),
        (
            r"failed to (link|read) '|failed to unpack `",  # a file of the package; a package has no quotes
            "package-broken",
            "Try once more. If the error stays, the package is broken: lock another build, and tell its maintainers.",
        ),
    )
)


def hash_mismatch(text: str) -> FailedError:
    """Return the error of an archive that has other bytes than the lock's."""
    return FailedError("hash-mismatch", text, _MISMATCH)


def install_failure(text: str) -> FailedError:
    """Return the error for people, of what rattler or the system says of an installation.

    Of a chain of causes the message has the first, which names the package, and the last, which says why.
    """
    first, *causes = (" ".join(cause.split()) for cause in text.split("Caused by:"))
    known = ": ".join([first, *causes[-1:]])
    for pattern, code, hint in _KINDS:
        if pattern.search(text):
            return FailedError(code, known, hint)
    return FailedError("install-failed", known, "Run the same command again; what was fetched is kept.")


@dataclass(frozen=True, slots=True)
class Located:
    """A package and, where it lies in a folder, its archive."""

    package: LockedPackage
    archive: Path | None


def local_archive(package: LockedPackage, mirrors: Mapping[str, str]) -> Path | None:
    """Return where an archive lies in a folder, be it there or not; None for one that a server has.

    Args:
        mirrors: channel -> folder or URL to fetch from.
    """
    for channel, location in mirrors.items():
        folder = channel_folder(location)
        if folder and package.url.startswith(channel_url(channel)):
            return folder / package.subdir / package.archive
    return channel_folder(package.url) if package.url.startswith("file://") else None


def check_archives(located: Sequence[Located], progress: Progress) -> None:
    """Hash archives that lie in folders: rattler checks only what comes over the network."""
    there = [item for item in located if item.archive]
    if not there:
        return
    over = Event()
    with progress("Checking", total=len(there)) as checked, ThreadPoolExecutor() as pool:
        try:
            for item, found in zip(there, pool.map(partial(_sha256, over=over), there), strict=True):
                if found != item.package.sha256:
                    raise hash_mismatch(f"{item.archive} has sha256 {found}, the lock says {item.package.sha256}")
                checked()
        finally:
            over.set()  # the pool waits for its threads, Ctrl-C must not wait for gigabytes


def _sha256(item: Located, *, over: Event) -> str:
    assert item.archive
    digest = hashlib.sha256()
    try:
        with item.archive.open("rb") as file:
            while not over.is_set() and (chunk := file.read(_CHUNK)):
                digest.update(chunk)
    except OSError as error:
        raise FailedError(
            "archive-missing",
            f"{item.archive} cannot be read: {error.strerror}",
            "Complete the mirror, or leave it out.",
        ) from error
    return digest.hexdigest()


def source_record(item: Located, scratch: Path | None) -> RepoDataRecord:
    """Return what rattler is told of a package.

    Args:
        scratch: a folder, where the archive is read.
    """
    if item.archive is None:
        return repodata_record(item.package, item.package.url)
    archive = with_lengths(item.archive, scratch) if scratch else item.archive
    return repodata_record(item.package, archive.as_uri())
