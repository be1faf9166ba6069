"""A new recipe: from scratch, from a view, or of what people have, and which view holds much of that already."""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from pydantic import TypeAdapter, ValidationError

from mlviews.errors import BadInputError
from mlviews.files.writing import make_folder, write_atomically
from mlviews.recipe.catalogue import Catalogue, modules_clash
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, ViewName, parse
from mlviews.recipe.view import spec_name
from mlviews.wheels.requirements import conda_name

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlviews.adopt import Adopted
    from mlviews.lock.lockfile import Lock


@dataclass(frozen=True, slots=True)
class Held:
    """What a view's lock holds of the packages that somebody asks for.

    Attributes:
        holds: those that it holds.
        differs: those that it holds in a version that is not asked for, which is named.
        adds: those that it lacks: a view on top of it would add them.
    """

    view: str
    holds: Sequence[str]
    differs: Sequence[str]
    adds: Sequence[str]


def held_by(dependencies: Iterable[str], locks: Mapping[str, Lock]) -> Held | None:
    """Return the view that holds most of what is asked for, the smallest of several; None where no view holds any.

    Args:
        dependencies: match specs and requirements.
    """
    asked = [*dependencies]
    found = {view: _held(view, asked, lock) for view, lock in locks.items()}

    def size(view: str) -> tuple[int, int, int]:
        held = found[view]
        return len(asked) - len(held.adds), len(held.holds), -len(locks[view].packages)

    best = max(found, key=size, default=None)
    return found[best] if best and size(best)[0] else None


def _held(view: str, asked: Iterable[str], lock: Lock) -> Held:
    from rattler import MatchSpec, Version, VersionSpec  # noqa: PLC0415  (takes time to import)

    versions = {package.name: package.version for package in lock.on(lock.platforms[0])}
    holds, differs, adds = [], [], []
    for text in asked:
        name = spec_name(text)
        # conda-forge's `matplotlib` is `matplotlib-base`, which the index calls so, and a toolkit of windows.
        have = versions.get(name, versions.get(conda_name(name)))
        wanted = MatchSpec(re.sub(r"\[[^]]*]|;.*", "", text)).version  # extras and markers are no match spec's
        if have is None:
            adds.append(text)
        elif wanted is None or VersionSpec(str(wanted)).matches(Version(have)):
            holds.append(text)
        else:
            differs.append(f"{text} (it has {have})")
    return Held(view, holds, differs, adds)


_LAYERS = ("base",)  # Python, a kernel, and the checks that every view should pass
_TEXT = """\
# A view: see docs/recipes.md for every key; `mlviews layers` and `mlviews checks` list what there is.
schema: 1
name: {name}
summary: {summary}
{module}# what `module load` takes
{layers}# shared parts
platforms: [linux-64]
hardware:
  glibc: "2.34"                   # el9, as the layer base says; docs/recipes.md tells how to go lower
{gpu}{heading}# conda match specs; "numpy >=2,<3", "python 3.12.*"
{dependencies}{pypi}{left_out}# constraints: ["numpy <3"]       # limits on packages that others pull in
# gaps:                           # what it should hold and cannot yet; `mlviews show` tells people
#   - {{package: name, why: the reason}}
{variants}{smoke}# besides those of its layers: {checks}
"""
_GPU = """\
  cuda: "12.9"                    # the driver must offer at least this
  gpus: [A100, H100]              # machine code or PTX for these must be in the binaries
"""
_VARIANTS = """\
# variants:                       # the same view for newer GPUs: `mlviews lock NAME-cuda13` makes its lock
#   cuda13: {hardware: {cuda: "13.0", gpus: [A100, H100, B200]}, constraints: [cuda-version 13.0.*]}
"""
_PYPI = "pypi:                             # what pip takes; where a channel has it, that goes first\n"
_PLAIN = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.<>=!,~* +-]*")


def write_new_recipe(
    name: str, folder: Path, catalogue: Catalogue, *, gpu: bool = False, like: str = "", adopted: Adopted | None = None
) -> Path:
    """Write ``<folder>/<name>.yaml`` and return its path.

    Args:
        folder: the user's own recipes.
        gpu: whether it is for NVIDIA GPUs.
        like: a view whose recipe is copied.
        adopted: what it asks for, unless it is a copy.

    Raises:
        BadInputError: the name is no view's name, the file exists, or another view has the module; ``like`` is no view.
    """
    module = f"atlasml/{name}"
    path = free_file(name, module, folder, catalogue.modules_by_file)
    text = _copy(catalogue, like, name, module) if like else _text(name, module, adopted, gpu=gpu)
    make_folder(folder)
    write_atomically(path, text)
    if not like:
        made = parse(path, Recipe)
        named = compose(made, folder / "layers", *catalogue.layers).smoke
        checks = [check for check in named if check not in made.model.smoke]
        write_atomically(path, text.replace(_CHECKS, ", ".join(checks) or "none"))
    return path


_CHECKS = "@checks@"


def _copy(catalogue: Catalogue, like: str, name: str, module: str) -> str:
    catalogue.view(like)  # it must be one
    source = catalogue.file(like)
    text = source.read_text(encoding="utf-8")
    for key, value in {"name": name, "module": module}.items():
        text = re.sub(rf"(?m)^{key}:.*$", f"{key}: {value}", text)
    return text


def _text(name: str, module: str, adopted: Adopted | None, *, gpu: bool) -> str:
    asked = adopted.dependencies if adopted else ["pytorch-gpu" if gpu else "numpy"]
    summary = f"What {Path(adopted.source).name} asks for" if adopted else f"What {name} is for, in one sentence"
    return _TEXT.format(
        name=name,
        summary=_scalar(summary),
        module=f"module: {module}".ljust(33) + " ",
        layers=f"layers: [{', '.join(_LAYERS)}]".ljust(33) + " ",
        gpu=_GPU if gpu else "",
        heading=f"{'dependencies:' if asked else 'dependencies: []':<34}",
        dependencies="".join(f"  - {_scalar(package)}\n" for package in asked),
        pypi=_PYPI + "".join(f"  - {_scalar(text)}\n" for text in adopted.pypi) if adopted and adopted.pypi else "",
        variants=_VARIANTS if gpu else "",
        smoke=f"{'smoke: [torch-matmul, torch-train]' if gpu and not adopted else 'smoke: []':<33} ",
        left_out="".join(f"# left out: {json.dumps(text)}\n" for text in (adopted.left_out if adopted else ())),
        checks=_CHECKS,
    )


def _scalar(text: str) -> str:
    """Return text as YAML reads it back."""
    return text if _PLAIN.fullmatch(text) and yaml.safe_load(text) == text else json.dumps(text)


def free_file(name: str, module: str, folder: Path, others: Mapping[Path, str]) -> Path:
    """Return where the recipe of a new view goes.

    Raises:
        BadInputError: no view can be called so, a recipe of that name is there, or another view has its module.
    """
    try:
        TypeAdapter(ViewName).validate_python(name)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError("name-invalid", f"{name!r} {problem}", "Such as: tagging-gpu") from None
    path = folder / f"{name}.yaml"
    if path.exists():
        raise BadInputError("recipe-exists", f"{path} is there already", "Take another name, or edit that file.")
    for other, its in others.items():
        if modules_clash(module, its):
            raise BadInputError(
                "recipe-clash", f"the module {module!r} would clash with {its!r} in {other}", "Take another name."
            )
    return path
