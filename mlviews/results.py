"""What each command gives back: the ``data`` of the JSON envelope, one model a command.

Their JSON Schemas travel with mlviews, in ``mlviews/schemas/``.
"""

from __future__ import annotations

from typing import Literal

from pydantic import BaseModel, ConfigDict, Field

__all__ = [
    "BuildResult", "ContainerBuildResult", "DiffResult", "DoctorResult", "ListResult", "LockResult", "LockState",
    "NewResult", "PackageChange", "ReleasesResult", "RenderResult", "ShowResult", "SmokeResult", "ViewLine",
]  # fmt: skip

LockState = Literal["current", "stale", "none", "invalid", "unavailable"]


class _Result(BaseModel):
    model_config = ConfigDict(frozen=True, populate_by_name=True)


class ViewLine(_Result):
    """One view in ``mlviews list``."""

    name: str
    module: str
    summary: str
    platforms: list[str]
    cuda: str | None
    lock: LockState
    packages: int | None = Field(description="Packages locked for the first platform.")


class ListResult(_Result):
    """``mlviews list``."""

    recipes: str = Field(description="The folder of recipes.")
    views: list[ViewLine]


class AskedPackage(_Result):
    """A request and who made it."""

    spec: str
    by: list[str]


class Why(_Result):
    """A package and the reason it is treated as it is."""

    package: str
    why: str


class ShownHardware(_Result):
    """What the view is solved for."""

    glibc: str
    cuda: str | None
    archspec: str | None
    gpus: list[str]


class ShownLock(_Result):
    """The state of the view's lock."""

    state: LockState
    path: str | None
    digest: str | None
    packages: dict[str, int] = Field(description="Packages by platform.")
    bytes: dict[str, int] = Field(description="Bytes of archives by platform.")
    changes: list[str] = Field(description="What the recipe changed since, where the lock is stale.")


class GpuLine(_Result):
    """What is known of a view's lock on one GPU; see docs/smoke.md."""

    gpu: str = Field(description="As the recipe names it; the driver's name for one that it does not.")
    status: Literal["proved", "failed", "unproved"]
    device: str = Field("", description="The driver's name for it.")
    driver: str = Field("", description="Version of NVIDIA's driver.")
    checked: str | None = Field(None, description="When it was last tested (UTC).")
    passed: list[str] = Field([], description="Checks that passed on it then.")
    failed: list[str] = Field([], description="Checks that failed on it then.")


class ShowResult(_Result):
    """``mlviews show VIEW``."""

    name: str
    summary: str
    module: str
    layers: list[str]
    platforms: list[str]
    hardware: ShownHardware
    dependencies: list[AskedPackage]
    constraints: list[AskedPackage]
    pypi: list[AskedPackage]
    gaps: list[Why]
    cpu_only: list[Why] = Field(alias="cpu-only")
    smoke: list[str]
    lock: ShownLock
    gpus: list[GpuLine] = Field(description="What proves this lock on the GPUs that the recipe names, and others.")


class NewResult(_Result):
    """``mlviews new VIEW``."""

    view: str
    path: str


class PackageChange(_Result):
    """One package that differs between two locks."""

    kind: Literal["added", "removed", "up", "down", "rebuilt"]
    name: str
    platform: str
    before: str | None
    after: str | None
    bytes: int = Field(description="Bytes of archive added; negative where taken away.")


class LockedView(_Result):
    """What became of one view's lock."""

    view: str
    path: str
    status: Literal["new", "updated", "unchanged", "failed"]
    digest: str | None
    packages: int
    changes: list[PackageChange]


class LockResult(_Result):
    """``mlviews lock``."""

    locks: list[LockedView]


class DiffResult(_Result):
    """``mlviews diff VIEW``."""

    view: str
    before: str
    after: str
    bytes: int = Field(description="Bytes of archives added in all; negative where taken away.")
    changes: list[PackageChange]


class CheckLine(_Result):
    """What one check found."""

    name: str
    status: Literal["pass", "fail", "skip", "error"]
    reason: str
    seconds: float
    device: str = Field(
        "", description="What did the work: `cpu`, or the GPU's name; empty where nothing was computed."
    )
    driver: str = Field("", description="Version of NVIDIA's driver, where there is one.")
    versions: dict[str, str] = {}
    figures: dict[str, int | float | str] = Field({}, description="What was measured; errors in parts of their bound.")


class SmokeResult(_Result):
    """``mlviews smoke``; view, release and lock are null for an interpreter of no view."""

    view: str | None
    release: str | None
    lock: str | None = Field(description="The lock's digest.")
    python: str | None = Field(description="The interpreter, where one was named.")
    level: Literal["quick", "full"]
    proved: bool = Field(description="Whether any check passed or failed.")
    record: str | None = Field(description="The record that was kept.")
    full_only: list[str] = Field(alias="full-only", description="Checks that only `--level full` runs.")
    checks: list[CheckLine]


class BuildResult(_Result):
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


class LayerLine(_Result):
    """One layer of an image."""

    holds: str = Field(description="Whose files: one large package's, `packages` the others', `view` mlviews' own.")
    digest: str
    bytes: int = Field(description="Compressed.")


class ContainerBuildResult(_Result):
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


class ReleaseLine(_Result):
    """One release in ``mlviews releases``."""

    release: str
    default: bool
    platforms: list[str]
    created: str
    lock: str
    packages: int
    bytes: int = Field(description="Bytes that its files take; files shared with others count in full.")
    gpus: list[GpuLine] = Field(description="What proves its lock on the GPUs that it claims, and others.")


class ReleasesResult(_Result):
    """``mlviews releases VIEW``."""

    view: str
    releases: list[ReleaseLine]


class Finding(_Result):
    """One thing that ``mlviews doctor`` looked at."""

    name: str
    status: Literal["ok", "note", "problem"]
    found: str
    advice: str = ""


class Fit(_Result):
    """Whether a view runs on this host."""

    view: str
    runs: bool
    why: str


class DriverLine(_Result):
    """A CUDA version that views ask for, and the driver that offers it."""

    cuda: str
    driver: str | None = Field(description="The oldest that does, on Linux; null where NVIDIA's table has none.")
    here: bool = Field(description="Whether this host's driver does.")
    views: list[str]


class DoctorResult(_Result):
    """``mlviews doctor``."""

    findings: list[Finding]
    views: list[Fit]
    drivers: list[DriverLine]


class RenderResult(_Result):
    """``mlviews render VIEW FORMAT``."""

    view: str
    format: str
    platform: str
    path: str | None = Field(description="What was written: a file, or a folder where there are several files.")
    files: dict[str, str] = Field(description="Text by file name, the main file first.")
    remarks: list[str] = Field(description="What makes them less than certain, such as an image without a digest.")
