"""A release: one installed, immutable version of a view, and the ``release.json`` that says it exists."""

from __future__ import annotations

import hashlib
from datetime import datetime  # noqa: TC003  (pydantic reads it)
from typing import Annotated

from pydantic import BaseModel, ConfigDict, StringConstraints, ValidationError

__all__ = ["RECORD", "RELEASE_LOCK", "Activation", "Release", "ReleasePackage", "is_intact", "sealed"]

RECORD = "release.json"
"""A release exists where this file does, in each platform's folder."""
RELEASE_LOCK = "conda-lock.yml"
"""Beside it, the lock that it was installed from."""

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
    ``some_gpus_only`` why a package may serve only some of ``gpus``. ``files`` is the sha256 of ``files.json``, which
    lists what no package's record does; ``seal`` that of ``release.json`` itself, with an empty seal. Neither is known
    of releases from before there were any.
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
    files: str = ""
    seal: str = ""


def sealed(release: Release) -> str:
    """Return the text of ``release.json``, with a seal by which any change of it is found."""
    text = release.model_copy(update={"seal": ""}).model_dump_json(indent=2) + "\n"
    return _with_seal(text, "", hashlib.sha256(text.encode()).hexdigest())


def is_intact(content: bytes) -> bool:
    """Tell whether the bytes of a ``release.json`` are those that were written; True where it has no seal."""
    try:
        seal = Release.model_validate_json(content).seal
    except ValidationError:
        return False
    if not seal:
        return True
    text = _with_seal(content.decode(errors="replace"), seal, "")
    return hashlib.sha256(text.encode()).hexdigest() == seal


def _with_seal(text: str, old: str, new: str) -> str:
    """Put another seal in: the last of all keys, whatever else the text holds."""
    before, _, after = text.rpartition(f'"seal": "{old}"')
    return f'{before}"seal": "{new}"{after}'
