"""Writing files so that a reader sees the old one or the new one, whole."""

from __future__ import annotations

import errno
import os
import tempfile
from contextlib import suppress
from pathlib import Path

from mlviews.errors import FailedError

__all__ = ["bytes_under", "make_folder", "swap_link", "write_atomically", "write_failure"]


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
        Path(temporary).chmod(0o755 if executable else 0o644)
        Path(temporary).replace(path)
        _sync_folder(path.parent)
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error
    finally:
        with suppress(OSError):
            Path(temporary).unlink()


def make_folder(path: Path) -> None:
    """Create a folder and those above it.

    Raises:
        FailedError: that is not possible.
    """
    try:
        path.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        raise write_failure(f"the folder {path} cannot be made", error) from error


def bytes_under(folder: Path) -> int:
    """Return the bytes that the files under a folder take; files shared with others count in full."""
    return sum(path.lstat().st_size for path in folder.rglob("*") if not path.is_dir())


def write_failure(what: str, error: OSError) -> FailedError:
    """Return the error for people: a full disk needs something else than a folder that is not one's own."""
    message = f"{what}: {error.strerror}"
    if error.errno in {errno.ENOSPC, errno.EDQUOT}:
        return FailedError("disk-full", message, "Make room, or choose another folder with --root.")
    return FailedError("write-failed", message, "Check its path and permissions, or choose another folder with --root.")


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
