"""Walking a prefix: every name in it, without following links."""

from __future__ import annotations

import os
import stat
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from collections.abc import Iterator
    from pathlib import Path

__all__ = ["is_folder", "walk"]


def walk(prefix: Path) -> Iterator[tuple[str, os.stat_result]]:
    """Yield each file, link and folder below a prefix, as a path in it, with what ``lstat`` says.

    Raises:
        OSError: a folder cannot be read.
    """
    yield from _walk(str(prefix), "")


def is_folder(status: os.stat_result) -> bool:
    """Tell whether what was found is a folder, not a link to one."""
    return stat.S_ISDIR(status.st_mode)


def _walk(prefix: str, inside: str) -> Iterator[tuple[str, os.stat_result]]:
    with os.scandir(f"{prefix}/{inside}") as entries:
        for entry in entries:
            path = f"{inside}{entry.name}"
            yield path, entry.stat(follow_symlinks=False)
            if entry.is_dir(follow_symlinks=False):
                yield from _walk(prefix, f"{path}/")
