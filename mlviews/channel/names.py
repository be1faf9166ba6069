"""What a package is called by conda-forge and by a Python package index; the table is ``names.yaml``."""

from __future__ import annotations

import functools
from dataclasses import dataclass
from fnmatch import fnmatchcase
from pathlib import Path
from typing import TYPE_CHECKING

import yaml
from packaging.utils import NormalizedName, canonicalize_name

from mlviews.errors import RefusedError

if TYPE_CHECKING:
    from collections.abc import Mapping

__all__ = ["EXTRA", "conda_name", "extra_name", "project_of", "provider_of"]

EXTRA = ".extra."
"""Stands between a package and its extra in the name of the package that holds what the extra needs.

conda has no extras. Normalised names of an index hold no dots, so no project can take such a name.
"""


@dataclass(frozen=True, slots=True)
class _Table:
    conda: Mapping[str, str]  # by normalised index name
    index: Mapping[str, str]  # by conda-forge's name; may end in an extra
    not_python: tuple[str, ...]


@functools.cache
def _table() -> _Table:
    data = yaml.safe_load(Path(__file__).with_name("names.yaml").read_bytes())
    conda = {str(canonicalize_name(name)): name for name in data["spelled"]} | data["renamed"]
    index = {name: project for project, name in conda.items()} | data["aliases"]
    return _Table(conda, index, tuple(data["not-python"]))


def conda_name(project: str) -> str:
    """Return what conda-forge calls the project ``project`` of a Python package index."""
    normalized = canonicalize_name(project)
    return _table().conda.get(normalized, normalized)


def extra_name(project: str, extra: str) -> str:
    """Return the name of the package that stands for ``project[extra]``."""
    return f"{conda_name(project)}{EXTRA}{canonicalize_name(extra)}"


def project_of(name: str) -> tuple[NormalizedName, str]:
    """Return the project, and the extra or ``""``, that the conda package ``name`` is made of."""
    project, _, extra = _table().index.get(name, name).rstrip("]").partition("[")
    return canonicalize_name(project), extra


def provider_of(name: str) -> tuple[NormalizedName, str]:
    """Return the project, and the extra or ``""``, that provides what a recipe means by ``name``.

    Raises:
        RefusedError: ``no-wheel``: no wheel can, or the project of that name is something else.
    """
    project, extra = project_of(name)
    hint = (
        f"Use a site with a conda channel, or name {name} under `absent` in this site's file if views can do without."
    )
    if name.endswith("-gpu"):
        raise RefusedError("no-wheel", f"{name} asks for CUDA, and views made of wheels are for the CPU", hint)
    same = name in _table().index or canonicalize_name(conda_name(project)) == canonicalize_name(name)
    if not same or any(fnmatchcase(name, pattern) for pattern in _table().not_python):
        raise RefusedError("no-wheel", f"no wheel provides {name}", hint)
    return project, extra
