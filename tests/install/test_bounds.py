"""The lower bounds in pyproject.toml are true: mlviews works with the oldest libraries that it allows."""

from __future__ import annotations

import re
import subprocess
import sys
import venv
from pathlib import Path

import pytest
from packaging.requirements import Requirement

if sys.version_info >= (3, 11):
    import tomllib
else:
    import tomli as tomllib


def oldest(text: str) -> str | None:
    """Return a requirement of the oldest version that this one allows; None if this Python does not need it."""
    wanted = Requirement(text)
    if wanted.marker and not wanted.marker.evaluate():
        return None
    (version,) = (part.version for part in wanted.specifier if part.operator == ">=")
    return f"{wanted.name}=={version}"


@pytest.fixture
def python(repository: Path, tmp_path: Path) -> Path:
    """A Python with mlviews and those libraries; behind them it has what the tests' own Python has."""
    stated = tomllib.loads((repository / "pyproject.toml").read_text())["project"]["dependencies"]
    wanted = [*filter(None, map(oldest, stated))]
    venv.create(tmp_path / "oldest", symlinks=True)
    python = tmp_path / "oldest/bin/python"
    while True:
        command = [sys.executable, "-m", "pip", "--python", python, "install", "-q", "--only-binary=:all:", *wanted]
        made = subprocess.run(command, capture_output=True, text=True, check=False)
        if not made.returncode:
            break
        # The newest Python has no wheels of some: it then has what the tests' own Python has.
        lacking = re.search(r"No matching distribution found for (\S+)", made.stderr)
        assert lacking, made.stderr
        wanted.remove(lacking[1])
    (folder,) = (tmp_path / "oldest/lib").glob("python*/site-packages")
    behind = Path(pytest.__file__).parents[1]
    (folder / "behind.pth").write_text(f"import site; site.addsitedir({str(behind)!r})\n")
    return python


def test_mlviews_works_with_the_oldest_libraries(python: Path, repository: Path, tmp_path: Path) -> None:
    tests = ["tests/test_recipe.py", "tests/test_site.py", "tests/test_cli.py"]
    options = ["-q", "-p", "no:cacheprovider", "-n", "0"]
    chosen = ["-k", "test_recipe or test_site or completion or mistyped"]
    command = [python, "-m", "pytest", *options, f"--basetemp={tmp_path / 'tests'}", *tests, *chosen]

    done = subprocess.run(command, cwd=repository, capture_output=True, text=True, check=False)

    assert done.returncode == 0, done.stdout[-5000:]
