"""The folder of recipes: one view by name, or all of them, what they must not share, and a new recipe."""

from __future__ import annotations

import json
from dataclasses import dataclass
from pathlib import PurePath
from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from mlviews.errors import BadInputError, FailedError, MlviewsError
from mlviews.files import make_folder, write_atomically
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, ViewName, check_requirement, nearest, parse

if TYPE_CHECKING:
    from collections.abc import Sequence
    from pathlib import Path

    from mlviews.recipe.compose import ViewSpec
    from mlviews.recipe.model import Parsed

__all__ = ["Catalogue", "modules_clash", "open_catalogue", "write_extension", "write_new_recipe"]


@dataclass(frozen=True, slots=True)
class Catalogue:
    """Every recipe of a folder, parsed; a faulty one does not stop work on the others."""

    folder: Path
    recipes: dict[str, Parsed[Recipe]]
    faulty: dict[str, MlviewsError]

    @property
    def names(self) -> tuple[str, ...]:
        """All views, faulty ones too, in alphabetical order."""
        return tuple(sorted({*self.recipes, *self.faulty}))

    def view(self, name: str) -> ViewSpec:
        """Return one composed view.

        Raises:
            BadInputError: there is no such recipe, it is faulty, or it shares a name or a module with another.
        """
        if name in self.faulty:
            raise self.faulty[name]
        if name not in self.recipes:
            raise BadInputError(
                "view-unknown",
                f"there is no view {name!r} in {self.folder}{nearest(name, self.names)}",
                "`mlviews list` shows all; `mlviews new VIEW` starts one.",
            )
        return compose(self.recipes[name], self.folder / "layers")

    def views(self) -> tuple[ViewSpec, ...]:
        """Return every view, composed.

        Raises:
            BadInputError: any recipe is faulty; the faults of all are named.
        """
        views: list[ViewSpec] = []
        faults: list[str] = []
        for name in self.names:
            try:
                views.append(self.view(name))
            except MlviewsError as error:
                faults.extend(error.faults or (error.message,))
        if faults:
            raise BadInputError(
                "catalogue-invalid",
                f"{self.folder}: recipes with faults",
                "Fix them; one by one: `mlviews show VIEW`.",
                faults=tuple(dict.fromkeys(faults)),
            )
        return tuple(views)


def open_catalogue(folder: Path) -> Catalogue:
    """Parse every recipe of ``folder``.

    Raises:
        FailedError: the folder cannot be read.
    """
    try:
        paths = sorted(path for path in folder.iterdir() if path.suffix == ".yaml" and not path.name.startswith("."))
    except OSError as error:
        raise FailedError(
            "recipes-unreadable", f"{folder}: {error.strerror}", "Name the folder of recipes with --recipes DIR."
        ) from error
    recipes: dict[str, Parsed[Recipe]] = {}
    faulty: dict[str, MlviewsError] = {}
    parsed: list[Parsed[Recipe]] = []
    for path in paths:
        try:
            parsed.append(parse(path, Recipe))
        except MlviewsError as error:
            faulty[path.stem] = error
    clashes = _clashes(parsed)
    for item in parsed:
        stem = item.document.path.stem
        if faults := clashes.get(stem):
            faulty[stem] = BadInputError(
                "recipe-clash",
                f"{item.document.path}: clashes with another recipe",
                "Names and modules belong to one recipe each.",
                faults=tuple(faults),
            )
        else:
            recipes[stem] = item
    return Catalogue(folder, recipes, faulty)


def _clashes(parsed: list[Parsed[Recipe]]) -> dict[str, list[str]]:
    """Return, by file stem, what recipes must not share: a name, a module, or one module inside another's folder."""
    faults: dict[str, list[str]] = {}
    for item in parsed:
        mine, document = item.model, item.document
        found = faults.setdefault(document.path.stem, [])
        if mine.name != document.path.stem:
            found.append(f"{document.where(('name',))}: is {mine.name!r}, but the file is {document.path.name}")
        for other in parsed:
            theirs, there = other.model, other.document
            if other is item:
                continue
            if theirs.name == mine.name:
                found.append(f"{document.where(('name',))}: {mine.name!r} is also the name in {there.where(('name',))}")
            if theirs.module == mine.module:
                found.append(
                    f"{document.where(('module',))}: {mine.module!r} is also the module in {there.where(('module',))}"
                )
            elif modules_clash(mine.module, theirs.module):
                outer, inner = sorted((mine.module, theirs.module), key=len)
                found.append(
                    f"{document.where(('module',))}: {outer!r} would be the folder that holds {inner!r} "
                    f"(also {there.where(('module',))}), so neither could be loaded by its short name"
                )
    return {stem: found for stem, found in faults.items() if found}


