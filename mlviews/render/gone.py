"""What stands in the place of a removed release's ``launch`` and ``setup.sh``."""

from __future__ import annotations

from mlviews.render import escape

__all__ = ["render_gone"]


def render_gone(view: str, release: str, default: str) -> str:
    """Return a script that says which release is gone and what there is instead, and fails; run or sourced.

    Args:
        view: the view.
        release: the release that was removed.
        default: path of the view's ``default`` link, which the script looks at when it is asked.
    """
    values = {
        "gone": f"release {release} of {view} was removed",
        "default": default,
        "view": view,
    }
    return escape.render("gone.sh", "sh", values)
