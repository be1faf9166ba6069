"""What lies in a view's folder, by name; and what is said of a release that was removed.

`mlviews run` reads this before it starts a program: no more is imported here than that needs.
"""

from __future__ import annotations

import json
from pathlib import Path

from mlviews.errors import RefusedError
from mlviews.files.reading import NOTE, content, is_file, link_text

PINNED = "pinned"
"""In a release's folder: it must never be removed."""
UNPUBLISHED = ".unpublished"
"""The release whose loaders and default may not be written yet."""
HISTORY = ".history.json"
"""Notes of former defaults."""


def default_of(view_folder: Path) -> str | None:
    """Return the release that a view's default link names, if there is one."""
    target = link_text(view_folder / "default")
    return Path(target).name if target else None


def is_removed(view_folder: Path, release: str) -> bool:
    """Tell whether a release was removed."""
    return is_file(view_folder / release / NOTE)


def refuse_removed(view_folder: Path, release: str) -> None:
    """Refuse a release that was removed.

    Raises:
        RefusedError: it was; the message says when, and what there is instead.
    """
    text = content(view_folder / release / NOTE)
    if text is None:
        return
    try:
        day = str(json.loads(text)["removed"])[:10]
    except (ValueError, LookupError, TypeError):
        day = "an unknown day"
    view, default = view_folder.name, default_of(view_folder)
    instead = f"The default is {default}: leave out /{release} to use it; " if default else ""
    raise RefusedError(
        "release-removed",
        f"release {release} of {view} was removed on {day}",
        f"{instead}`mlviews releases {view}` lists what there is.",
    )
