"""A folder with a Python project, as a wheel that leads there: what changes in the folder changes for who imports it.

The project builds that wheel itself (PEP 660). It is its user's own code, on the user's own machine: it may do what it
does under ``pip install --editable``, and nothing shuts it in.
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path
from typing import Any

from packaging.requirements import Requirement
from packaging.utils import parse_wheel_filename

from mlviews.errors import BadInputError, FailedError
from mlviews.files.permissions import keep
from mlviews.files.writing import file_sha256, make_folder
from mlviews.progress import Progress, silent
from mlviews.wheels.convert import Offer
from mlviews.wheels.made import pure_wheel
from mlviews.wheels.pip import install, resolve
from mlviews.wheels.sdist import Sources, read_sources
from mlviews.wheels.wheel import open_wheel

_LINES = 15
# Calls one hook of the backend, or says that it has none: PEP 517 lets it leave out those that ask.
_CALL = """
import importlib, json, sys
answer, backend, hook, paths, arguments = sys.argv[1:]
sys.path[:0] = json.loads(paths)
name, _, attribute = backend.partition(":")
found = importlib.import_module(name)
for part in attribute.split(".") if attribute else ():
    found = getattr(found, part)
if not hasattr(found, hook) and hook == "build_editable":
    sys.exit(f"{backend} cannot build editable wheels (PEP 660)")
sys.argv = ["setup.py"]
result = getattr(found, hook, lambda *a: [])(*json.loads(arguments))
open(answer, "w").write(json.dumps(result))
"""


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
    home = cache / "made"
    make_folder(home)
    with progress(f"Preparing {folder.name}") as advance, tempfile.TemporaryDirectory(dir=home, prefix=".new-") as name:
        scratch = Path(name)
        try:
            sources = read_sources(folder)
        except (ValueError, TypeError, AttributeError) as error:
            raise BadInputError("not-a-project", f"{folder}/pyproject.toml: {error}", "Correct that file.") from error
        install(resolve(sources.requires, (), advance), scratch / "tools", advance)
        more = _call(sources, scratch, "get_requires_for_build_editable")
        install(resolve([Requirement(line) for line in more], (), advance), scratch / "more", advance)
        (scratch / "wheel").mkdir()
        wheel = scratch / "wheel" / str(_call(sources, scratch, "build_editable", str(scratch / "wheel")))
        return _kept(wheel, home, folder)


def _call(sources: Sources, scratch: Path, hook: str, *arguments: str) -> Any:
    answer = scratch / "answer.json"
    paths = [*map(str, sources.paths), str(scratch / "tools"), str(scratch / "more")]
    command = [str(answer), sources.backend, hook, json.dumps(paths), json.dumps(arguments)]
    done = subprocess.run(
        [sys.executable, "-S", "-c", _CALL, *command],
        cwd=sources.folder,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(paths), "SOURCE_DATE_EPOCH": "315532800"},
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        errors="replace",
        check=False,
    )
    if done.returncode:
        words = "\n".join(done.stdout.splitlines()[-_LINES:])
        raise FailedError(
            "editable-failed",
            f"{sources.folder} cannot be prepared:\n{words}",
            f"`pip install --editable {sources.folder}`, in an environment of its own, says more.",
        )
    return json.loads(answer.read_text(encoding="utf-8"))


def _kept(wheel: Path, home: Path, folder: Path) -> Offer:
    try:
        pure_wheel(wheel.name)
    except ValueError as error:
        raise FailedError(
            "editable-not-pure",
            f"{folder} cannot be added as it lies: {error}",
            "Make a wheel of compiled code: `pypi:` takes it from an index or PIP_FIND_LINKS.",
        ) from error
    sha256 = file_sha256(wheel)
    with open_wheel(wheel, sha256) as opened:
        said = opened.said
    path = home / sha256 / wheel.name
    keep(wheel, path)
    return Offer(url=path.as_uri(), sha256=sha256, said=said, tags=parse_wheel_filename(path.name)[3])
