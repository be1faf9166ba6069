"""Which release a plain ``module load`` gives, and which ones ``module avail`` shows: a file beside the modulefiles."""

from __future__ import annotations

import re
from pathlib import Path
from typing import TYPE_CHECKING, Any

from mlviews.files.reading import NOTE, UNPROMOTED
from mlviews.gpus.nvidia import GPUS, toolkit_driver
from mlviews.render import escape

if TYPE_CHECKING:
    from mlviews.release import Release

NOTHING_PROMOTED = ".not-promoted"
"""What a plain ``module load`` gives of a view that has no default: a module that says so, and loads nothing."""


def default_name(tree: str) -> str:
    """Return the name of the file beside the modulefiles that names their default.

    This is ``.version``, unless the path of the ``tree`` of modulefiles holds a space, a letter beyond ASCII or another
    character that Lmod 8.6 trips over: with a ``.version`` there it loads no module at all. Lmod then gets
    ``.modulerc.lua``, which environment-modules does not know: it takes the newest release. There, variants are asked
    for by name, and no release is hidden.
    """
    return ".version" if re.fullmatch(r"[A-Za-z0-9/._+@%=~-]+", tree) else ".modulerc.lua"


def render_default(name: str, release: Release, views: Path) -> str:
    """Return the file that makes a release the default of its module, in both module systems.

    It hides releases that were never promoted, and removed ones: they are found by their full name alone. That of a
    variant says what it needs, and that of a view with CUDA looks, whenever it is read, for variants with a default of
    their own: it takes the one for the newest CUDA that the host's driver has and whose binaries serve the host's GPUs.
    So it follows each variant's default, and each promotion, without being written anew.

    Args:
        name: what `default_name` says.
        release: the default.
        views: the folder of all views, each with its ``default``.
    """
    needs = _needs(release) if release.cuda or release.variant else None
    values = {
        **_values(release.view, release.module, views, shared=bool(release.cuda and not release.variant)),
        "needs": needs if release.variant else None,
        "own": needs,
        "promoted": None,
        "release": release.release,
    }
    return _render(name, values)


def render_nothing_promoted(name: str, view: str, module: str, views: Path) -> dict[str, str]:
    """Return the files, by name, by which a plain ``module load`` of a view without a default fails and says why.

    Args:
        name: what `default_name` says.
        module: what its releases are loaded by.
        views: the folder of all views.
    """
    values = {
        **_values(view, module, views, shared=True),
        "needs": None,
        "own": None,
        "promoted": str(views / view / "default" / name.removeprefix(".")),
        "release": NOTHING_PROMOTED,
        "told": f"mlviews: no release of {view} is promoted, so {module} has no default. "
        f"`mlviews releases {view}` lists what there is; load one by its full name: {module}/RELEASE",
    }
    return {
        name: _render(name, values),
        NOTHING_PROMOTED: escape.render("nothing-promoted.tcl", "tcl", values),
        f"{NOTHING_PROMOTED}.lua": escape.render("nothing-promoted.lua", "lua", values),
    }


def _values(view: str, module: str, views: Path, *, shared: bool) -> dict[str, Any]:
    return {"view": view, "module": module, "views": str(views), "shared": shared, "hidden": f"{{{UNPROMOTED},{NOTE}}}"}


def _render(name: str, values: dict[str, Any]) -> str:
    language = "lua" if name.endswith(".lua") else "tcl"
    return escape.render(f"version.{language}", language, values)


def _needs(release: Release) -> dict[str, str]:
    """Return whose variant a release is, the driver's branch that its CUDA comes with, and the GPUs it leaves out."""
    driver = toolkit_driver(release.cuda) if release.cuda else None
    return {
        "of": release.variant.view if release.variant else release.view,
        "variant": release.variant.name if release.variant else "",
        "branch": (driver or "0").partition(".")[0],
        "without": ",".join(gpu for gpu, way in release.served.items() if way == "none" and gpu in GPUS),
    }
