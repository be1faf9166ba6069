"""What makes an installed prefix a view's: its lock, what it is loaded by, and the mark that it never changes."""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlviews.files import write_atomically
from mlviews.locksource import RELEASE_LOCK
from mlviews.render.setup_script import render_launch, render_setup

if TYPE_CHECKING:
    from pathlib import Path

    from mlviews.release import Release

__all__ = ["dress"]

# CEP 22: conda and mamba then refuse to change the environment, and say this.
_FROZEN = json.dumps({"message": "A release of a view never changes; `mlviews new` starts a view of your own."}) + "\n"


def dress(prefix: Path, release: Release, lock_text: str) -> None:
    """Write what a release has besides its packages; the same release always gets the same.

    Args:
        prefix: the installed prefix.
        release: what it is.
        lock_text: the lock that it was installed from.

    Raises:
        FailedError: it cannot be written.
    """
    write_atomically(prefix / "conda-meta" / "frozen", _FROZEN)
    write_atomically(prefix / RELEASE_LOCK, lock_text)
    write_atomically(prefix / "setup.sh", render_setup(release))
    write_atomically(prefix / "launch", render_launch(release), executable=True)
