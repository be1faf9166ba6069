"""A site as people write it, and what its parts mean: images, CUDA wheels, what a promotion must prove."""

from __future__ import annotations

from datetime import timedelta
from typing import Annotated, Literal

from pydantic import Field, StringConstraints

from mlviews.errors import RefusedError
from mlviews.gpus.nvidia import version_key
from mlviews.licences import Licences  # noqa: TC001  (pydantic reads it)
from mlviews.recipe.model import GpuName, PublicText, Text, ViewName, Written
from mlviews.site.batch import BatchSystem, System  # noqa: TC001  (pydantic reads it)

IMAGE = (
    r"[a-z0-9]+([._-]+[a-z0-9]+)*(:[0-9]+)?(/[a-z0-9]+([._-]+[a-z0-9]+)*)*"
    r"(:[A-Za-z0-9_][A-Za-z0-9._-]{0,127})?(@sha256:[0-9a-f]{64})?"
)
"""An image's name, as registries define it: https://github.com/distribution/reference."""

_Image = Annotated[str, StringConstraints(pattern=f"^{IMAGE}$", max_length=500)]
_Version = Annotated[str, StringConstraints(pattern=r"^\d+\.\d+$")]
_Project = Annotated[str, StringConstraints(pattern=r"^[a-z0-9]([a-z0-9-]*[a-z0-9])?(\[[a-z0-9-]+(,[a-z0-9-]+)*\])?$")]

# Of each glibc a small image that has it and a shell. Digests go stale with every security update: a site pins its own.
_BASES = {
    "2.28": "docker.io/library/almalinux:8-minimal",
    "2.34": "docker.io/library/almalinux:9-minimal",
    "2.36": "docker.io/library/debian:12-slim",
    "2.39": "docker.io/library/ubuntu:24.04",
    "2.41": "docker.io/library/debian:13-slim",
}


class Images(Written):
    """What images of views are made from, and where they go; names with ``@sha256:...`` are pinned."""

    installer: _Image = Field(
        "docker.io/mambaorg/micromamba:2.3.2", description="Image with a shell and micromamba, for Dockerfiles."
    )
    base: dict[_Version, _Image] = Field(_BASES, description="glibc -> the image that views lie in.")
    repository: _Image | None = Field(None, description="Where images are pushed to: `REPOSITORY/VIEW:LOCK`.")
    source: PublicText | None = Field(None, description="URL of the recipes, for the label of that name.")


def base_for(glibc: str, images: Images) -> str:
    """Return the image with the oldest glibc that a view made for ``glibc`` runs on.

    Raises:
        RefusedError: the site names none.
    """
    wanted = version_key(glibc)
    fitting = [version for version in images.base if version_key(version) >= wanted]
    if not fitting:
        raise RefusedError(
            "base-unknown",
            f"the site names no base image with glibc {glibc} or newer; it has {', '.join(images.base) or 'none'}",
            "Add one to `container: {base: {...}}` in the site's file.",
        )
    return images.base[min(fitting, key=version_key)]


def is_pinned(image: str) -> bool:
    """Tell whether a name means one image for ever."""
    return "@sha256:" in image


class CudaWheels(Written):
    """With wheels: what views with ``hardware.cuda`` are made of."""

    version: _Version = Field(description="The CUDA that the wheels are for.")
    stand_ins: dict[Text, _Project] = Field(
        {},
        alias="stand-ins",
        description="Package -> the project that stands for it, with extras: `cupy-cuda12x[ctk]`.",
    )
    pins: dict[Text, Text] = Field({}, description="Package -> the one version to use; goes before the site's own.")
    absent: dict[Text, Text] = Field({}, description="Package -> why such a view cannot have it.")


class Promotion(Written):
    """What must be proved of a release before it becomes the default."""

    gpus: list[GpuName] = Field(
        [], description="GPUs on which the checks must have passed; those that a recipe does not name do not count."
    )
    level: Literal["quick", "full"] = Field("quick", description="Of the runs that count.")
    within: Annotated[str, StringConstraints(pattern=r"^[1-9]\d{0,3}[dh]$")] | None = Field(
        None, description="How old they may be: `7d` for days, `12h` for hours."
    )

    @property
    def age(self) -> timedelta:
        """How old a record may be."""
        unit = {"d": timedelta(days=1), "h": timedelta(hours=1)}
        return int(self.within[:-1]) * unit[self.within[-1]] if self.within else timedelta.max


class SiteFile(Written):
    """A site as people write it: ``~/.config/mlviews/sites/NAME.yaml``.

    In ``root``, ``prefix`` and ``lockfiles``, ``~`` is the home folder, ``{user}`` the user's name and ``{initial}``
    its first letter, as AFS and EOS paths have them; in ``lockfiles`` also ``{root}``.
    """

    schema_version: Literal[1] = Field(alias="schema", description="Version of this format.")
    name: ViewName = Field(description="The site's name, and the file's.")
    summary: Text = Field(description="One sentence for people.")
    root: Text = Field(description="Folder that everything is written to.")
    prefix: Text | None = Field(None, description="Folder baked into files, where it is not the root.")
    packages: Literal["conda", "wheels"] = Field(
        "conda", description="Where packages come from: conda channels, or wheels and the host's CPython."
    )
    channels: list[PublicText] = Field(
        ["conda-forge"], description="conda channels by name or URL, the first one first; without passwords and tokens."
    )
    mirrors: dict[PublicText, Text] = Field({}, description="Channel -> folder or URL to fetch it from.")
    promote: Literal["on-build", "manual"] = Field("on-build", description="When a new release becomes the default.")
    lockfiles: Text | None = Field(
        None,
        description="Folder of lock files; else `lockfiles` in the folder that you stand in, with wheels in the root.",
    )
    pins: dict[Text, Text] = Field({}, description="With wheels: package -> the one version to use.")
    absent: dict[Text, Text] = Field({}, description="With wheels: package -> why this site cannot have it.")
    cpu_index: Text | None = Field(
        None,
        alias="cpu-index",
        description="With wheels: URL of an index with CPU builds of what the usual one may have for CUDA only.",
    )
    beside: dict[Text, dict[Text, Text]] = Field(
        {}, description="With wheels: package -> what a view that holds it cannot have, and why."
    )
    cuda: list[CudaWheels] = Field(
        [], description="With wheels: what views for GPUs are made of, for each CUDA that there are some for."
    )
    repository: Annotated[str, StringConstraints(pattern=r"^[a-z0-9][a-z0-9.-]*$")] | None = Field(
        None, description="CVMFS repository that `publish` changes itself, where its `cvmfs_server` is: the prefix's."
    )
    promotion: Promotion | None = Field(None, description="What must be proved before a release becomes the default.")
    licences: Licences | None = Field(None, description="Which licences `lock` and `publish` refuse.")
    gpu_coverage: Literal["tell", "refuse"] = Field(
        "tell",
        alias="gpu-coverage",
        description="What a build does whose binaries leave out a GPU of the recipe: state it, or refuse the release.",
    )
    group: Text | None = Field(
        None, description="Group that shares the root: its members may write there too, else only who builds."
    )
    container: Images = Field(Images(), description="What images of views are made from.")
    batch: dict[System, BatchSystem] = Field({}, description="Batch systems here; the first one is the usual one.")
