"""Prove a release: the checks that every release must pass, then those of its recipe."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.conda.records import CondaRecord, read_conda_records
from mlviews.errors import FailedError
from mlviews.pack.mounting import entering
from mlviews.prefix.clobbers import NOT_MODULES
from mlviews.smoke.runner import Interpreter, choose, run_checks, view_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlviews.progress import Progress
    from mlviews.recipe.view import OwnCheck
    from mlviews.release import Release
    from mlviews.smoke.report import CheckLine

_MODULE = re.compile(
    r"lib/python3\.\d+t?/site-packages/(?P<name>[A-Za-z]\w*)"
    r"(/__init__\.py|\.py|(\.cpython-[\w-]+|\.abi3)?\.so)"
)


def modules_of(requested: Iterable[str], packages: Mapping[str, CondaRecord]) -> tuple[str, ...]:
    """Return the top-level modules that the requested packages bring, by their installed files.

    A package without any module, such as ``matplotlib`` on conda-forge, stands for the packages that it depends on.
    """
    modules: dict[str, None] = {}
    for name in requested:
        if package := packages.get(name):
            found = _modules(package) or [m for d in package.depends if d in packages for m in _modules(packages[d])]
            modules |= dict.fromkeys(found)
    return tuple(modules)


def _modules(package: CondaRecord) -> list[str]:
    found = dict.fromkeys(match["name"] for file in package.files if (match := _MODULE.fullmatch(file)))
    return [name for name in found if name not in NOT_MODULES]


_NO_PYTHON = "this view holds no Python, and every check needs it"


def release_target(prefix: Path, release: Release, records: Iterable[CondaRecord] | None = None) -> Interpreter:
    """Return a release's Python, started by its ``launch``, with what its checks are told: modules, waivers.

    Its programs run where its files say that it lies. Where that is not here, it is put there for them alone.

    Args:
        release: the same as its files name it.
        records: the conda records of its packages, if somebody has read them.
    """
    known = read_conda_records(prefix) if records is None else records
    modules = modules_of(release.requested, {record.name: record for record in known})
    told = {"imports": modules, "pip-check": (*release.pip_check_waivers, *_broken(release))}
    baked = Path(release.prefix)
    target = view_python(baked / "launch", claims_gpu=release.cuda is not None, arguments=told)
    if not release.has_python:
        return replace(target, lacking=_NO_PYTHON)
    if _is_there(prefix, baked):
        return target
    try:
        way = entering(prefix, baked)
    except FailedError as error:
        return replace(target, lacking="; ".join([f"its programs run only in the folder {baked}", *error.faults]))
    return replace(target, enter=lambda command, environment, _: ([*way, *command], dict(environment)))


def _broken(release: Release) -> tuple[str, ...]:
    """Return the projects that a release is told to break: no check has to tell again."""
    if not release.broken:
        return ()
    from mlviews.wheels.requirements import project_of  # noqa: PLC0415  (few releases replace anything)

    return tuple(str(project_of(name)[0]) for name in release.broken)


def _is_there(prefix: Path, baked: Path) -> bool:
    return baked.exists() and baked.samefile(prefix)


def first_checks(
    prefix: Path,
    release: Release,
    names: Iterable[str],
    *,
    own: Iterable[OwnCheck],
    records: Iterable[CondaRecord] | None = None,
    progress: Progress,
) -> tuple[CheckLine, ...]:
    """Run quick checks of a release that has its ``launch``, and is there or about to be.

    Args:
        release: the same as its files name it.
        records: as for `release_target`.
    """
    return run_checks(release_target(prefix, release, records), choose(names, "quick", own=own), progress=progress)
