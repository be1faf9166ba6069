"""What a release takes on the disk, and what of that it shares with the cache and other releases by hard links.

Measured once, when a release is built: a hundred releases hold millions of files. A package's files were linked
together and share their fate, so that looking at one of them is enough.
"""

from __future__ import annotations

import os
from contextlib import suppress
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mlviews.conda.records import CondaRecordError, conda_record_files, read_conda_record
from mlviews.errors import MlviewsError
from mlviews.files import is_folder, walk, write_atomically

if TYPE_CHECKING:
    from collections.abc import Mapping
    from pathlib import Path

__all__ = ["Linked", "Usage", "forget", "measure", "read", "shared_bytes", "write"]


class Linked(BaseModel):
    """The hard-linked files of one package.

    Attributes:
        file: one of them, as a path in the prefix.
        bytes: what all of them take.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    file: str
    bytes: int


class Usage(BaseModel):
    """What the files of one platform of a release take.

    Attributes:
        own: bytes of files that nothing else shared when they were written.
        linked: by package, what it shared.
    """

    model_config = ConfigDict(frozen=True, extra="forbid")

    own: int
    linked: dict[str, Linked]

    @property
    def bytes(self) -> int:
        """All of it."""
        return self.own + sum(package.bytes for package in self.linked.values())


def measure(prefix: Path) -> Usage:
    """Look at every file of a prefix, and at what lies beside it under its name."""
    owner = {path: name for name, paths in _packages(prefix).items() for path in paths}
    own = sum(path.lstat().st_size for path in prefix.parent.glob(f"{prefix.name}.*"))
    linked: dict[str, Linked] = {}
    for path, status in walk(prefix):
        if is_folder(status):
            continue
        package = owner.get(path)
        if status.st_nlink == 1 or package is None:
            own += status.st_size
            continue
        before = linked.get(package)
        linked[package] = Linked(file=path, bytes=status.st_size + (before.bytes if before else 0))
    return Usage(own=own, linked=linked)


def read(prefix: Path) -> Usage:
    """Return what was measured; where nothing was, measure now, and keep that if the store can be written."""
    try:
        return Usage.model_validate_json(_file(prefix).read_bytes())
    except (OSError, ValidationError):
        pass
    found = measure(prefix)
    with suppress(MlviewsError):
        write(prefix, found)
    return found


def shared_bytes(prefix: Path, usage: Usage) -> int:
    """Return the bytes that have another name now, in the cache or in another release."""
    folder = str(prefix)
    return sum(package.bytes for package in usage.linked.values() if _links(f"{folder}/{package.file}") > 1)


def write(prefix: Path, usage: Usage) -> None:
    """Keep what was measured, beside the prefix.

    Raises:
        FailedError: it cannot be written.
    """
    write_atomically(_file(prefix), usage.model_dump_json() + "\n")


def forget(prefix: Path) -> None:
    """Measure again next time: files were replaced."""
    with suppress(OSError):
        _file(prefix).unlink()


def _links(path: str) -> int:
    try:
        return os.lstat(path).st_nlink
    except OSError:
        return 0


def _file(prefix: Path) -> Path:
    return prefix.with_name(f"{prefix.name}.usage.json")


def _packages(prefix: Path) -> Mapping[str, tuple[str, ...]]:
    found = {}
    for path in conda_record_files(prefix):
        with suppress(CondaRecordError):
            found[path.stem] = read_conda_record(path).files
    return found
