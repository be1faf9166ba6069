"""Prove a release: the checks that every release must pass, then those of its recipe."""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING

from mlviews.progress import silent
from mlviews.results.checks import CheckLine
from mlviews.smoke.modules import installed, modules_of
from mlviews.smoke.runner import Target, choose, run_checks, view_python

if TYPE_CHECKING:
    from collections.abc import Iterable

    from mlviews.progress import Progress
    from mlviews.release import Release

__all__ = ["BASIC", "first_checks", "release_target"]

BASIC = ("imports", "pip-check")
"""The checks of every release, whatever its recipe says."""


def release_target(prefix: Path, release: Release) -> Target:
    """Return a release's Python, started by its ``launch``, with the modules that it must be able to import."""
    modules = modules_of(release.requested, installed(prefix))
    return view_python(prefix / "launch", claims_gpu=release.cuda is not None, arguments={"imports": modules})


def first_checks(
    prefix: Path, release: Release, names: Iterable[str], *, progress: Progress = silent
) -> tuple[CheckLine, ...]:
    """Run the quick checks of a release that has its ``launch`` and is about to be recorded.

    Args:
        prefix: where it lies.
        release: the same as its files name it; where that place is not on this host, no program of it can run.
        names: the recipe's checks.
        progress: told which check runs.
    """
    plan = choose((*BASIC, *names), "quick")
    baked = Path(release.prefix)
    if baked.exists() and baked.samefile(prefix):
        return run_checks(release_target(prefix, release), plan, progress=progress)
    # What is installed can be read all the same: Python finds its packages beside itself.
    read = run_checks(Target((str(prefix / "bin/python"),), {}), choose(["pip-check"], "quick"), progress=progress)
    reason = f"its programs run only where it lies as {baked}"
    skipped = (
        CheckLine(name=program.name, status="skip", reason=reason, seconds=0)
        for program in plan.programs
        if program.name != "pip-check"
    )
    return (*skipped, *read)
