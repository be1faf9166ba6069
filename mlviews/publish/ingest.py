"""A tar of what is to be published, for ``cvmfs_server ingest``."""

from __future__ import annotations

import io
import os
import stat
import tarfile
from typing import TYPE_CHECKING

from mlviews.files import make_folder, remove_file, write_failure
from mlviews.permissions import private

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from mlviews.progress import Progress
    from mlviews.publish.plan import Item, PublishResult

__all__ = ["CATALOG", "pack"]

CATALOG = ".cvmfscatalog"
"""The empty file by which a folder gets a catalog of its own."""


def pack(plan: PublishResult, items: Iterable[Item], path: Path, *, progress: Progress) -> None:
    """Write the tar: every file for itself, owned by root, with markers for nested catalogs; whole or not at all.

    Args:
        plan: which nothing forbids.
        items: what the tar holds.
        path: where it is written.
        progress: told of each byte.

    Raises:
        FailedError: it cannot be written, or a file cannot be read.
    """
    catalogs = {catalog.folder for catalog in plan.catalogs}
    make_folder(path.parent)
    temporary = path.with_name(f".{path.name}.{os.getpid()}")
    try:
        with (
            tarfile.open(temporary, "w", format=tarfile.PAX_FORMAT) as tar,
            progress("Packing", total=plan.bytes, unit="bytes") as advance,
        ):
            for item in items:
                _add(tar, item)
                if item.path in catalogs:
                    tar.addfile(_owned(tarfile.TarInfo(f"{item.path}/{CATALOG}")), io.BytesIO())
                advance(item.status.st_size if stat.S_ISREG(item.status.st_mode) else 0)
        with temporary.open("rb") as file:
            os.fsync(file.fileno())
        temporary.replace(path)
    except OSError as error:
        raise write_failure(f"{path} cannot be written", error) from error
    finally:
        remove_file(temporary)


def _add(tar: tarfile.TarFile, item: Item) -> None:
    member = _owned(tarfile.TarInfo(item.path))
    member.mode = private(item.status.st_mode)  # what a group may do here is no business of the repository's
    member.mtime = int(item.status.st_mtime)
    if stat.S_ISLNK(item.status.st_mode):
        member.type, member.linkname, member.mode = tarfile.SYMTYPE, os.readlink(item.source), 0o777  # noqa: PTH115
    elif stat.S_ISDIR(item.status.st_mode):
        member.type = tarfile.DIRTYPE
    else:
        member.size = item.status.st_size
        with item.source.open("rb") as file:
            tar.addfile(member, file)
        return
    tar.addfile(member)


def _owned(member: tarfile.TarInfo) -> tarfile.TarInfo:
    member.uid = member.gid = 0
    member.uname = member.gname = "root"
    return member
