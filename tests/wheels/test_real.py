"""Real wheels of a real index, all the way to programs that run."""

from __future__ import annotations

import os
import subprocess
import sys
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.errors import FailedError
from mlviews.lock.lockfile import read_lock
from mlviews.wheels.channel import make_channel

if TYPE_CHECKING:
    from pathlib import Path


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
