"""Which wheels are built for CUDA, and how their libraries find NVIDIA's, which come in wheels of their own.

A wheel says it in its name (``nvidia-cublas-cu12``, ``cupy-cuda12x``) or, if it holds binaries, by what it asks for,
be it in an extra. NVIDIA's own of CUDA 13 have names without a number. Its package is then a CUDA build as conda-forge
has them, for the major version: within one, NVIDIA promises that binaries of an older toolkit run with the libraries of
a newer one.
"""

from __future__ import annotations

import re
from typing import TYPE_CHECKING

from packaging.utils import canonicalize_name

from mlviews.wheels.elf import has_runpath, libraries_needed, set_runpath

if TYPE_CHECKING:
    from collections.abc import Iterable
    from pathlib import Path

    from packaging.requirements import Requirement

    from mlviews.wheels.wheel import StatedWheel

_NAMED = re.compile(r"(?:nvidia-.+-cu|(?:.+-)?cuda)(\d\d)x?(?:-.+)?")
# NVIDIA's projects that are for whichever CUDA their version says.
_VERSIONED = frozenset({"cuda-bindings", "cuda-toolkit"})
# Those of CUDA 13, as `cuda-toolkit` 13.0.2 asks for them; for CUDA 12 each has another name.
_OF_13 = frozenset(
    f"nvidia-{name}"
    for name in (
        *("cublas", "cuda-cccl", "cuda-crt", "cuda-cupti", "cuda-nvcc", "cuda-nvrtc", "cuda-runtime", "cufft"),
        *("cufile", "curand", "cusolver", "cusparse", "nvfatbin", "nvjitlink", "nvptxcompiler", "nvtx", "nvvm"),
    )
)
_DRIVER_ONLY = "nvidia-ml-py"  # asks the driver, if there is one

# Library's name up to `.so`: the folder below site-packages/nvidia that its wheel for CUDA 12 puts it into.
_FOLDERS = {
    "libcublas": "cublas",
    "libcublasLt": "cublas",
    "libcudart": "cuda_runtime",
    "libcudnn": "cudnn",
    "libcufft": "cufft",
    "libcupti": "cuda_cupti",
    "libcurand": "curand",
    "libcusolver": "cusolver",
    "libcusparse": "cusparse",
    "libnccl": "nccl",
    "libnvJitLink": "nvjitlink",
    "libnvrtc": "cuda_nvrtc",
    "libnvshmem_host": "nvshmem",
}
_FOLDER_OF_13 = "cu13"  # those of CUDA 13 share one, but for cuDNN, NCCL and NVSHMEM


def cuda_of(wheel: StatedWheel) -> str:
    """Return the major version of the CUDA that a wheel is built for, such as ``12``; empty for none."""
    if match := _NAMED.fullmatch(wheel.name):
        return match[1]
    if wheel.name in _OF_13:
        return "13"
    if any(tag.platform == "any" for tag in wheel.tags):
        return ""
    asked = {version for line in wheel.said.requires if (version := _cuda_asked(line))}
    return asked.pop() if len(asked) == 1 else ""  # one that takes several is built for none of them


def asks_for_cuda(name: str, requires: Iterable[Requirement]) -> bool:
    """Tell whether a project is one of CUDA's, or asks for one, be it in an extra; such wheels are large."""
    return is_cuda_project(name) or any(is_cuda_project(line.name) for line in requires)


def is_cuda_project(name: str) -> bool:
    """Tell whether a project of this name brings parts of CUDA."""
    normalized = canonicalize_name(name)
    return normalized != _DRIVER_ONLY and re.match(r"nvidia-|cuda-|cupy-|.+-cuda\d\d", normalized) is not None


def cuda_depends(cuda: str) -> Iterable[str]:
    """Return what conda-forge ties a build for this major version of CUDA to."""
    return ("__cuda", f"cuda-version >={cuda},<{int(cuda) + 1}") if cuda else ()


def finds_cuda_itself(wheel: StatedWheel) -> bool:
    """Tell whether a wheel asks for NVIDIA's wheels in any case, or is one: its makers then let it find them."""
    return wheel.name.startswith("nvidia-") or any(
        is_cuda_project(line.name) and "extra" not in str(line.marker or "") for line in wheel.said.requires
    )


def add_runpath(library: Path, to_site: str) -> None:
    """Let a library find NVIDIA's in the prefix, if it needs them and does not say where they are.

    Otherwise the loader looks in the system's folders, and ONNX Runtime falls back on the CPU.

    Args:
        to_site: path of site-packages from the folder that the library will lie in.

    Raises:
        ValueError: it cannot be changed.
    """
    names = [name.partition(".so")[0] for name in libraries_needed(library)]
    folders = dict.fromkeys(_FOLDERS[name] for name in names if name in _FOLDERS)
    if folders and not has_runpath(library):
        places = (f"$ORIGIN/{to_site}/nvidia/{folder}/lib" for folder in (*folders, _FOLDER_OF_13))
        set_runpath([library], ":".join(places))


def _cuda_asked(line: Requirement) -> str:
    name = canonicalize_name(line.name)
    if name in _VERSIONED:
        return next((clause.version.partition(".")[0] for clause in line.specifier if clause.operator == "=="), "")
    match = _NAMED.fullmatch(name)
    return match[1] if match else "13" if name in _OF_13 else ""
