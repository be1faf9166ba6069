"""A tar of what is to be published, for ``cvmfs_server ingest``."""

from __future__ import annotations

import os
import stat
import tarfile
from datetime import timedelta
from typing import TYPE_CHECKING

from mlviews.files.permissions import private
from mlviews.files.writing import forget_parts, make_folder, replacing, write_failure

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.progress import Progress
    from mlviews.publish.contents import Item


def pack(items: Iterable[Item], path: Path, *, total: int, progress: Progress) -> None:
    """Write the tar: every file for itself, owned by root; whole or not at all, and the same every time.

    Args:
        items: what it holds, folders before what lies in them.
        total: bytes of all files.
    """
    make_folder(path.parent)
    forget_parts(path, than=timedelta(days=1))
    try:
        with replacing(path) as part, part.open("wb") as file:
            with (
                tarfile.open(fileobj=file, mode="w", format=tarfile.PAX_FORMAT) as tar,
                progress("Packing", total=total, unit="bytes") as advance,
            ):
                for item in items:
                    _add(tar, item)
                    advance(item.status.st_size if stat.S_ISREG(item.status.st_mode) else 0)
            file.flush()
            os.fsync(file.fileno())
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error


def _add(tar: tarfile.TarFile, item: Item) -> None:
    member = tarfile.TarInfo(item.path)
    member.uname = member.gname = "root"
    member.mode = private(item.status.st_mode)  # what a group may do here is no business of the repository's
    member.mtime = item.time
    if stat.S_ISLNK(item.status.st_mode):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, item.link, 0o777
    elif stat.S_ISDIR(item.status.st_mode):
        member.type = tarfile.DIRTYPE
    else:
        member.size = item.status.st_size
        with item.source.open("rb") as file:
            tar.addfile(member, file)
        return
    tar.addfile(member)
