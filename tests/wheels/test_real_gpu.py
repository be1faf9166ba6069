"""The GPU views of the catalogue from real wheels: 10 GB in all, of which the views share most."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

VIEWS = ("inference-gpu", "jax-gpu", "training-gpu")


def mlviews(root: Path, *arguments: str) -> tuple[int, Any]:
    command = [sys.executable, "-m", "mlviews", "--site", "pypi", "--root", str(root), "--json", *arguments]
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    return done.returncode, json.loads(done.stdout)


@pytest.mark.slow
def test_gpu_views_are_built_one_after_the_other(tmp_path: Path) -> None:
    for view in VIEWS:
        code, built = mlviews(tmp_path, "build", view)
        assert code == 0, built["errors"]
        assert built["data"]["left-out"] == []
        assert all(built["data"]["served"][gpu] != "none" for gpu in ("V100", "T4", "A100", "L4", "H100", "B200"))
        code, told = mlviews(tmp_path, "gpus", view)
        assert (code, told["data"]["unread"]) == (0, {})
    assert not list((tmp_path / "cache/wheels").rglob("*.whl"))  # a wheel goes once its archive is made

    _, built = mlviews(tmp_path, "build", "inference-gpu")  # it is there
    prefix = built["data"]["folder"]
    load = (
        "import ctypes, onnxruntime, pathlib\n"
        "for part in ('shared', 'cuda'):\n"
        "    ctypes.CDLL(str(pathlib.Path(onnxruntime.__file__).parent / f'capi/libonnxruntime_providers_{part}.so'))\n"
    )
    subprocess.run([f"{prefix}/bin/python", "-c", load], check=True)  # cuBLAS and cuDNN are found without PyTorch
