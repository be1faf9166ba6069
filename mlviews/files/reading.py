"""Reading what lies in a store: it is there, it is absent, or it cannot be read.

Only what is absent may be taken for nothing: what cannot be read stays, and somebody is told why (`UnreadableError`).
`Path.exists`, `is_file`, `glob` and `os.path.lexists` do not serve: depending on Python's version they call a file
absent when the disk, the server or an expired token keeps it back.
"""

from __future__ import annotations

import errno
import os
import pwd
import stat
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path

from mlviews.errors import FailedError

RELEASE_FILE = "release.json"
"""A release exists where this file does, in each platform's folder."""
UNPROMOTED = "unpromoted"
"""Where this file is, in a release's folder, it was never the default."""
NOTE = "removed.json"
"""Where this file is, in a release's folder, the release was removed, and its name is never given again."""

_ABSENT = {errno.ENOENT, errno.ENOTDIR, errno.ELOOP, errno.ENAMETOOLONG}
_NO_LINK = {*_ABSENT, errno.EINVAL}


@dataclass(frozen=True, slots=True)
class Unreadable:
    """Something that cannot be read, and so stays as it is.

    Attributes:
        why: as the system says it; or that the file is damaged, or was made by a newer mlviews.
    """

    path: Path
    why: str


class UnreadableError(FailedError):
    """Something is there, or may be, and cannot be read."""

    def __init__(self, path: Path, why: str, hint: str = "") -> None:
        known = "mlviews changed nothing. Check the disk and the permissions; on AFS or EOS check your token."
        super().__init__("unreadable", f"{path} cannot be read: {why}", hint or known)
        self.path, self.why = path, why

    @property
    def unreadable(self) -> Unreadable:
        """What it is, for those who go on and tell it at the end."""
        return Unreadable(self.path, self.why)


class DamagedError(UnreadableError):
    """A file of the store has no content that any mlviews wrote."""

    def __init__(self, path: Path, why: str = "it is damaged") -> None:
        super().__init__(path, why, "mlviews has changed nothing. Delete it yourself, if nobody needs it.")


def status(path: Path, *, follow: bool = False) -> os.stat_result | None:
    """Return what ``lstat`` says, or ``stat``; None where nothing is there."""
    try:
        return path.stat(follow_symlinks=follow)
    except OSError as error:
        _refuse_unless(_ABSENT, path, error)
        return None


def is_file(path: Path) -> bool:
    """Tell whether a file is there, or a link to one."""
    found = status(path, follow=True)
    return found is not None and stat.S_ISREG(found.st_mode)


def is_folder_at(path: Path, *, follow: bool = False) -> bool:
    """Tell whether a folder is there; with ``follow``, a link to one will do."""
    found = status(path, follow=follow)
    return found is not None and stat.S_ISDIR(found.st_mode)


def content(path: Path, *, most: int = -1) -> bytes | None:
    """Return a file's bytes, at most so many; None where there is no file.

    A pipe is read only where this process was given it (``/dev/fd/63``, ``/dev/stdin``): another one would keep all who
    read it waiting.
    """
    given = path.is_relative_to("/dev")
    try:
        with open(path, "rb", opener=None if given else at_once) as file:
            if not given and not stat.S_ISREG(os.fstat(file.fileno()).st_mode):
                raise UnreadableError(path, "it is no file")
            return file.read(most)
    except OSError as error:
        _refuse_unless(_ABSENT, path, error)
        return None


def at_once(path: str, flags: int) -> int:
    """Open a path as ``open`` does that is given this, and wait for nobody: a pipe would wait until somebody writes."""
    return os.open(path, flags | os.O_NONBLOCK)


def names_in(folder: Path) -> list[str]:
    """Return the names in a folder, sorted; none where there is no folder."""
    try:
        return sorted(os.listdir(folder))  # noqa: PTH208  (names are asked for)
    except OSError as error:
        _refuse_unless(_ABSENT, folder, error)
        return []


def paths_in(folder: Path, ending: str) -> list[Path]:
    """Return what is in a folder with names that end so, sorted; nothing hidden."""
    return [folder / name for name in names_in(folder) if name.endswith(ending) and not name.startswith(".")]


def folders_in(folder: Path) -> list[Path]:
    """Return the folders in a folder, sorted; no links, and no hidden ones."""
    return [folder / name for name in names_in(folder) if not name.startswith(".") and is_folder_at(folder / name)]


def link_text(path: Path) -> str | None:
    """Return what a link says; None where there is no link."""
    try:
        return os.readlink(path)  # noqa: PTH115  (as it is written)
    except OSError as error:
        _refuse_unless(_NO_LINK, path, error)
        return None


def owner(path: Path) -> str:
    """Return the name of the user whose a path is; a number where nobody knows the name.

    Raises:
        OSError: nobody can tell.
    """
    return user_name(path.stat().st_uid)


def user_name(number: int) -> str:
    """Return the name of a user; the number where nobody knows the name."""
    try:
        return pwd.getpwuid(number).pw_name
    except KeyError:
        return f"user {number}"


def closed_by(path: Path) -> tuple[Path, str] | None:
    """Return what on the way to a path keeps this user out, and whose it is; None where it is the user's own.

    Args:
        path: what could not be read or written for want of permission.
    """
    reached = path
    with suppress(OSError):
        for part in (*reversed(path.parents), path):
            part.stat()
            reached = part
    with suppress(OSError):
        if reached.stat().st_uid != os.geteuid():
            return reached, owner(reached)
    return None


def _refuse_unless(absent: set[int], path: Path, error: OSError) -> None:
    if error.errno in absent:
        return
    why, hint = error.strerror or str(error), ""
    if error.errno in {errno.EACCES, errno.EPERM} and (closed := closed_by(path)):
        folder, whose = closed
        why = f"{why}; {folder} belongs to {whose}, and you may not read it"
        hint = f"Ask {whose} to open it: `chmod -R a+rX {folder}`. On AFS and EOS, check that your token is valid."
    raise UnreadableError(path, why, hint) from error
