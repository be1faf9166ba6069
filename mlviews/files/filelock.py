"""Kernel locks: they die with their process, however it dies, and tell who holds them."""

from __future__ import annotations

import errno
import fcntl
import os
import re
import socket
import time
from contextlib import contextmanager, suppress
from typing import TYPE_CHECKING, TextIO

from mlviews.errors import FailedError, RefusedError
from mlviews.files.reading import at_once
from mlviews.files.writing import make_folder, take_after, write_failure

if TYPE_CHECKING:
    from collections.abc import Callable, Iterator
    from contextlib import AbstractContextManager
    from pathlib import Path
    from typing import TypeAlias

    from mlviews.progress import Progress

    Waiting: TypeAlias = Callable[[str], AbstractContextManager[object]]
    """Given who holds a lock, it opens what tells of the wait."""

LOCK = ".lock"
"""The file in a folder by which it is locked."""
_ABSENT = {errno.ENOLCK, errno.ENOSYS, errno.EOPNOTSUPP, errno.EINVAL, errno.EIO}
_NAMED = 3
_MOST_SAID = 1 << 16
_TRIES, _PAUSE = 10, 0.01  # seconds between; `held_by` has a lock for microseconds
_FOLDERS = 100  # that are deleted one after another while their lock is waited for


class HeldError(RefusedError):
    """Another process holds the lock, and the caller does not want to wait."""

    def __init__(self, path: Path, holder: str) -> None:
        super().__init__("held", f"{path.parent} is in use by {holder}", "Try again when it is done.")
        self.holder = holder


@contextmanager
def hold(path: Path, *, waiting: Waiting | None, shared: bool = False) -> Iterator[int]:
    """Hold a lock while the context is open; a program that is given its file descriptor holds it until it ends, too.

    Args:
        path: the lock's file, which stays; it holds the names of those who took the lock.
        waiting: told who holds it, if this has to wait; what it returns is open while this waits. None raises
            `HeldError` instead of waiting.
        shared: together with others who share it, without anyone who does not.

    Raises:
        FailedError: the file cannot be made, or ``locks-missing``: the file system has no locks, or none that work.
        HeldError: somebody else holds it.
    """
    for _ in range(_FOLDERS):
        make_folder(path.parent)
        try:
            file = _open(path)
        except FileNotFoundError:
            continue  # whoever holds it is just deleting the folder
        except OSError as error:
            raise write_failure(f"{path.parent} cannot be written", error) from error
        with file:
            _take(file, path, fcntl.LOCK_SH if shared else fcntl.LOCK_EX, waiting)
            if not _is_still(file, path):
                continue  # whoever held it has deleted the folder: this lock keeps nobody out
            _prove(path)
            _sign(file, shared=shared)
            yield file.fileno()
            return
    raise _missing(path, "a file is a different one each time that it is opened")


def _open(path: Path) -> TextIO:
    """Open a lock's file; make it where it is missing, for all who may write the folder."""
    with suppress(FileExistsError):
        os.close(os.open(path, os.O_CREAT | os.O_EXCL | os.O_WRONLY))
        take_after(path, 0o644)
    return path.open("a+", encoding="utf-8")


def held_by(path: Path) -> str | None:
    """Return who holds a lock that is not shared; None if nobody does.

    To know it, this shares the lock for an instant, which nobody notices: who cannot have a lock tries again.
    """
    try:
        with open(path, encoding="utf-8", opener=at_once) as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                return _holders(file)
    except OSError:
        return None  # there is no such file, or no lock that could be held
    return None


def announce(progress: Progress, what: str) -> Waiting:
    """Return what `hold` calls when it has to wait: a line that says for what, and for whom, as long as it waits."""
    return lambda holder: progress(f"Waiting: {what} is in use by {holder}")


def _take(file: TextIO, path: Path, kind: int, waiting: Waiting | None) -> None:
    try:
        for _ in range(_TRIES):
            try:
                fcntl.flock(file, kind | fcntl.LOCK_NB)
            except BlockingIOError:
                time.sleep(_PAUSE)
            else:
                return
        holder = _holders(file)
        if waiting is None:
            raise HeldError(path, holder)
        with waiting(holder):
            fcntl.flock(file, kind)
    except OSError as error:
        if error.errno not in _ABSENT:
            raise
        raise _missing(path, error.strerror or str(error)) from error


def _sign(file: TextIO, *, shared: bool) -> None:
    # The descriptor alone: what Python still held back of a full disk's write would fail once more when it is closed.
    with suppress(OSError):  # a lock without a name is one too, and `gc` must work where the disk is full
        if not shared:
            os.ftruncate(file.fileno(), 0)
        os.write(file.fileno(), f"process {os.getpid()} on {socket.gethostname()}\n".encode())


def _is_still(file: TextIO, path: Path) -> bool:
    try:
        return os.path.samestat(os.fstat(file.fileno()), path.stat())
    except OSError:
        return False


def _prove(path: Path) -> None:
    """Ask for the lock that is held once more: some file systems grant it to everyone."""
    with path.open("a+", encoding="utf-8") as second:
        try:
            fcntl.flock(second, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except OSError:
            return
    raise _missing(path, "the same lock was granted twice")


def _missing(path: Path, why: str) -> FailedError:
    return FailedError(
        "locks-missing",
        f"the file system of {path.parent} has no working locks: {why}",
        "Two builds at once would damage each other there. Choose a folder on another file system with --root.",
    )


def _holders(file: TextIO) -> str:
    file.seek(0)
    lines = file.read(_MOST_SAID).splitlines()  # in a shared root others may have written anything there
    alive = [line for line in dict.fromkeys(lines) if not _is_dead(line)]
    return " and ".join(alive[-_NAMED:]) or "another process"


def _is_dead(line: str) -> bool:
    """Tell whether a line names a process of this host that is gone; of other hosts nobody here knows."""
    match = re.fullmatch(r"process (\d{1,9}) on (.*)", line)
    if not match:
        return True
    if match[2] != socket.gethostname():
        return False
    try:
        os.kill(int(match[1]), 0)
    except ProcessLookupError:
        return True
    except (OSError, OverflowError):
        return False  # somebody else's
    return False
