"""What stands in the place of a removed release's ``launch`` and setup scripts."""

from __future__ import annotations

from typing import TYPE_CHECKING

from mlviews.render import escape
from mlviews.render.prefix import PrefixFile

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["GONE_FILES", "gone_files"]

GONE_FILES = frozenset({"launch", "setup.sh", "setup.csh", "setup.fish"})
"""What stays of a platform's folder, to tell who still uses it: kernels and batch scripts hold their paths."""


def gone_files(view: str, release: str, default: str) -> Mapping[str, PrefixFile]:
    """Return, by name, scripts that say which release is gone and what there is instead, and fail; run or sourced.

    Args:
        view: the view.
        release: the release that was removed.
        default: path of the view's ``default`` link, which the scripts for sh look at when they are asked.
    """
    what = f"release {release} of {view} was removed"
    script = escape.render("gone.sh", "sh", {"gone": what, "default": default, "view": view})
    told = {"told": f"mlviews: {what}; the default is in {default}"}
    return {
        "launch": PrefixFile(script, executable=True),
        "setup.sh": PrefixFile(script),
        "setup.csh": PrefixFile(escape.render("gone.csh", "csh", told)),
        "setup.fish": PrefixFile(escape.render("gone.fish", "fish", told)),
    }
