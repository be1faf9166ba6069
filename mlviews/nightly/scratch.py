"""Folders for prefixes that are thrown away, however the process that made them ends."""

from __future__ import annotations

import fcntl
import shutil
import tempfile
from contextlib import contextmanager
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.files import make_folder, write_failure

if TYPE_CHECKING:
    from collections.abc import Iterator

__all__ = ["scratch"]

_LOCK = ".lock"


@contextmanager
def scratch(root: Path) -> Iterator[Path]:
    """Make a folder under a site's root, where prefixes share files with its cache; it goes when the context ends.

    What processes that were killed have left there goes first: a folder in use is locked, and locks die with their
    process.

    Args:
        root: the site's root.

    Raises:
        FailedError: it cannot be made.
    """
    base = root / "nightly" / ".scratch"
    make_folder(base)
    _clear(base)
    try:
        folder = Path(tempfile.mkdtemp(dir=base))
        lock = (folder / _LOCK).open("w")
    except OSError as error:
        raise write_failure(f"a folder in {base} cannot be made", error) from error
    try:
        with lock:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield folder
    finally:
        shutil.rmtree(folder, ignore_errors=True)


def _clear(base: Path) -> None:
    for folder in base.iterdir():
        try:
            with (folder / _LOCK).open() as lock:
                fcntl.flock(lock, fcntl.LOCK_EX | fcntl.LOCK_NB)
                shutil.rmtree(folder, ignore_errors=True)
        except OSError:
            continue  # in use, or being made this very moment
