"""Releases that were removed: what is left of them says so, to people and to programs.

Read by `mlviews run` before anything else: no more is imported here than that needs.
"""

from __future__ import annotations

import json
from typing import TYPE_CHECKING

from mlviews.errors import RefusedError

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["NOTE", "gone_error", "is_gone"]

NOTE = "removed.json"
"""In a release's folder: the release was removed, and its name is never given again."""


def is_gone(view_folder: Path, release: str) -> bool:
    """Tell whether a release was removed."""
    return (view_folder / release / NOTE).is_file()


def gone_error(view_folder: Path, release: str) -> RefusedError | None:
    """Return the error for a release that was removed: when, and what there is instead; None where it was not."""
    try:
        note = json.loads((view_folder / release / NOTE).read_bytes())
        day = str(note["removed"])[:10]
    except OSError:
        return None
    except (ValueError, LookupError, TypeError):
        day = "an unknown day"
    view = view_folder.name
    try:
        instead = f"The default is {(view_folder / 'default').readlink().name}: leave out /{release} to use it; "
    except OSError:
        instead = ""
    return RefusedError(
        "release-removed",
        f"release {release} of {view} was removed on {day}",
        f"{instead}`mlviews releases {view}` lists what there is.",
    )
