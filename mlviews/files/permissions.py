"""Who may write what is installed: decided by one rule, not taken over from archives, the umask or the host.

conda masks the permissions of an archive with the umask, rattler keeps them: most archives of conda-forge hold 0664 and
0775, some 0666 and 0777. A file of a release is also the cache's and other releases': who may write one, writes all.
"""

from __future__ import annotations

import errno
import grp
import os
import stat
import tempfile
from collections.abc import Iterable
from functools import cache
from pathlib import Path

from mlviews.errors import BadInputError, FailedError
from mlviews.files.reading import owner, status, user_name
from mlviews.files.writing import SHARED, make_folder, walk, write_failure

CLOSED = 0o700
"""Permissions of a folder in which archives are unpacked: until they are settled, files have what the archive says."""
EXECUTABLE = 0o111
"""That anybody may execute a file."""
_NOT_HERE = {errno.ENOSYS, errno.EOPNOTSUPP, errno.EPERM}  # as exFAT, CIFS and VFAT refuse a link or a mode


@cache  # few modes, thousands of files
def decided(mode: int, *, shared: bool = False) -> int:
    """Return the permissions that a file or folder gets: readable by all, written by its owner.

    Args:
        mode: its type and permissions, as ``lstat`` gives them; that somebody may execute a file is all that counts.
        shared: whether a group may write too; what is made in a folder is the group's then.
    """
    if stat.S_ISDIR(mode):
        return 0o755 | SHARED if shared else 0o755
    usual = 0o755 if mode & EXECUTABLE else 0o644
    return usual | stat.S_IWGRP if shared else usual


@cache
def private(mode: int) -> int:
    """Return permissions without what they give to a group that shares the files."""
    return stat.S_IMODE(mode) & ~SHARED


def group_id(name: str | None) -> int | None:
    """Return the number of a group; None for none.

    Raises:
        BadInputError: this host does not know it.
    """
    if name is None:
        return None
    try:
        return grp.getgrnam(name).gr_gid
    except KeyError as error:
        raise BadInputError(
            "group-unknown",
            f"this host knows no group {name!r}",
            "Correct `group` in the site's file, or leave it out.",
        ) from error


def share(root: Path, group: str | None) -> None:
    """Make the root, and let a group share it: what is made there takes after it (`mlviews.files.writing.take_after`).

    Raises:
        BadInputError: this host does not know the group.
    """
    number = group_id(group)
    if number is None:
        return
    make_folder(root)
    try:
        settle_one(str(root), root.stat(), number)
    except OSError as error:
        raise write_failure(f"{root} cannot be shared with the group {group}", error) from error


def runs_programs(folder: Path) -> bool:
    """Tell whether a program that lies in a folder may be run, as far as the mount decides that."""
    return not os.statvfs(folder).f_flag & os.ST_NOEXEC


def check_file_system(folder: Path) -> None:
    """Refuse a folder, before any work, whose file system cannot hold packages; the folder is made.

    Raises:
        FailedError: ``disk-unfit``: it runs no programs, or keeps no permissions or no symbolic links.
    """
    make_folder(folder)
    try:
        lacking = _lacking(folder)
    except OSError as error:
        raise write_failure(f"{folder} cannot be written", error) from error
    if lacking:
        hint = "Choose a folder on another file system with --root."
        raise FailedError("disk-unfit", f"the file system of {folder} {lacking}", hint)


def _lacking(folder: Path) -> str:
    if not runs_programs(folder):
        return "runs no programs: it is mounted with noexec"
    with tempfile.TemporaryDirectory(dir=folder, prefix=".probe-") as scratch:
        file = Path(scratch, "file")
        file.touch()
        try:
            for mode in (0o644, 0o755):
                file.chmod(mode)
                if stat.S_IMODE(file.stat().st_mode) != mode:
                    return "keeps no permissions of files, as disks of Windows"
            Path(scratch, "link").symlink_to(file.name)
        except OSError as error:
            if error.errno not in _NOT_HERE:
                raise
            return f"keeps no permissions or no symbolic links: {error.strerror}"
    return ""


