"""A copy in the place of a prefix's content, for scripts that may write to it where no overlay can be laid.

The prefix's files are the cache's and other releases' too (hard links): what the scripts find must be others. Where the
file system can clone, they share blocks; else they are copied, but for two kinds that are most of a prefix: byte code,
which Python puts in place and never writes to, and files so large that they are libraries. These are hard links. The
libraries are guarded: mlviews holds a lease on each, and whoever opens one to write to it waits in the kernel until
that is given up (https://man7.org/linux/man-pages/man2/fcntl.2.html), which is not before it has been ended.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import resource
import shutil
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path

from mlviews.errors import FailedError
from mlviews.files.writing import is_folder, walk, write_failure

_KEPT = ".mlviews-kept"
_LARGEST_COPY = 1 << 20  # bytes
_CLONE = 0x40049409  # FICLONE, ioctl_ficlonerange(2); not every Python that we run on knows it
_CHUNK = 1 << 30  # bytes that one call of the kernel copies at most

_State = tuple[int, ...]


@dataclass(frozen=True, slots=True)
class Copy:
    """What lies in the prefix's place.

    Attributes:
        shared: paths of the files that are the prefix's own.
        leases: descriptors of those that are guarded -> their paths.
        before: each path's state when the copy was made.
    """

    prefix: Path
    shared: frozenset[str]
    leases: Mapping[int, str]
    before: Mapping[str, _State]

    def refuse_writers(self) -> None:
        """Refuse what waits to write to a guarded file; it has not, and waits until it is ended."""
        for descriptor, path in self.leases.items():
            if fcntl.fcntl(descriptor, fcntl.F_GETLEASE) != fcntl.F_RDLCK:
                raise FailedError(
                    "activation-wrote",
                    f"An activation script tried to write to {path}, which other releases share. mlviews prevented it.",
                    "Leave out the package that brought the script.",
                )

    def changed(self) -> tuple[str, ...]:
        """Return the paths that are not as they were, sorted."""
        after = dict(_states(self.prefix))
        paths = sorted(path for path in {*self.before, *after} if self.before.get(path) != after.get(path))
        for path in self.shared.intersection(paths, after).difference(self.leases.values()):
            old, new = self.before[path][1:], after[path][1:]
            if old != new and old[:1] == new[:1]:  # the very file has other bytes
                raise FailedError(
                    "activation-wrote",
                    f"An activation script changed {path}, a file that the cache and other releases share.",
                    "`mlviews verify` finds what it damaged. Leave out the package that brought the script.",
                )
        return tuple(paths)


@contextlib.contextmanager
def copied(prefix: Path) -> Iterator[Copy]:
    """Put a copy in the place of a prefix's content; then put back what was there.

    The content waits in the prefix itself: after a kill nothing of it lies where nobody clears it away.
    """
    kept, moved = prefix / _KEPT, False
    shared: Mapping[str, os.stat_result] = {}
    leases: Mapping[int, str] = {}
    with contextlib.ExitStack() as descriptors:
        try:
            kept.mkdir()
            try:
                for entry in _content(prefix):
                    entry.rename(kept / entry.name)
                moved = True
                shared = dict(_fill(prefix, kept))
                leases = _leases(prefix, shared, descriptors)
                yield Copy(prefix, frozenset(shared), leases, dict(_states(prefix)))
            finally:
                for entry in _content(prefix) if moved else ():
                    if entry.is_dir() and not entry.is_symlink():
                        shutil.rmtree(entry)
                    else:
                        entry.unlink()
                _give_back(kept, shared, frozenset(leases.values()))
                for entry in list(kept.iterdir()):
                    entry.rename(prefix / entry.name)
                kept.rmdir()
        except OSError as error:
            raise write_failure(f"{prefix} cannot be copied for its activation scripts", error) from error


def _content(prefix: Path) -> list[Path]:
    return [entry for entry in prefix.iterdir() if entry.name != _KEPT]


def _fill(prefix: Path, kept: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Copy what is kept into the prefix; yield the files that are linked, and what `lstat` says of them."""
    clones = _can_clone(kept)
    for path, status in walk(kept):
        source, target = f"{kept}/{path}", f"{prefix}/{path}"
        if stat.S_ISLNK(status.st_mode):
            os.symlink(os.readlink(source), target)  # noqa: PTH115, PTH211  (of a hundred thousand)
        elif is_folder(status):
            os.mkdir(target)  # noqa: PTH102
            os.chmod(target, stat.S_IMODE(status.st_mode))  # noqa: PTH101
        elif not clones and (status.st_size > _LARGEST_COPY or path.endswith(".pyc")) and _is_linked(source, target):
            yield path, status
        else:
            _copy(source, target, status, clones=clones)


