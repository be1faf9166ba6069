"""Prove a release: the checks that every release must pass, then those of its recipe."""

from __future__ import annotations

import re
from dataclasses import replace
from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.conda.records import read_conda_records
from mlviews.progress import silent
from mlviews.smoke.report import CheckLine
from mlviews.smoke.runner import Interpreter, choose, run_checks, view_python

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping

    from mlviews.conda.records import CondaRecord
    from mlviews.progress import Progress
    from mlviews.release import Release

__all__ = ["BASIC", "first_checks", "modules_of", "release_target"]


_MODULE = re.compile(
    r"lib/python3\.\d+t?/site-packages/(?P<name>[A-Za-z]\w*)"
    r"(/__init__\.py|\.py|(\.cpython-[\w-]+|\.abi3)?\.so)"
)
# Top-level folders that packages leave beside their modules; nobody imports them.
_NOT_MODULES = frozenset({"benchmarks", "conftest", "docs", "examples", "setup", "test", "testing", "tests"})


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
    return [name for name in found if name not in _NOT_MODULES]


BASIC = ("imports", "pip-check")
"""The checks of every release, whatever its recipe says."""

_NO_PYTHON = "this view holds no Python, which every check is written in"


def release_target(prefix: Path, release: Release) -> Interpreter:
    """Return a release's Python, started by its ``launch``, with what its checks are told: modules, waivers."""
    modules = modules_of(release.requested, {record.name: record for record in read_conda_records(prefix)})
    told = {"imports": modules, "pip-check": tuple(release.pip_check_waivers)}
    target = view_python(prefix / "launch", claims_gpu=release.cuda is not None, arguments=told)
    return target if release.has_python else replace(target, lacking=_NO_PYTHON)


def first_checks(
    prefix: Path, release: Release, names: Iterable[str], *, progress: Progress = silent
) -> tuple[CheckLine, ...]:
    """Run quick checks of a release that has its ``launch``, and is there or about to be.

    Args:
        prefix: where it lies.
        release: the same as its files name it; where that place is not on this host, no program of it can run.
        names: of the checks.
        progress: told which check runs.
    """
    plan = choose(names, "quick")
    baked = Path(release.prefix)
    target = release_target(prefix, release)
    if target.lacking or (baked.exists() and baked.samefile(prefix)):
        return run_checks(target, plan, progress=progress)
    # What is installed can be read all the same: Python finds its packages beside itself.
    beside = Interpreter((str(prefix / "bin/python"),), {}, arguments=target.arguments)
    readable = [program.name for program in plan.programs if program.name == "pip-check"]
    read = run_checks(beside, choose(readable, "quick"), progress=progress)
    reason = f"its programs run only where it lies as {baked}"
    skipped = (
        CheckLine(name=program.name, status="skip", reason=reason, seconds=0)
        for program in plan.programs
        if program.name != "pip-check"
    )
    return (*skipped, *read)
