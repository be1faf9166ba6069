"""A release: one installed, immutable version of a view, and the ``release.json`` that says it exists."""

from __future__ import annotations

from datetime import datetime  # noqa: TC003  (pydantic reads it)

from pydantic import BaseModel, ConfigDict

__all__ = ["Activation", "Release", "ReleasePackage"]


class _Frozen(BaseModel):
    model_config = ConfigDict(frozen=True, extra="forbid")


class Activation(_Frozen):
    """What loading a view changes in the environment, captured once when it is built.

    ``prepend`` holds folders put before the value of PATH-like variables, first folder first; ``set`` variables with one
    value; ``unset`` variables that must not reach the view (``PYTHONPATH``, ``PYTHONHOME``). Values are final strings:
    nothing in them is expanded.
    """

    prepend: dict[str, tuple[str, ...]]
    set: dict[str, str]
    unset: tuple[str, ...]


class ReleasePackage(_Frozen):
    """One installed conda package."""

    name: str
    version: str
    build: str


class Release(_Frozen):
    """Everything that is rendered from a release, in one value; stored as ``release.json``.

    ``prefix`` is the path baked into the files (``/cvmfs/...`` on a host that builds for it). ``requested`` names the
    packages that the recipe itself asks for. ``absent`` and ``gaps`` say, package by package, why something is missing.
    """

    mlviews: str
    view: str
    release: str
    platform: str
    summary: str
    module: str
    site: str
    prefix: str
    lock_digest: str
    created: datetime
    glibc: str | None = None
    cuda: str | None = None
    gpus: tuple[str, ...] = ()
    requested: tuple[str, ...] = ()
    gaps: dict[str, str] = {}
    absent: dict[str, str] = {}
    packages: tuple[ReleasePackage, ...] = ()
    activation: Activation