def _can_clone(folder: Path) -> bool:
    """Tell whether files of a folder can share their blocks until one is changed, as on XFS and Btrfs."""
    with tempfile.TemporaryFile(dir=folder) as one, tempfile.TemporaryFile(dir=folder) as other:
        try:
            fcntl.ioctl(other, _CLONE, one.fileno())
        except OSError:
            return False
    return True


def _is_linked(source: str, target: str) -> bool:
    try:
        os.link(source, target)
    except OSError:  # AFS links within one folder only
        return False
    return True


def _copy(source: str, target: str, status: os.stat_result, *, clones: bool) -> None:
    with open(source, "rb", buffering=0) as old, open(target, "xb", buffering=0) as new:  # noqa: PTH123
        if clones:
            fcntl.ioctl(new, _CLONE, old.fileno())
        else:
            while os.sendfile(new.fileno(), old.fileno(), None, _CHUNK):
                pass
        os.fchmod(new.fileno(), stat.S_IMODE(status.st_mode))
        os.utime(new.fileno(), ns=(status.st_atime_ns, status.st_mtime_ns))


def _leases(prefix: Path, shared: Iterable[str], kept: contextlib.ExitStack) -> dict[int, str]:
    """Take a lease on each large file that is linked, as far as the system gives them; return their descriptors."""
    found: dict[int, str] = {}
    most = resource.getrlimit(resource.RLIMIT_NOFILE)[0] // 2
    for path in sorted(path for path in shared if not path.endswith(".pyc"))[:most]:
        with contextlib.suppress(OSError):  # NFS gives none, nor does another user's file
            descriptor = os.open(prefix / path, os.O_RDONLY)
            kept.callback(os.close, descriptor)
            fcntl.fcntl(descriptor, fcntl.F_SETLEASE, fcntl.F_RDLCK)
            fcntl.fcntl(descriptor, fcntl.F_SETOWN, 0)  # no signal: the default is to end this process
            found[descriptor] = path
    return found


def _give_back(kept: Path, shared: Mapping[str, os.stat_result], guarded: frozenset[str]) -> None:
    """Give files that were linked the permissions that they had; and the times, if nobody can have written to them."""
    for path, before in shared.items():
        now = os.lstat(kept / path)
        if now.st_mode != before.st_mode:
            (kept / path).chmod(stat.S_IMODE(before.st_mode))
        if path in guarded and now.st_mtime_ns != before.st_mtime_ns:
            os.utime(kept / path, ns=(before.st_atime_ns, before.st_mtime_ns))


def _states(prefix: Path) -> Iterator[tuple[str, _State]]:
    """Give each path below the prefix with its mode and, but for folders, its inode, size and time."""
    for entry in _content(prefix):
        yield entry.name, _state(entry.lstat())
        if entry.is_dir() and not entry.is_symlink():
            yield from ((f"{entry.name}/{path}", _state(status)) for path, status in walk(entry))


def _state(status: os.stat_result) -> _State:
    file = () if is_folder(status) else (status.st_ino, status.st_size, status.st_mtime_ns)
    return (status.st_mode, *file)