def modules_clash(one: str, other: str) -> bool:
    """Tell whether two modules are one, or one would be the folder that holds the other."""
    return f"{one}/".startswith(f"{other}/") or f"{other}/".startswith(f"{one}/")


_LAYERS = ("notebook",)  # joined where the folder has it: every view carries ipykernel

_TEXT = """\
# A view: see docs/recipes.md for every key.
schema: 1
name: {name}
summary: What {name} is for, in one sentence
module: {module}            # what `module load` takes
{layers}platforms: [linux-64]
hardware:
  glibc: "2.34"                   # el9; older hosts need a lower figure
{gpu}dependencies:                     # conda match specs; "numpy >=2,<3", "python 3.12.*"
{dependencies}# constraints: ["numpy <3"]       # limits on packages that others pull in
# gaps:                           # what it should hold and cannot yet; `mlviews show` tells people
#   - {{package: name, why: the reason}}
"""
_GPU = """\
  cuda: "12.9"                    # the driver must offer at least this
  gpus: [A100, H100]              # machine code or PTX for these must be in the binaries
"""


_EXTENSION = """\
# A view on top of another one: see docs/extend.md. After a change, `mlviews build {name}`.
schema: 1
name: {name}
summary: {summary}
module: {name}
on: {on}
platforms: [{platform}]
pypi:                             # requirements as pip takes them
{pypi}"""


def write_extension(name: str, folder: Path, *, on: str, platform: str, requirements: Sequence[str]) -> Path:
    """Write ``<folder>/<name>.yaml``, a recipe that extends a view, and return its path.

    Raises:
        BadInputError: the name is no view's name, the file exists, another view has the module, or a requirement is
            none.
        FailedError: it cannot be written.
    """
    path = _free(name, name, folder)
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
        pypi="".join(f"  - {json.dumps(text)}\n" for text in requirements),  # a JSON string is one of YAML's
    )
    write_atomically(path, text)
    return path


def write_new_recipe(name: str, folder: Path, *, gpu: bool) -> Path:
    """Write ``<folder>/<name>.yaml`` and return its path.

    Raises:
        BadInputError: the name is no view's name, the file exists, or another view has the module.
        FailedError: it cannot be written.
    """
    module = f"atlasml/{name}"
    path = _free(name, module, folder)
    layers = [layer for layer in _LAYERS if (folder / "layers" / f"{layer}.yaml").is_file()]
    packages = ["python >=3.11", "pytorch-gpu" if gpu else "numpy", *([] if layers else ["ipykernel"])]
    write_atomically(
        path,
        _TEXT.format(
            name=name,
            module=module,
            layers=f"layers: [{', '.join(layers)}]              # from layers/: shared parts\n" if layers else "",
            gpu=_GPU if gpu else "",
            dependencies="".join(f"  - {package}\n" for package in packages),
        ),
    )
    return path


def _free(name: str, module: str, folder: Path) -> Path:
    """Return where the recipe of a new view goes: nothing is there, and no other view has its module."""
    try:
        TypeAdapter(ViewName).validate_python(name)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError("name-invalid", f"{name!r} {problem}", "Such as: tagging-gpu") from None
    path = folder / f"{name}.yaml"
    if path.exists():
        raise BadInputError("recipe-exists", f"{path} is there already", "Take another name, or edit that file.")
    make_folder(folder)
    for other in open_catalogue(folder).recipes.values():
        if modules_clash(module, other.model.module):
            raise BadInputError(
                "recipe-clash",
                f"the module {module!r} would clash with {other.model.module!r} in {other.document.where(('module',))}",
                "Take another name.",
            )
    return path
