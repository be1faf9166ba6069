"""The images that views are put into: by name, as a site gives them."""

from __future__ import annotations

from typing import Annotated

from pydantic import BaseModel, ConfigDict, Field, StringConstraints

from mlviews.errors import RefusedError
from mlviews.recipe.model import Text  # noqa: TC001  (pydantic reads it)

__all__ = ["IMAGE", "Images", "base_for", "is_pinned"]

IMAGE = (
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
"""An image's name, as registries define it: https://github.com/distribution/reference."""

_Image = Annotated[str, StringConstraints(pattern=f"^{IMAGE}$", max_length=500)]
_Glibc = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]

# Of each glibc a small image that has it and a shell. Digests go stale with every security update: a site pins its own.
_BASES = {
    "2.28": "docker.io/library/almalinux:8-minimal",
    "2.34": "docker.io/library/almalinux:9-minimal",
    "2.36": "docker.io/library/debian:12-slim",
    "2.39": "docker.io/library/ubuntu:24.04",
    "2.41": "docker.io/library/debian:13-slim",
}


class Images(BaseModel):
    """What images of views are made from, and where they go; names with ``@sha256:...`` are pinned."""

    model_config = ConfigDict(frozen=True, extra="forbid", strict=True)

    installer: _Image = Field(
        "docker.io/mambaorg/micromamba:2.3.2", description="Image with a shell and micromamba, for Dockerfiles."
    )
    base: dict[_Glibc, _Image] = Field(_BASES, description="glibc -> the image that views lie in.")
    repository: _Image | None = Field(None, description="Where images are pushed to: `REPOSITORY/VIEW:LOCK`.")
    source: Text | None = Field(None, description="URL of the recipes, for the label of that name.")


def base_for(glibc: str, images: Images) -> str:
    """Return the image with the oldest glibc that a view made for ``glibc`` runs on.

    Raises:
        RefusedError: the site names none.
    """
    wanted = _numbers(glibc)
    fitting = [version for version in images.base if _numbers(version) >= wanted]
    if not fitting:
        raise RefusedError(
            "base-unknown",
            f"the site names no base image with glibc {glibc} or newer; it has {', '.join(images.base) or 'none'}",
            "Add one to `container: {base: {...}}` in the site's file.",
        )
    return images.base[min(fitting, key=_numbers)]


def is_pinned(image: str) -> bool:
    """Tell whether a name means one image for ever."""
    return "@sha256:" in image


def _numbers(version: str) -> tuple[int, ...]:
    return tuple(int(part) for part in version.split("."))
