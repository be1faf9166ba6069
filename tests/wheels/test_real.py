"""Real wheels of a real index, all the way to programs that run."""

from __future__ import annotations

import os
import shutil
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from mlviews.errors import FailedError
from mlviews.lock.parse import read_lock
from mlviews.wheels.channel import make_channel


def test_real_wheels_run(tmp_path: Path, install_from: Any, call: Any) -> None:
    specs = ["numpy >=2", "tqdm", "typing_extensions"]
    try:
        made = make_channel(specs, pins={}, cache=tmp_path / "cache")
    except FailedError as error:
        if error.code == "network" and not os.environ.get("CI"):
            pytest.skip("no package index can be reached")
        raise
    prefix = install_from(made, specs, tmp_path)
    code = "import numpy, tqdm, typing_extensions; print(numpy.__file__, numpy.linalg.inv(numpy.eye(3)).sum())"
    assert call(prefix / "bin/python", "-c", code).split() == [numpy_file(prefix), "3.0"]
    assert call(prefix / "bin/f2py", "-v")[0] == "2"
    assert call(prefix / "bin/tqdm", "--version")
    check = [sys.executable, "-m", "pip", "--python", str(prefix), "check"]
    assert subprocess.run(check, capture_output=True, check=False).returncode == 0


def python_of(minor: int) -> str | None:
    """Return a CPython 3.MINOR of this machine that can make virtual environments."""
    pyenv = Path(os.environ.get("PYENV_ROOT", Path.home() / ".pyenv"))
    found = [shutil.which(f"python3.{minor}"), *map(str, sorted(pyenv.glob(f"versions/3.{minor}.*/bin/python3")))]
    works = ["-c", f"import ensurepip, sys, venv; sys.exit(sys.version_info[:2] != (3, {minor}))"]
    return next((one for one in found if one and not subprocess.run([one, *works], check=False).returncode), None)


@pytest.mark.slow
@pytest.mark.parametrize("minor", range(10, 15))
def test_the_first_command_of_the_readme_works_with_each_python(minor: int, repository: Path, tmp_path: Path) -> None:
    """What a newer Python forgives, an older one may not: 3.10 evaluates no bare ``ClassVar``."""
    python = python_of(minor)
    if python is None:
        pytest.skip(f"this machine has no CPython 3.{minor} with venv")
    tracked = subprocess.check_output(["git", "ls-files", "-z"], cwd=repository, text=True).split("\0")
    for name in filter(None, tracked):
        (tmp_path / name).parent.mkdir(parents=True, exist_ok=True)
        shutil.copy(repository / name, tmp_path / name)
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/python3").symlink_to(python)
    kept = {name: value for name, value in os.environ.items() if not name.startswith(("MLVIEWS_", "PYTHON", "PYENV_"))}
    environment = kept | {"HOME": str(tmp_path / "home"), "PATH": f"{tmp_path}/bin:{os.environ['PATH']}"}
    command = (tmp_path / "README.md").read_text().partition("<!-- try -->\n```sh\n")[2].partition("\n```")[0]
    subprocess.run(["bash", "-ec", command], cwd=tmp_path, env=environment, check=True)
    run = [".venv/bin/mlviews", "run", "plotting", "--site", "pypi", "--", "python", "-c"]
    code = "import mplhep, sys; print(sys.version_info[1])"
    assert subprocess.check_output([*run, code], cwd=tmp_path, env=environment, text=True) == f"{minor}\n"


@pytest.mark.slow
def test_salt_locks_beside_a_channel(cli: Any, slice_folder: Path, repository: Path, tmp_path: Path) -> None:
    """PyTorch for CUDA, Lightning and ONNX as salt pins them, of the channel; a project without a wheel is built."""
    recipes, mirror = ("--recipes", repository / "recipes"), ("--mirror", f"conda-forge={slice_folder}")
    done = cli("lock", "salt", *recipes, *mirror)
    assert done.code == 0, done.err
    found = {package.name: package for package in read_lock(cli.lock("salt")).packages}
    assert (found["pytorch"].manager, found["pytorch"].version) == ("conda", "2.12.0")
    assert (found["lightning"].version, found["salt-ml"].manager) == ("2.6.1", "pip")
    assert found["atlasify"].made


def numpy_file(prefix: Path) -> str:
    return str(next(prefix.glob("lib/python3.*/site-packages/numpy/__init__.py")))
