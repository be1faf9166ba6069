"""Files: written so that a reader sees the old one or the new one, whole; walked; found where mlviews' own lie."""

from __future__ import annotations

import errno
import glob
import hashlib
import os
import stat
import tempfile
import time
from collections.abc import Callable, Container, Iterable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from io import BufferedIOBase
from pathlib import Path
from typing import IO

from mlviews.errors import FailedError
from mlviews.files.reading import closed_by, status

SHARED = stat.S_ISGID | stat.S_IWGRP
"""What a folder has besides the usual permissions where a group shares it."""
DISK_FULL_HINT = "Free some space, or choose another folder with --root."
_CHUNK = 1 << 20


@contextmanager
def replacing(path: Path) -> Iterator[Path]:
    """Give the path of a file that takes the place of ``path`` when the context ends well, and else is deleted.

    It lies in a folder of its own beside it, which no other process knows. Programs that refuse to write over a file,
    or leave it to their owner alone, find none there.
    """
    with tempfile.TemporaryDirectory(prefix=f".{path.name}.", dir=path.parent, ignore_cleanup_errors=True) as folder:
        part = Path(folder, path.name)
        yield part
        part.replace(path)


def forget_parts(path: Path, *, than: timedelta = timedelta()) -> None:
    """Delete what calls of `replacing` for a path have left that were killed.

    Args:
        than: how long ago they were last written to: one that is at work must not lose its file.
    """
    for folder in aged(path.parent.glob(f".{glob.escape(path.name)}.*"), than):
        if folder.is_dir() and not folder.is_symlink() and {part.name for part in folder.iterdir()} <= {path.name}:
            delete_tree(folder)


def write_atomically(path: Path, text: str, *, executable: bool = False) -> None:
    """Write ``text`` to ``path``: to a file beside it, flushed to the disk, then renamed.

    Raises:
        FailedError: the disk is full, or the folder is read-only; what was there before is whole.
    """
    make_folder(path.parent)
    temporary = ""
    try:
        descriptor, temporary = tempfile.mkstemp(prefix=f".{path.name}.", dir=path.parent)
        with os.fdopen(descriptor, "w", encoding="utf-8", newline="\n") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        take_after(Path(temporary), 0o755 if executable else 0o644)
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error
    finally:
        with suppress(OSError):
            Path(temporary).unlink()


def make_folder(path: Path) -> None:
    """Create a folder and those above it, whatever the umask: all may read them; see `take_after`."""
    try:
        if path.is_dir():
            return
        make_folder(path.parent)
        path.mkdir()
        take_after(path, 0o755)
    except FileExistsError as error:
        if not path.is_dir():
            raise write_failure(f"the folder {path} cannot be made", error) from error
    except OSError as error:
        raise write_failure(f"the folder {path} cannot be made", error) from error


def take_after(path: Path, mode: int) -> None:
    """Give a new file or folder its permissions; with those of the group where the folder above is shared with one.

    A folder is that in which the group may write and all that is made is the group's (setgid).

    Raises:
        OSError: it is another user's.
    """
    if path.parent.stat().st_mode & SHARED == SHARED:
        mode |= SHARED if path.is_dir() else SHARED & ~stat.S_ISGID
    path.chmod(mode)


def remove_file(path: Path) -> None:
    """Delete a file, if it is there."""
    try:
        path.unlink(missing_ok=True)
    except OSError as error:
        raise write_failure(f"{path} cannot be deleted", error) from error


def delete_tree(folder: Path, *, keep: Container[str] = ()) -> int:
    """Delete a folder and all below it, or all below it but a few; return the bytes that are free then.

    Files that have another name elsewhere free nothing. Links are not followed.

    Args:
        keep: names right below it that stay, and the folder with them.

    Raises:
        FailedError: something cannot be deleted; the rest may be gone.
    """
    freed = 0
    order = [str(folder)]  # folders before those in them, which may be more than Python can call itself
    try:
        for inside in order:
            with suppress(FileNotFoundError), os.scandir(inside) as entries:  # somebody else deletes it too
                for entry in [entry for entry in entries if inside != order[0] or entry.name not in keep]:
                    if entry.is_dir(follow_symlinks=False):
                        order.append(entry.path)
                        continue
                    with suppress(FileNotFoundError):
                        status = entry.stat(follow_symlinks=False)
                        os.unlink(entry.path)  # noqa: PTH108  (of a million files, each counts)
                        freed += status.st_size if status.st_nlink == 1 else 0
        for inside in reversed(order[1:] if keep else order):
            with suppress(FileNotFoundError):
                os.rmdir(inside)  # noqa: PTH106
    except OSError as error:
        raise write_failure(f"{folder} cannot be deleted", error) from error
    return freed


