"""A view of one's own on top of another one: recipe, lock and release in one step."""

from __future__ import annotations

import os
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.base import find_base
from mlviews.build import build
from mlviews.hardware import host_platform
from mlviews.newview import write_extension
from mlviews.prefix import usage
from mlviews.progress import silent
from mlviews.recipe.catalogue import open_catalogue
from mlviews.site.spec import for_site

if TYPE_CHECKING:
    from collections.abc import Mapping, Sequence

    from mlviews.build import BuildResult
    from mlviews.progress import Progress
    from mlviews.site.profile import Site

__all__ = ["ExtendResult", "extend", "place_of"]


@dataclass(frozen=True, slots=True)
class ExtendResult:
    """``mlviews extend VIEW``.

    Attributes:
        recipe: the file that was written.
        base: the release that it extends.
        added: the packages that it adds, and their versions.
        bytes: what it takes on the disk, the cache's copies included.
        built: the release.
    """

    recipe: Path
    base: str
    added: Mapping[str, str]
    bytes: int
    built: BuildResult


def extend(
    on: str,
    requirements: Sequence[str],
    site: Site,
    *,
    recipes: Path,
    name: str | None = None,
    progress: Progress = silent,
) -> ExtendResult:
    """Write a recipe that extends a view, lock it and build it. Where that fails, no recipe stays.

    Args:
        on: what is extended, as a recipe's ``on`` names it.
        requirements: what is added, as pip takes it.
        site: where it is locked and built.
        recipes: the folder that the recipe goes to.
        name: the new view's; ``my-VIEW`` where None.
        progress: told of each step.

    Raises:
        BadInputError: a requirement is none, or the name is taken.
        RefusedError: the base is not there, or what is asked for does not go with what it holds.
        FailedError: network, disk, or a wheel that cannot be installed.
    """
    base = find_base(on, site.root, host_platform())
    name = name or f"my-{base.release.view}"
    path = write_extension(
        name, recipes, on=on, platform=base.release.platform, requirements=list(dict.fromkeys(requirements))
    )
    try:
        built = build(for_site(open_catalogue(recipes).view(name), site), site, progress=progress)
    except BaseException:
        path.unlink()  # the same command, corrected, is to work
        raise
    return ExtendResult(
        recipe=path,
        base=base.name,
        added=built.added,
        bytes=usage.read(built.folder).bytes,
        built=built,
    )


def place_of(view: str, root: Path) -> str:
    """Return what a recipe's ``on`` says of a view, VIEW/RELEASE, or the path of one.

    A view that the root does not have is looked for where the view of that name lies that is loaded in this session.

    Args:
        view: what the user names.
        root: the site's.
    """
    if view.startswith(("/", ".", "~")):
        return str(Path(view).expanduser().absolute())
    name, _, release = view.partition("/")
    if (root / "envs" / name).is_dir() or os.environ.get("MLVIEWS_VIEW") != name:
        return view
    place = Path(os.environ["CONDA_PREFIX"]).parents[1]  # ROOT/envs/VIEW/RELEASE/PLATFORM
    return str(place / release if release else place)
