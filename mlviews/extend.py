"""A view of one's own on top of another one: recipe, lock and release in one step."""

from __future__ import annotations

import json
import os
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mlviews.base import find_base
from mlviews.build import BuildResult, build
from mlviews.errors import BadInputError
from mlviews.files.writing import make_folder, write_atomically
from mlviews.hardware import host_platform
from mlviews.lock.lockfile import lock_path
from mlviews.newview import free_file
from mlviews.prefix import usage
from mlviews.progress import Progress, silent
from mlviews.recipe.catalogue import open_catalogue
from mlviews.recipe.model import check_requirement
from mlviews.site.spec import for_site

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlviews.site.profile import Site


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
    replace: Sequence[str] = (),
    editable: Sequence[Path] = (),
    progress: Progress = silent,
) -> ExtendResult:
    """Write a recipe that extends a view, lock it and build it. Where that fails, neither recipe nor lock stays.

    Args:
        on: what is extended, as a recipe's ``on`` names it.
        requirements: what is added, as pip takes it.
        recipes: the folder that the recipe goes to.
        name: the new view's; ``my-VIEW`` where None.
        replace: packages of the base in whose place others may go.
        editable: folders of projects that are read where they lie.

    Raises:
        BadInputError: a requirement is none, or the name is taken.
        RefusedError: the base is not there, or what is asked for does not go with what it holds.
    """
    base = find_base(on, site.root, host_platform())
    name = name or f"my-{base.release.view}"
    path = _write_recipe(
        name,
        recipes,
        on=on,
        platform=base.release.platform,
        requirements=list(dict.fromkeys(requirements)),
        replace=list(dict.fromkeys(replace)),
        editable=list(dict.fromkeys(folder.absolute() for folder in editable)),
    )
    # Of a recipe that is gone. It answers nothing that this one asks, and `build` would call it stale.
    lock = lock_path(site.lockfiles, name)
    lock.unlink(missing_ok=True)
    try:
        built = build(for_site(open_catalogue(recipes).view(name), site), site, progress=progress)
    except BaseException:
        for written in (path, lock):
            written.unlink(missing_ok=True)  # the same command, corrected, is to work
        raise
    return ExtendResult(
        recipe=path, base=base.name, added=built.added, bytes=usage.read(built.folder).bytes, built=built
    )


_EXTENSION = """\
# A view on top of another one: see docs/extend.md. After a change, `mlviews build {name}`.
schema: 1
name: {name}
summary: {summary}
module: {name}
on: {on}
platforms: [{platform}]
pypi:                             # requirements as pip takes them
{pypi}{more}"""


def _write_recipe(
    name: str,
    folder: Path,
    *,
    on: str,
    platform: str,
    requirements: Sequence[str],
    replace: Sequence[str] = (),
    editable: Sequence[Path] = (),
) -> Path:
    """Write ``<folder>/<name>.yaml``, a recipe that extends a view, and return its path.

    Raises:
        BadInputError: the name is no view's name, the file exists, another view has the module, or a requirement is
            none.
    """
    path = free_file(name, name, folder, open_catalogue(folder).modules_by_file if folder.is_dir() else {})
    for text in requirements:
        try:
            check_requirement(text)
        except ValueError as error:
            raise BadInputError("bad-requirement", f"{text!r} {error}", "Write it as `seaborn >=0.13`.") from None
    text = _EXTENSION.format(
        name=name,
        summary=json.dumps(f"What I put on top of {PurePath(on).name if on.startswith('/') else on}"),
        on=json.dumps(on),
        platform=platform,
        pypi=_entries(requirements) or "  []\n",
        more="".join(
            f"{key}:\n{_entries(texts)}"
            for key, texts in (("replace", replace), ("editable", [str(path) for path in editable]))
            if texts
        ),
    )
    make_folder(folder)
    write_atomically(path, text)
    return path


def _entries(texts: Iterable[str]) -> str:
    return "".join(f"  - {json.dumps(text)}\n" for text in texts)  # a JSON string is one of YAML's


def place_of(view: str, root: Path) -> str:
    """Return what a recipe's ``on`` says of a view, VIEW/RELEASE, or the path of one.

    A view that the root does not have is looked for where the view of that name lies that is loaded in this session.

    Args:
        view: what the user names.
    """
    if view.startswith(("/", ".", "~")):
        return str(Path(view).expanduser().absolute())
    name, _, release = view.partition("/")
    if (root / "envs" / name).is_dir() or os.environ.get("MLVIEWS_VIEW") != name:
        return view
    place = Path(os.environ["CONDA_PREFIX"]).parents[1]  # ROOT/envs/VIEW/RELEASE/PLATFORM
    return str(place / release if release else place)
