"""What rattler cannot bear in an archive, kept away from it, and what it says of archives, in words for people."""

from __future__ import annotations

import re
import shutil
import zipfile
from pathlib import Path

from mlviews.conda.servers import CERTIFICATE_HINT, PORTAL_HINT, UNKNOWN_CERTIFICATE
from mlviews.errors import FailedError
from mlviews.files.writing import DISK_FULL_HINT

_LENGTH_BEHIND = 0x08  # general purpose bit 3 (APPNOTE.TXT, 4.4.4): the length follows the content
_DEEPEST = 200  # folders; genuine packages have some 30, and a thousand are too many for Python's own rmtree and walk
_ABSOLUTE = re.compile(rb'"_path"\s*:\s*"((?:/|\.\.(?:/|"))[^"]*)|"_path"\s*:\s*"([^"]*/\.\.(?:/|")[^"]*)')
_DEEP = re.compile(rb'"_path"\s*:\s*"((?:[^"/]*/){%d}[^"]*)' % _DEEPEST)
_LISTED = re.compile(rb"(?m)^(/.*|(?:.*/)?\.\.(?:/.*)?|(?:[^/\n]*/){%d}.*)$" % _DEEPEST)


def refused_path(unpacked: Path) -> str | None:
    """Return a path in an unpacked package that is absolute, leads out of it or lies too deep; None where none is.

    At an absolute one, rattler ends the whole process.
    """
    try:
        paths = (unpacked / "info/paths.json").read_bytes()
        found = _ABSOLUTE.search(paths) or _DEEP.search(paths)
    except FileNotFoundError:  # packages of before 2017
        try:
            found = _LISTED.search((unpacked / "info/files").read_bytes())
        except FileNotFoundError:
            return None
    return next(group for group in found.groups() if group).decode(errors="replace") if found else None


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
                        shutil.copyfileobj(source, target, 1 << 20)
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
            r"failed to (link|read) '",  # a file of the package; a package has no quotes
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