def aged(paths: Iterable[Path], than: timedelta = timedelta(days=1)) -> Iterator[Path]:
    """Yield what was not written for a day, or another time: nobody can be at work on it any more."""
    for path in paths:
        found = status(path)
        if found and time.time() - found.st_mtime > than.total_seconds():
            yield path


def file_sha256(path: Path | str, told: Callable[[int], object] | None = None) -> str:
    """Return a file's sha256 in hexadecimal.

    Args:
        told: called with the number of bytes of each part that was read; what it raises ends the reading.

    Raises:
        OSError: it cannot be read, or is a link.
    """
    digest = hashlib.sha256()
    descriptor = os.open(path, os.O_RDONLY | os.O_NOFOLLOW)
    try:
        while chunk := os.read(descriptor, _CHUNK):
            digest.update(chunk)
            if told:
                told(len(chunk))
    finally:
        os.close(descriptor)
    return digest.hexdigest()


def is_intact(path: Path, sha256: str) -> bool:
    """Tell whether a file is there, and its bytes are these."""
    return path.is_file() and file_sha256(path) == sha256


class HashingReader:
    """A file that remembers the digest of what was read of it."""

    def __init__(self, source: IO[bytes] | BufferedIOBase) -> None:
        self.digest = hashlib.sha256()
        self._source = source

    def read(self, size: int = -1) -> bytes:
        """Read some bytes, or all."""
        part = self._source.read(size)
        self.digest.update(part)
        return part


def write_failure(what: str, error: OSError) -> FailedError:
    """Return the error for people: a full disk needs something else than a folder that is not one's own."""
    message = f"{what}: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return FailedError("disk-full", message, DISK_FULL_HINT)
    hint = "Check its path and permissions, or choose another folder with --root."
    if error.errno in {errno.EACCES, errno.EPERM} and error.filename and (closed := closed_by(Path(error.filename))):
        message += f"; {closed[0]} belongs to {closed[1]}"
        hint = f"Ask {closed[1]}, or choose another folder with --root."
    return FailedError("write-failed", message, hint)


def swap_link(link: Path, target: str) -> None:
    """Make ``link`` point to ``target`` in one step; a reader sees the old target or the new one.

    Raises:
        FailedError: that is not possible; the link is what it was.
    """
    make_folder(link.parent)
    temporary = link.with_name(f".{link.name}.{os.getpid()}")
    try:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(target)
        temporary.replace(link)
        _sync_folder(link.parent)
    except OSError as error:
        raise write_failure(f"{link} cannot be changed", error) from error


def _sync_folder(path: Path) -> None:
    """A rename is on the disk only when its folder is."""
    descriptor = os.open(path, os.O_RDONLY | os.O_DIRECTORY)
    try:
        with suppress(OSError):  # some network file systems refuse to sync a folder
            os.fsync(descriptor)
    finally:
        os.close(descriptor)


def walk(prefix: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each file, link and folder below a prefix, as a path in it, with what ``lstat`` says.

    Raises:
        OSError: a folder cannot be read.
    """
    inside = [""]
    while inside:  # folders may lie deeper than Python can call itself
        above = inside.pop()
        with os.scandir(f"{prefix}/{above}") as entries:
            for entry in entries:
                path = f"{above}{entry.name}"
                yield path, entry.stat(follow_symlinks=False)
                if entry.is_dir(follow_symlinks=False):
                    inside.append(f"{path}/")


def is_folder(status: os.stat_result) -> bool:
    """Tell whether what was found is a folder, not a link to one."""
    return stat.S_ISDIR(status.st_mode)


_PACKAGE = Path(__file__).resolve().parents[1]


def folder(name: str) -> Path:
    """Return the folder ``recipes``, ``lockfiles`` or ``templates``.

    An installed wheel holds copies inside the package; a checkout has the originals beside it.
    """
    packaged = _PACKAGE / "_data" / name
    return packaged if packaged.is_dir() else _PACKAGE.parent / name