def refuse_foreign(root: Path, paths: Iterable[Path]) -> None:
    """Refuse files and folders of a root, or itself, by which somebody else could change what all others load.

    Trusted are this user, root, and the owner of the root; where a group shares the root, also those whom it let in.
    A folder that everybody may write to will do where it is sticky: there nobody can touch what is not his own.

    Raises:
        FailedError: ``folder-foreign``: one is another user's, or open to everybody.
    """
    top = status(root, follow=True)
    if top is None:
        return
    trusted, shared = {0, os.geteuid(), top.st_uid}, top.st_mode & SHARED == SHARED
    for path in paths:
        for found in filter(None, (status(path), status(path, follow=True))):
            if path != root and not shared and found.st_uid not in trusted:
                why = f"belongs to {user_name(found.st_uid)}"
                hint = f"Move {path} away, or share the root with a group: `group` in the site's file."
            elif not stat.S_ISLNK(found.st_mode) and found.st_mode & (stat.S_IWOTH | stat.S_ISVTX) == stat.S_IWOTH:
                why, hint = "is open to everybody", f"Close it: `chmod o-w {path}`."
            else:
                continue
            raise FailedError("folder-foreign", f"{path} {why}, who could change what all others load", hint)


def own_part(folder: Path) -> Path:
    """Return where a user keeps what rattler fetches, which it closes to all others: in a shared cache, each their own.

    The folder above it is made: rattler would close that, too, to whom the umask keeps out.

    Args:
        folder: where it lies in a cache that is one user's.
    """
    make_folder(folder.parent)
    return folder if shared_group(folder.parent) is None else folder.with_name(f"{folder.name}-{os.geteuid()}")


def open_to_readers(paths: Iterable[Path], group: int | None) -> None:
    """See to it that others can read files and folders, and a group that shares them can write; a umask may have not.

    Args:
        paths: folders before what lies in them.
    """
    for path in paths:
        status = path.lstat()
        wanted = decided(status.st_mode, shared=group is not None)
        if not stat.S_ISLNK(status.st_mode) and wanted & ~status.st_mode & 0o7777:
            try:
                settle_one(str(path), status, group)
            except PermissionError as error:
                whose = owner(path)
                hint = f"Ask {whose} to open it: `chmod -R a+rX,g+w {path}`."
                raise FailedError("closed", f"{path} belongs to {whose}, and others may not read it", hint) from error


def keep(new: Path, path: Path) -> None:
    """Move a new file to where it stays, with the permissions of what stays there from its first moment on.

    Args:
        path: its place; folders above it are made.
    """
    make_folder(path.parent)
    try:
        settle_one(str(new), new.lstat(), shared_group(path.parent), executable=False)
        new.replace(path)
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error


def shared_group(folder: Path) -> int | None:
    """Return the group that shares a folder; None where none does.

    Raises:
        OSError: the folder is not there.
    """
    status = folder.stat()
    return status.st_gid if status.st_mode & SHARED == SHARED else None


def settle(folder: Path, group: int | None) -> None:
    """Give a folder and all below it the permissions that were decided, and the group if one shares it."""
    top = str(folder)
    try:
        settle_one(top, os.lstat(top), group)
        for path, status in walk(folder):
            settle_one(f"{top}/{path}", status, group)
    except OSError as error:
        raise write_failure(f"the permissions below {folder} cannot be set", error) from error


def settle_one(path: str, status: os.stat_result, group: int | None, *, executable: bool | None = None) -> None:
    """Do so with one file or folder; links have no permissions.

    Args:
        group: as for `settle`.
        executable: whether a file should be; None: as it is.

    Raises:
        OSError: it is another user's.
    """
    if group is not None and status.st_gid != group:
        os.chown(path, -1, group, follow_symlinks=False)  # before the mode, of which it may take bits away
    if stat.S_ISLNK(status.st_mode):
        return
    kind = status.st_mode if executable is None else stat.S_IFREG | (EXECUTABLE if executable else 0)
    mode = decided(kind, shared=group is not None)
    if stat.S_IMODE(status.st_mode) != mode:
        os.chmod(path, mode)  # noqa: PTH101  (of thousands)
