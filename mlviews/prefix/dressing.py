"""What makes an installed prefix a view's: its lock, what it is loaded by, and the mark that it never changes."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.files import write_atomically
from mlviews.release import RELEASE_LOCK
from mlviews.render.prefix import prefix_files

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.release import Release

__all__ = ["dress"]


def dress(prefix: Path, release: Release, lock_text: str | None) -> None:
    """Write what a release has besides its packages; the same release always gets the same.

    Args:
        prefix: the installed prefix.
        release: what it is.
        lock_text: the lock's file that it was installed from; None for a prefix that will not be kept.

    Raises:
        FailedError: it cannot be written.
    """
    if lock_text is not None:
        write_atomically(prefix / RELEASE_LOCK, lock_text)
    for path, file in prefix_files(release).items():
        write_atomically(prefix / path, file.text, executable=file.executable)
