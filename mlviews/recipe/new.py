"""A new recipe: a file with comments that can be locked as it is."""

from __future__ import annotations

from typing import TYPE_CHECKING

from pydantic import TypeAdapter, ValidationError

from mlviews.errors import BadInputError
from mlviews.files import make_folder, write_atomically
from mlviews.recipe.catalogue import modules_clash, open_catalogue
from mlviews.recipe.model import ViewName

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["write_new_recipe"]

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


def write_new_recipe(name: str, folder: Path, *, gpu: bool) -> Path:
    """Write ``<folder>/<name>.yaml`` and return its path.

    Raises:
        BadInputError: the name is no view's name, the file exists, or another view has the module.
        FailedError: it cannot be written.
    """
    try:
        TypeAdapter(ViewName).validate_python(name)
    except ValidationError as error:
        problem = error.errors()[0]["msg"].removeprefix("Value error, ")
        raise BadInputError("name-invalid", f"{name!r} {problem}", "Such as: tagging-gpu") from None
    path = folder / f"{name}.yaml"
    if path.exists():
        raise BadInputError("recipe-exists", f"{path} is there already", "Take another name, or edit that file.")
    make_folder(folder)
    module = f"atlasml/{name}"
    for other in open_catalogue(folder).recipes.values():
        if modules_clash(module, other.model.module):
            raise BadInputError(
                "recipe-clash",
                f"the module {module!r} would clash with {other.model.module!r} in {other.document.where(('module',))}",
                "Take another name.",
            )
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
