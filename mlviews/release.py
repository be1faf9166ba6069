"""A release: one installed, immutable version of a view, and the ``release.json`` that says it exists."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  (pydantic reads it)
from typing import TYPE_CHECKING, Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints

from mlviews.errors import RefusedError
from mlviews.running import launcher

if TYPE_CHECKING:
    from pathlib import Path

__all__ = ["Activation", "Release", "ReleasePackage", "find_release"]

# Lmod 8.6 and environment-modules 5.2 run what follows a newline in a variable's value as a command: no release holds
# control characters.
Text = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f]*$")]
Variable = Annotated[str, StringConstraints(pattern=r"^[A-Za-z_][A-Za-z0-9_]*$")]
Folder = Annotated[str, StringConstraints(pattern=r"^[^\x00-\x1f\x7f:]+$")]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Activation(_Frozen):
    """What loading a view changes in the environment, captured once when it is built.

    ``prepend`` holds folders put before the value of PATH-like variables, first folder first; ``set`` variables with
    one value; ``unset`` variables that must not reach the view (``PYTHONPATH``, ``PYTHONHOME``). Values are final
    strings: nothing in them is expanded. None is empty: Lmod 8.6 stops in the middle of unloading at an empty value.
    """

    prepend: dict[Variable, tuple[Folder, ...]]
    set: dict[Variable, Annotated[Text, StringConstraints(min_length=1)]]
    unset: tuple[Variable, ...]


class ReleasePackage(_Frozen):
    """One installed conda package."""

    name: str
    version: str
    build: str


class Release(_Frozen):
    """Everything that is rendered from a release, in one value; stored as ``release.json``.

    ``prefix`` is the path baked into the files (``/cvmfs/...`` on a host that builds for it). ``requested`` names the
    packages that the recipe itself asks for. ``absent`` and ``gaps`` say, package by package, why something is missing;
    ``some_gpus_only`` why a package may serve only some of ``gpus``.
    """

    mlviews: str
    view: Text
    release: Text
    platform: Text
    summary: Text
    module: Text
    site: str
    prefix: Folder
    lock_digest: Text
    created: datetime
    glibc: str | None = None
    cuda: str | None = None
    gpus: tuple[str, ...] = ()
    some_gpus_only: dict[Text, Text] = {}
    requested: tuple[str, ...] = ()
    gaps: dict[Text, Text] = {}
    absent: dict[Text, Text] = {}
    packages: tuple[ReleasePackage, ...] = ()
    activation: Activation


def find_release(root: Path, label: str) -> tuple[Path, Release]:
    """Return where a release for this host lies, and what it is.

    Args:
        root: the site's root.
        label: ``VIEW`` for its default release, or ``VIEW/RELEASE``.

    Raises:
        RefusedError: there is no such release, or its record cannot be read.
    """
    name, _, chosen = label.partition("/")
    prefix = launcher(root, name, chosen or None).parent
    try:
        return prefix, Release.model_validate_json((prefix / "release.json").read_bytes())
    except (OSError, ValueError) as error:
        raise RefusedError(
            "release-broken",
            f"{prefix / 'release.json'} cannot be read",
            f"Build it again: `mlviews build {name}`.",
        ) from error
