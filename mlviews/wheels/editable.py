"""A folder with a Python project, as a wheel that leads there: what changes in the folder changes for who imports it.

The project builds that wheel itself (PEP 660). It is its user's own code, on the user's own machine: it may do what it
does under ``pip install --editable``, and nothing shuts it in.
"""

from __future__ import annotations

import os
import subprocess
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename
from pyproject_hooks import BackendUnavailable, BuildBackendHookCaller, HookMissing

from mlviews.errors import BadInputError, FailedError
from mlviews.files.writing import file_sha256
from mlviews.progress import Progress, silent
from mlviews.wheels.convert import Offer
from mlviews.wheels.made import keep_made, making, pure_wheel
from mlviews.wheels.pip import install, resolve
from mlviews.wheels.sdist import DATE, last_lines, read_sources
from mlviews.wheels.wheel import open_wheel


def editable_offer(folder: Path, cache: Path, *, progress: Progress = silent) -> Offer:
    """Return the wheel that leads to a project's folder; it is kept by its sha256.

    Args:
        folder: where ``pyproject.toml`` or ``setup.py`` is.
        cache: the folder whose ``made`` keeps it.

    Raises:
        BadInputError: the folder holds no project.
        FailedError: its build fails, or gives a wheel for one platform; ``network``.
    """
    if not any((folder / name).is_file() for name in ("pyproject.toml", "setup.py")):
        raise BadInputError(
            "not-a-project", f"{folder} holds neither pyproject.toml nor setup.py", "Name the folder of a project."
        )
    with progress(f"Preparing {folder.name}") as advance, making(cache) as scratch:
        try:
            sources = read_sources(folder)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInputError("not-a-project", f"{folder}/pyproject.toml: {error}", "Correct that file.") from error
        install(resolve(sources.requires, (), advance), scratch / "tools", advance)
        hooks = BuildBackendHookCaller(str(folder), sources.backend, sources.paths, runner=partial(_run, scratch))
        try:
            more = hooks.get_requires_for_build_editable()
            install(resolve([Requirement(line) for line in more], (), advance), scratch / "more", advance)
            (scratch / "wheel").mkdir()
            wheel = hooks.build_editable(str(scratch / "wheel"))
        except HookMissing as error:
            raise _failed(folder, f"{sources.backend} cannot build editable wheels (PEP 660)") from error
        except BackendUnavailable as error:
            raise _failed(folder, error.traceback) from error
        return _kept(scratch / "wheel" / wheel, cache, folder)


def _run(
    scratch: Path, command: Sequence[str], cwd: str | None = None, extra_environ: Mapping[str, str] | None = None
) -> None:
    """Run a hook of the backend: what it requires is there, and nothing of mlviews' own Python."""
    program, *arguments = command
    tools = os.pathsep.join([str(scratch / "tools"), str(scratch / "more")])
    done = subprocess.run(
        [program, "-S", *arguments],
        cwd=cwd,
        env={**os.environ, "PYTHONPATH": tools, "SOURCE_DATE_EPOCH": DATE, **(extra_environ or {})},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        raise _failed(cwd, done.stdout)


def _failed(folder: Path | str | None, words: str) -> FailedError:
    return FailedError(
        "editable-failed",
        f"{folder} cannot be prepared:\n{last_lines(words)}",
        f"`pip install --editable {folder}`, in an environment of its own, says more.",
    )


def _kept(wheel: Path, cache: Path, folder: Path) -> Offer:
    try:
        pure_wheel(wheel.name)
    except ValueError as error:
        raise FailedError(
            "editable-not-pure",
            f"{folder} cannot be added as it lies: {error}",
            "Compiled code goes on top as a wheel, which auditwheel has named: docs/extend.md tells how.",
        ) from error
    sha256 = file_sha256(wheel)
    with open_wheel(wheel, sha256) as opened:
        said = opened.said
    path = keep_made(wheel, sha256, cache)
    return Offer(url=path.as_uri(), sha256=sha256, said=said, tags=parse_wheel_filename(path.name)[3])
