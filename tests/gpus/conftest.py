"""Real CUDA libraries and NVIDIA's own tools, out of wheels."""

from __future__ import annotations

import fcntl
import hashlib
import os
import subprocess
import sys
from pathlib import Path

import pytest

# 50 MB in all. Libraries of CUDA 11, 12 and 13; the assembler; what lists fat binaries.
WHEELS = (
    "nvidia-nvjpeg-cu11==11.9.0.86",
    "nvidia-nvjpeg-cu12==12.4.0.76",
    "nvidia-nvjpeg==13.0.1.86",
    "nvidia-cuda-nvcc==13.0.88",
    "nvidia-cuda-cuobjdump==13.4.92",
)


@pytest.fixture(scope="session")
def wheels() -> Path:
    """A folder with the wheels installed side by side; made once, and kept."""
    digest = hashlib.sha256(repr(WHEELS).encode()).hexdigest()[:12]
    folder = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "mlviews-tests" / f"cuda-{digest}"
    folder.parent.mkdir(parents=True, exist_ok=True)
    with folder.with_suffix(".lock").open("w") as lock:
        fcntl.flock(lock, fcntl.LOCK_EX)
        if not (folder / "done").exists():
            command = [sys.executable, "-m", "pip", "install", "-q", "--no-deps", "--only-binary=:all:", "--upgrade"]
            made = subprocess.run([*command, "--target", folder, *WHEELS], capture_output=True, text=True, check=False)
            if made.returncode:
                lacking = f"pip cannot install {' '.join(WHEELS)}: {made.stderr[-500:]}"
                (pytest.fail if os.environ.get("CI") else pytest.skip)(lacking)
            (folder / "done").touch()
    return folder
