"""A view of one's own on top of another one: recipe, lock and release in one step."""

from __future__ import annotations

import json
import os
import re
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path, PurePath
from typing import TYPE_CHECKING

from mlviews.base import find_base
from mlviews.build import BuildResult, build
from mlviews.errors import BadInputError
from mlviews.files.writing import folder as shipped
from mlviews.files.writing import make_folder, write_atomically
from mlviews.hardware import host_platform
from mlviews.lock.lockfile import lock_path
from mlviews.lock.make import LockOptions, lock_views
from mlviews.newview import free_file
from mlviews.prefix import usage
from mlviews.progress import Progress, silent
from mlviews.recipe.catalogue import open_catalogue
from mlviews.recipe.model import check_requirement
from mlviews.site.spec import for_site

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator, Mapping, Sequence

    from mlviews.recipe.catalogue import Catalogue
    from mlviews.recipe.view import ViewSpec
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
    """Write a recipe that extends a view, or add to the one that is there; lock it and build it.

    Where that fails, recipe and lock are what they were: the same call, corrected, works.

    Args:
        on: what is extended, as a recipe's ``on`` names it; or a view of one's own that extends another one.
        requirements: what is added, as pip takes it.
        recipes: the folder that the recipe goes to.
        name: the new view's; ``my-VIEW`` where None.
        replace: packages of the base in whose place others may go.
        editable: folders of projects that are read where they lie.

    Raises:
        BadInputError: a requirement is none, or the name is taken by another recipe.
        RefusedError: the base is not there, or what is asked for does not go with what it holds.
    """
    if name is None and (mine := _own_extension(on, recipes)):
        name, on = on, mine.on or on
    base = find_base(on, site.root, host_platform())
    name = name or f"my-{base.release.view}"
    path = recipes / f"{name}.yaml"
    with _undone_on_error(path, lock_path(site.lockfiles, name)):
        there = _own_extension(name, recipes)
        folders = [str(folder.absolute()) for folder in editable]
        _check(requirements)
        if there and there.on == on:
            _add(path, "pypi", [text for text in requirements if text not in {one.text for one in there.pypi}])
            _add(path, "replace", [package for package in replace if package not in there.replace])
            _add(path, "editable", [folder for folder in folders if folder not in there.editable])
        else:
            _write_recipe(
                name,
                recipes,
                on=on,
                platform=base.release.platform,
                requirements=list(dict.fromkeys(requirements)),
                replace=list(dict.fromkeys(replace)),
                editable=list(dict.fromkeys(folders)),
            )
        built = _lock_and_build(name, recipes, site, progress)
    taken = usage.read(built.folder).bytes
    return ExtendResult(recipe=path, base=base.name, added=built.added, bytes=taken, built=built)


@contextmanager
def _undone_on_error(*files: Path) -> Iterator[None]:
    """Have files say what they said, or be gone again, where the context ends with an error."""
    before = {file: _text(file) for file in files}
    try:
        yield
    except BaseException:
        for file, content in before.items():
            with suppress(OSError):  # in a root that is read-only nothing was written
                if content is None:
                    file.unlink(missing_ok=True)
                elif content != _text(file):
                    write_atomically(file, content)
        raise


def _text(file: Path) -> str | None:
    return file.read_text(encoding="utf-8") if file.is_file() else None


def _lock_and_build(name: str, recipes: Path, site: Site, progress: Progress) -> BuildResult:
    site_spec = for_site(_catalogue(recipes).view(name), site)
    # `build` would call the lock stale: it is the one of the recipe before, or of one that is gone.
    _, errors = lock_views([site_spec], site, LockOptions(), progress=progress)
    if errors:
        raise errors[0]
    return build(site_spec, site, progress=progress)


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
    replace: Sequence[str],
    editable: Sequence[str],
) -> None:
    """Write ``<folder>/<name>.yaml``, a recipe that extends a view."""
    path = free_file(name, name, folder, _catalogue(folder).modules_by_file if folder.is_dir() else {})
    text = _EXTENSION.format(
        name=name,
        summary=json.dumps(f"What I put on top of {PurePath(on).name if on.startswith('/') else on}"),
        on=json.dumps(on),
        platform=platform,
        pypi=_entries(requirements) or "  []\n",
        more="".join(
            f"{key}:\n{_entries(texts)}" for key, texts in (("replace", replace), ("editable", editable)) if texts
        ),
    )
    make_folder(folder)
    write_atomically(path, text)


def _catalogue(recipes: Path) -> Catalogue:
    """Return one's own recipes, which may take the layers that travel with mlviews."""
    return open_catalogue(recipes, behind=shipped("recipes"))


def _own_extension(name: str, recipes: Path) -> ViewSpec | None:
    """Return the view that the recipe of this name in one's own folder makes, where it extends another one."""
    if "/" in name or not (recipes / f"{name}.yaml").is_file():
        return None
    spec = _catalogue(recipes).view(name)
    return spec if spec.on else None


_LIST = r"(?m)^{}:[ \t]*(?:#.*)?\n(?:[ \t]*\[\][ \t]*\n|(?=(?P<indent>[ \t]*)- ))"


def _add(path: Path, key: str, texts: Iterable[str]) -> None:
    """Add texts to a list of a recipe; all else in it stays, comments too."""
    texts = list(dict.fromkeys(texts))
    if not texts:
        return
    text = path.read_text(encoding="utf-8")
    if not re.search(rf"(?m)^{key}:", text):
        write_atomically(path, text + ("" if text.endswith("\n") else "\n") + f"{key}:\n{_entries(texts)}")
        return
    found = re.search(_LIST.format(key), text)
    if not found:
        hint = f"Add them there and type `mlviews lock {path.stem}`, or take another name with --name."
        raise BadInputError("recipe-exists", f"{path} is there, and has no list below `{key}:` to add to", hint)
    begin = found[0].removesuffix("\n").partition("\n")[0]
    added = _entries(texts, found["indent"] if found["indent"] is not None else "  ")
    write_atomically(path, f"{text[: found.start()]}{begin}\n{added}{text[found.end() :]}")


def _check(requirements: Iterable[str]) -> None:
    for text in requirements:
        try:
            check_requirement(text)
        except ValueError as error:
            hint = "Write it as `seaborn >=0.13`."
            if "://" in text:
                hint = "Clone it, and take the folder with --editable FOLDER."
            elif text.startswith((".", "/", "~")):
                hint = "--editable FOLDER takes a project as it lies."
            raise BadInputError("bad-requirement", f"{text!r} {error}", hint) from None


def _entries(texts: Iterable[str], indent: str = "  ") -> str:
    return "".join(f"{indent}- {json.dumps(text)}\n" for text in texts)  # a JSON string is one of YAML's


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
