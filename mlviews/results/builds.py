"""What ``build``, ``container build`` and ``render`` give back."""

from __future__ import annotations

from typing import Literal

from pydantic import Field

from mlviews.results.base import Result
from mlviews.results.checks import CheckLine  # noqa: TC001  (pydantic reads it)

__all__ = ["BuildResult", "ContainerBuildResult", "LayerLine", "RenderResult"]


class BuildResult(Result):
    """``mlviews build VIEW``."""

    view: str
    release: str
    platform: str
    status: Literal["new", "unchanged"]
    default: bool = Field(description="Whether a plain `module load` gives this release.")
    folder: str
    module: str
    lock: str = Field(description="The lock's digest.")
    packages: int
    gaps: dict[str, str]
    absent: dict[str, str]
    checks: list[CheckLine]


class LayerLine(Result):
    """One layer of an image."""

    holds: str = Field(description="Whose files: one large package's, `packages` the others', `view` mlviews' own.")
    digest: str
    bytes: int = Field(description="Compressed.")


class ContainerBuildResult(Result):
    """``mlviews container build VIEW``."""

    view: str
    release: str
    lock: str = Field(description="The lock's digest.")
    platform: str
    digest: str = Field(description="What a registry knows the image by.")
    config: str = Field(description="Digest of its configuration: the image's id in podman and docker.")
    base: str = Field(description="The base image: a name or a file.")
    base_digest: str
    bytes: int = Field(description="Of all layers, compressed.")
    layers: list[LayerLine] = Field(description="On top of the base's.")
    archive: str | None = Field(description="The OCI archive that was written.")
    pushed: str | None = Field(description="Where it was pushed to.")
    sif: str | None = Field(description="The Apptainer image that was written.")
    remarks: list[str] = Field(description="What makes the image less than certain, such as a base without a digest.")


class RenderResult(Result):
    """``mlviews render VIEW FORMAT``."""

    view: str
    format: str
    platform: str
    path: str | None = Field(description="What was written: a file, or a folder where there are several files.")
    files: dict[str, str] = Field(description="Text by file name, the main file first.")
    remarks: list[str] = Field(description="What makes them less than certain, such as an image without a digest.")
