"""Byte code in the cache: a folder for each Python and package, there whole or not at all, checked when it is read."""

from __future__ import annotations

import errno
import tempfile
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from pydantic import BaseModel, ConfigDict, ValidationError

from mlviews.files import file_sha256, make_folder

if TYPE_CHECKING:
    from collections.abc import Iterator, Mapping

    from mlviews.prefix.bytecode.modules import Modules

__all__ = ["Kept", "keep", "read_kept", "scratch_on"]

_LIST = "kept.json"
_TAKEN = {errno.EEXIST, errno.ENOTEMPTY}


@dataclass(frozen=True, slots=True)
class Kept:
    """The byte code of one package.

    Attributes:
        folder: where its files lie, by their paths in a prefix.
        files: those paths, sorted -> sha256.
    """

    folder: Path
    files: Mapping[str, str]


class _List(BaseModel):
    """``kept.json``: what `Modules.made_of` was, and the files with their sha256."""

    model_config = ConfigDict(frozen=True, extra="forbid")

    made_of: str
    files: dict[str, str]


def read_kept(shelf: Path, modules: Modules) -> Kept | None:
    """Return a package's byte code; None where there is none, or not of these modules, or a byte of it is damaged.

    Args:
        shelf: the cache's folder of one Python.
        modules: of the package.
    """
    folder = shelf / modules.package
    try:
        known = _List.model_validate_json((folder / _LIST).read_bytes())
        whole = known.made_of == modules.made_of and all(
            file_sha256(f"{folder}/{path}") == sha256 for path, sha256 in known.files.items()
        )
    except (OSError, ValidationError):
        return None
    return Kept(folder, known.files) if whole else None


@contextmanager
def scratch_on(shelf: Path) -> Iterator[Path]:
    """Give a folder beside what is kept; a process that dies leaves it behind, by a name that starts with a dot.

    Raises:
        FailedError: it cannot be made.
    """
    make_folder(shelf)
    with tempfile.TemporaryDirectory(prefix=".", dir=shelf) as name:
        yield Path(name)


def keep(scratch: Path, shelf: Path, modules: Modules) -> Kept:
    """Move what was compiled to where it is kept, in one step.

    Args:
        scratch: holds the package's byte code in a folder of its name, and may hold none.
        shelf: the cache's folder of one Python.
        modules: of the package.

    Raises:
        OSError: the disk failed.
    """
    made, folder = scratch / modules.package, shelf / modules.package
    made.mkdir(exist_ok=True)
    files = {path.relative_to(made).as_posix(): path for path in sorted(made.rglob("*.pyc"))}
    for path in files.values():
        path.chmod(0o644)
    known = _List(made_of=modules.made_of, files={name: file_sha256(path) for name, path in files.items()})
    (made / _LIST).write_text(known.model_dump_json() + "\n", encoding="utf-8")
    try:
        made.rename(folder)
    except OSError as error:
        if error.errno not in _TAKEN:
            raise
        if (kept := read_kept(shelf, modules)) is not None:
            return kept  # another process was faster
        folder.rename(scratch / f"damaged-{modules.package}")  # releases that share its files keep them
        made.rename(folder)
    return Kept(folder, known.files)
