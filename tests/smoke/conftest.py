"""What the tests of the checks share: Pythons with frameworks in them, and faults planted from outside."""

from __future__ import annotations

import fcntl
import hashlib
import os
import shutil
import subprocess
import sys
import venv
from dataclasses import dataclass, field
from pathlib import Path
from typing import TYPE_CHECKING

import pytest
from smoke.faults import plant

from mlviews.smoke.process import Limits
from mlviews.smoke.runner import Interpreter, choose, run_checks

if TYPE_CHECKING:
    from collections.abc import Callable

    from mlviews.smoke.programs import Level
    from mlviews.smoke.report import CheckLine

CLASSICAL = (
    *(
        "aiohttp",
        "awkward",
        "fsspec",
        "h5py",
        "iminuit",
        "ipykernel",
        "jupyter-client",
        "lightgbm",
        "matplotlib",
        "mplhep",
        "numpy",
    ),
    *("onnx", "onnxruntime", "pyarrow", "pyhf", "scikit-learn", "uproot", "xgboost-cpu", "zarr"),
)
CUDA = ("cupy-cuda12x", "numba", "numba-cuda[cu12]")  # with NVIDIA's compilers
JAX = ("jax[cpu]",)
NEURAL = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch==2.13.0", "torch-geometric", "triton")
NUMBA = ("numba", "numba-cuda")
ROOT = ("numpy", "ROOT==0.1a12")  # for CPython 3.11, the wheels are in their alpha stage
TENSORFLOW = ("tensorflow-cpu",)


def _python(packages: tuple[str, ...]) -> Path:
    """Return a Python with packages; made once for a list of them, and kept."""
    digest = hashlib.sha256(repr((sys.version, packages)).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlviews-tests" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--only-binary=:all:", *packages]
            made = subprocess.run(command, capture_output=True, text=True, check=False)
            if made.returncode:
                lacking = f"pip cannot install {' '.join(packages)}: {made.stderr[-500:]}"
                (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
            (folder / "done").touch()
    return folder / "bin/python"


@pytest.fixture(scope="session")
def classical() -> Path:
    return _python(CLASSICAL)


@pytest.fixture(scope="session")
def cuda() -> Path:
    return _python(CUDA)


@pytest.fixture(scope="session")
def jax() -> Path:
    return _python(JAX)


@pytest.fixture(scope="session")
def neural() -> Path:
    return _python(NEURAL)


@pytest.fixture(scope="session")
def numba() -> Path:
    return _python(NUMBA)


@pytest.fixture(scope="session")
def root() -> Path:
    return _python(ROOT)


@pytest.fixture(scope="session")
def tensorflow() -> Path:
    return _python(TENSORFLOW)


@dataclass
class Bed:
    """A Python to run checks with, and a folder on its path where faults grow."""

    python: Path
    folder: Path
    environment: dict[str, str] = field(default_factory=dict)
    arguments: dict[str, tuple[str, ...]] = field(default_factory=dict)

    def plant(self, module: str, code: str) -> None:
        """Run ``code`` in whatever Python imports ``module``, right after it; ``module`` is its name there."""
        plant(self.folder, {module: code})

    def run(
        self,
        name: str,
        *,
        claims_gpu: bool = False,
        require_gpu: bool = False,
        limits: Limits | None = None,
        level: Level = "quick",
    ) -> CheckLine:
        environment = {"PATH": "/usr/bin:/bin", "PYTHONPATH": str(self.folder), **self.environment}
        target = Interpreter((str(self.python),), environment, claims_gpu, self.arguments)
        plan = choose([name], level, named=True)
        limits = limits or Limits(seconds=240)
        return run_checks(target, plan, level=level, limits=limits, require_gpu=require_gpu)[0]


@pytest.fixture
def bed(tmp_path: Path, request: pytest.FixtureRequest) -> Callable[[str], Bed]:
    def make(python: str) -> Bed:
        folder = tmp_path / "planted"
        folder.mkdir()
        return Bed(Path(sys.executable) if python == "own" else request.getfixturevalue(python), folder)

    return make


@pytest.fixture(scope="session")
def fake_driver(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a driver's library that offers one GPU, which nobody can compute on."""
    return _driver(
        tmp_path_factory, "int cuInit(unsigned f) { return 0; } int cuDeviceGetCount(int *n) { *n = 1; return 0; }"
    )


@pytest.fixture(scope="session")
def standin(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A folder with a driver's library that knows any address as its GPU's memory; the host's where ON_HOST is set."""
    return _driver(tmp_path_factory, (Path(__file__).parent / "standin/driver.c").read_text())


def _driver(tmp_path_factory: pytest.TempPathFactory, source: str) -> Path:
    # What stands in for CuPy compiles C++.
    if not (shutil.which("gcc") and shutil.which("g++")):
        (pytest.fail if os.environ.get("CI") else pytest.skip)("there is no C and C++ compiler")
    folder = tmp_path_factory.mktemp("driver")
    (folder / "cuda.c").write_text(source)
    subprocess.run(["gcc", "-shared", "-fPIC", "-o", folder / "libcuda.so.1", folder / "cuda.c"], check=True)
    return folder
