"""Pythons with the frameworks that checks and jobs are tried with; made once, and kept in the user's cache."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
import venv
from pathlib import Path

import pytest

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
LIGHTNING = (
    *("fsspec", "lightning==2.6.6", "lightning-utilities", "packaging", "pytorch-lightning==2.6.6", "pyyaml"),
    *("torchmetrics", "tqdm", "typing-extensions"),
)
NEURAL = ("numpy", "onnx", "onnxruntime", "onnxscript", "torch==2.13.0", "torch-geometric", "triton")
NUMBA = ("numba", "numba-cuda", "numpy<2.5", "nvidia-cuda-runtime")  # numba.cuda imports with that library alone
ROOT = ("numpy", "ROOT==0.1a12")  # for CPython 3.11, the wheels are in their alpha stage
# What salt pins would bring CUDA: these do as well.
SALT = (
    *(
        "torch==2.13.0",
        "lightning==2.6.1",
        "torchmetrics==1.8.2",
        "onnx==1.21.0",
        "onnxruntime",
        "onnxscript",
        "numpy<2.4",
    ),
    *(
        "comet-ml",
        "h5py",
        "hdf5plugin",
        "jsonargparse[argcomplete,signatures]",
        "lion-pytorch",
        "pandas",
        "rich",
        "scipy",
        "pyyaml",
    ),
)
SALT_ALONE = ("salt-ml==0.13.0", "puma-hep==0.5.3", "umami-preprocessing==0.3.1", "atlas-ftag-tools==0.3.3")
TENSORFLOW = ("tensorflow-cpu",)


def _python(packages: tuple[str, ...], alone: tuple[str, ...] = ()) -> Path:
    """Return a Python with packages, and some without what they need; made once for a list of them, and kept."""
    asked = (sys.version, packages, alone) if alone else (sys.version, packages)
    digest = hashlib.sha256(repr(asked).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlviews-tests" / digest
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            venv.create(folder, with_pip=True, clear=True)
            command = [str(folder / "bin/python"), "-m", "pip", "install", "-q", "--only-binary=:all:"]
            for wanted in [packages, *([("--no-deps", *alone)] if alone else [])]:
                made = subprocess.run([*command, *wanted], capture_output=True, text=True, check=False)
                if made.returncode:
                    lacking = f"pip cannot install {' '.join(wanted)}: {made.stderr[-500:]}"
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
def lightning(neural: Path) -> str:
    """The command of a Python with PyTorch and Lightning, which lies in a folder beside."""
    folder = neural.parents[1].with_name(f"lightning-{neural.parents[1].name}")
    if not (folder / "done").exists():
        command = [str(neural), "-m", "pip", "install", "-q", "--no-deps", "--upgrade", "--target", str(folder)]
        made = subprocess.run([*command, *LIGHTNING], capture_output=True, text=True, check=False)
        if made.returncode:
            (pytest.fail if os.environ.get("CI") else pytest.skip)(
                f"pip cannot install Lightning: {made.stderr[-500:]}"
            )
        (folder / "done").touch()
    return f"env PYTHONPATH={folder} {neural}"


@pytest.fixture(scope="session")
def numba() -> Path:
    return _python(NUMBA)


@pytest.fixture(scope="session")
def root() -> Path:
    return _python(ROOT)


@pytest.fixture(scope="session")
def salt() -> Path:
    return _python(SALT, SALT_ALONE)


@pytest.fixture(scope="session")
def tensorflow() -> Path:
    return _python(TENSORFLOW)
