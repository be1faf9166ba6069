"""What is known of packages before they are installed: which GPUs upstream builds them for, and where that ends.

A row says what its source says, for the versions that the source is of. Of any other package nothing is known.
"""

from __future__ import annotations

import re
from dataclasses import dataclass
from fnmatch import fnmatchcase
from typing import TYPE_CHECKING, Literal

from mlviews.gpus.coverage import Cover, Way, oldest_driver, runs, worst
from mlviews.gpus.fatbin import Code
from mlviews.gpus.nvidia import GPUS, Gpu

if TYPE_CHECKING:
    from collections.abc import Iterable, Mapping, Sequence

    from mlviews.lock.lockfile import LockedPackage
    from mlviews.release import Release
    from mlviews.variants import VariantChoice

TABLED: tuple[Gpu, ...] = tuple(
    GPUS[name]
    for name in (
        "GTX 1080 Ti", "V100", "T4", "RTX 2080 Ti", "A100", "L4", "L40S", "H100", "H200", "GH200", "B200",
    )
)  # fmt: skip
"""The GPUs of the table, by their compute capability. A MIG slice is served as its GPU is."""


@dataclass(frozen=True, slots=True)
class _Build:
    """Builds of packages that hold code for the same GPUs.

    Attributes:
        names: of conda packages.
        versions: those that the source is of.
        cuda: the CUDA that they are for.
        targets: what they hold code for.
        source: what says so.
        compiler: the CUDA that wrote its PTX, where that is another.
    """

    names: tuple[str, ...]
    versions: tuple[str, ...]
    cuda: str
    targets: str
    source: str
    compiler: str = ""


_WHEEL = "`mlviews gpus` on NVIDIA's wheel of this version"
_TORCH = ("2.11.0", "2.12.0", "2.12.1", "2.13.0")
_ONNX = ("1.24.2", "1.24.4", "1.25.1", "1.26.0")
_FROM_60 = "sm_60 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_120"

_BUILDS = (
    *(
        _Build(
            ("libtorch", "pytorch"), _TORCH, cuda, targets,
            "conda-forge/pytorch-cpu-feedstock, recipe/build.sh, at the commits that set these versions",
        )
        for cuda, targets in (
            ("12.8", "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"),
            ("12.9", "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_120 compute_120"),
            ("13.0", "sm_75 sm_80 sm_86 sm_90 sm_100 sm_110 sm_120 compute_120"),
        )
    ),
    *(
        _Build(
            ("onnxruntime",), _ONNX, cuda, targets,
            "conda-forge/onnxruntime-feedstock, recipe/build.sh, at the commits that set these versions",
        )
        for cuda, targets in (
            ("12.9", "sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_120"),
            ("13.0", "sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_120"),
        )
    ),
    _Build(
        ("libtensorflow_cc", "libtensorflow_framework", "tensorflow-base"), ("2.19.1",), "12.8", _FROM_60,
        "conda-forge/tensorflow-feedstock 2cc3b129, recipe/build_common.sh",
    ),
    *(
        _Build(
            ("cupy",), ("14.1.1",), cuda, targets,
            "cupy v14.1.1, install/cupy_builder/_compiler.py, as conda-forge/cupy-feedstock 0d4a99c takes it; "
            "`mlviews gpus` on the project's wheel for CUDA 12 of this version",
        )
        for cuda, targets in (
            (
                "12.9",
                "sm_50 sm_52 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_100",
            ),
            ("13.2", "sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_120"),
        )
    ),
    _Build(
        ("libxgboost",), ("3.2.0",), "12.9",
        "sm_50 sm_52 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90a sm_100f sm_103f sm_120a sm_121f compute_121",
        "conda-forge/xgboost-feedstock 8cca4090, recipe/build.sh, and xgboost v3.2.0, CMakeLists.txt, leave it to "
        "conda-forge/cuda-nvcc-feedstock 70f25f34, recipe/conda_build_config.yaml, DEFAULT_CUDAARCHS",
    ),
    _Build(
        ("nccl",), ("2.30.7.1",), "12.9", "sm_60 sm_61 sm_70 sm_80 sm_90 sm_100 sm_120 compute_120",
        "`mlviews gpus` on NVIDIA's wheel of 2.30.7; conda-forge/nccl-feedstock builds for what NCCL's Makefile names",
    ),
    _Build(
        ("libcublas",), ("12.9.2.10",), "12.9",
        "sm_50 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_103 sm_120 sm_121 compute_120", _WHEEL,
    ),
    _Build(
        ("libcudnn",), ("9.10.2.21",), "12.9",
        "sm_50 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 sm_90 sm_100 sm_103 sm_120 sm_121 compute_120", _WHEEL,
    ),
    _Build(
        ("libcudss",), ("0.8.0.10",), "12.9", "sm_50 sm_60 sm_70 sm_80 sm_90 sm_100 sm_120 compute_120", _WHEEL
    ),
    _Build(
        ("libcufile",), ("1.14.1.1",), "12.9", "sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 compute_80", _WHEEL, "11.1"
    ),
    _Build(
        ("libcufft",), ("11.4.1.4",), "12.9",
        "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_120 compute_90", _WHEEL,
    ),
    _Build(
        ("libcurand",), ("10.3.10.19",), "12.9",
        "sm_50 sm_60 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_103 sm_120 sm_121 compute_121", _WHEEL,
    ),
    _Build(
        ("libcusolver",), ("11.7.5.82",), "12.9",
        "sm_50 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_103 sm_120 compute_120", _WHEEL,
    ),
    _Build(
        ("libcusparse",), ("12.5.10.65",), "12.9",
        "sm_50 sm_60 sm_61 sm_70 sm_75 sm_80 sm_86 sm_89 sm_90 sm_100 sm_103 sm_120 sm_121 compute_121", _WHEEL,
    ),
)  # fmt: skip

# Packages of which nothing is loaded onto a GPU, by name.
_WITHOUT_CODE = (
    # NVIDIA's wheels of CUDA 12.9 and Triton's of 3.7 hold none, as `mlviews gpus` says of them.
    *("cuda-cudart", "cuda-cudart_linux-*", "cuda-nvrtc", "cuda-cupti", "cuda-nvtx", "libnvjitlink", "triton"),
    # Compilers, headers and static archives: "CUDA Toolkit Major Components", docs.nvidia.com/cuda/
    # cuda-toolkit-release-notes.
    *("cuda-cccl*", "cuda-crt-*", "cuda-cudart-dev*", "cuda-cudart-static*", "cuda-cuobjdump", "cuda-cupti-dev"),
    *("cuda-nvcc-*", "cuda-nvdisasm", "cuda-nvvm-*", "libcu*-dev", "libnvptxcompiler-dev*"),
    # Names for other packages, as conda-forge's recipes of them say.
    *("cuda-version", "cudnn", "pytorch-gpu", "tensorflow", "xgboost"),
    # Python that loads libxgboost's library: conda-forge/xgboost-feedstock 8cca4090, recipe/install-py-xgboost.sh.
    "py-xgboost",
    # Python and Cython over the driver: nvidia.github.io/cuda-python, nvidia.github.io/numba-cuda.
    *("cuda-bindings", "cuda-core", "cuda-pathfinder", "numba-cuda"),
)


@dataclass(frozen=True, slots=True)
class Ending:
    """From where on a GPU is no longer served.

    Attributes:
        gpus: what it ends for.
        software: whose builds.
        ends: the first version without them.
        date: the source's, as YYYY-MM-DD.
        planned: whether it is proposed or announced, and not done.
    """

    gpus: Sequence[str]
    software: str
    ends: str
    date: str
    source: str
    planned: bool = False


ENDINGS = (
    Ending(
        ("GTX 1080 Ti", "V100"), "CUDA", "13.0", "2025-08-07",
        "https://docs.nvidia.com/cuda/archive/13.0.0/pdf/CUDA_Toolkit_Release_Notes.pdf",
    ),
    Ending(
        ("GTX 1080 Ti", "V100"), "conda-forge's cuDNN for CUDA 12", "9.11", "2025-11-05",
        "https://github.com/conda-forge/admin-requests/pull/1742",
    ),
    Ending(
        ("GTX 1080 Ti", "V100"), "conda-forge's PyTorch", "all for CUDA 13.0", "2025-11-25",
        "https://github.com/conda-forge/pytorch-cpu-feedstock/commit/5c1be2d5b1159524cbbb28c95e5cc2253c8791b8",
    ),
    Ending(
        ("GTX 1080 Ti",), "PyTorch's wheels for CUDA 12.8", "2.8", "2025-07-03",
        "https://github.com/pytorch/pytorch/issues/157517",
    ),
    Ending(
        ("V100",), "PyTorch's wheels for CUDA 12.8", "2.11", "2026-01-13",
        "https://github.com/pytorch/pytorch/issues/172352",
    ),
    Ending(
        ("GTX 1080 Ti", "V100"), "PyTorch's wheels for CUDA 12.6", "2.15", "2026-07-17",
        "https://github.com/pytorch/pytorch/issues/190385", planned=True,
    ),
    Ending(
        ("GTX 1080 Ti",), "conda-forge's ONNX Runtime", "1.24.2", "2026-02-09",
        "https://github.com/conda-forge/onnxruntime-feedstock/commit/289015ff77795cf2df2cdb38a42b7e39ecb129a6",
    ),
    Ending(
        ("V100",), "conda-forge's ONNX Runtime", "all for CUDA 13.0", "2026-02-09",
        "https://github.com/conda-forge/onnxruntime-feedstock/commit/289015ff77795cf2df2cdb38a42b7e39ecb129a6",
    ),
    Ending(
        ("V100",), "ONNX Runtime's packages for CUDA 12", "a version after 1.27", "2026-06-19",
        "https://github.com/microsoft/onnxruntime/releases/tag/v1.27.0", planned=True,
    ),
)  # fmt: skip
"""Ends of which a source is known. Of newer GPUs none is."""


@dataclass(frozen=True, slots=True)
class ViewGpu:
    """How a view serves a GPU.

    Attributes:
        compute: compute capability, 70 for 7.0.
        way: machine code that it runs, PTX that its driver compiles, nothing, or not known; of a lock, by those of its
            packages that are known.
        driver: the oldest driver that will do, null where it is not known; of a release, one that will do by its CUDA.
        limits: packages that are why the way is no better: they hold nothing for it, or PTX alone; a release does not
            name them.
    """

    gpu: str
    compute: int
    way: Literal["native", "ptx", "none", "unknown"]
    driver: str | None
    limits: Sequence[str]


@dataclass(frozen=True, slots=True)
class ViewGpus:
    """What a view does for each GPU.

    Attributes:
        source: `release` where the binaries were read, `lock` where its packages are known by name, version and build,
            `none` where there is neither.
        unknown: CUDA packages of the lock of which nothing is known.
    """

    view: str
    source: Literal["release", "lock", "none"]
    release: str | None
    gpus: Sequence[ViewGpu]
    unknown: Sequence[str]


@dataclass(frozen=True, slots=True)
class GpusAllResult:
    """``mlviews gpus --all``.

    Attributes:
        views: those for GPUs.
        cpu: views without CUDA.
        endings: from which version on a GPU is no longer served.
        variants: of views that have some, the one that this host takes.
    """

    views: Sequence[ViewGpus]
    cpu: Sequence[str]
    endings: Sequence[Ending]
    variants: Sequence[VariantChoice]


def view_of_release(release: Release) -> ViewGpus:
    """Tell what a release states of its binaries; of GPUs with the same compute capability one answer holds for all."""
    stated = {GPUS[name].compute: way for name, way in release.served.items() if name in GPUS}
    gpus = []
    for gpu in TABLED:
        way = stated.get(gpu.compute)
        driver = oldest_driver(way, release.cuda, gpu) if way and release.cuda else None
        gpus.append(ViewGpu(gpu=gpu.name, compute=gpu.compute, way=way or "unknown", driver=driver, limits=()))
    return ViewGpus(view=release.view, source="release", release=release.release, gpus=gpus, unknown=())


def view_of_lock(view: str, packages: Iterable[LockedPackage], excused: Sequence[str] = ()) -> ViewGpus:
    """Tell what the packages of a lock are known to do for GPUs, on one platform.

    Args:
        excused: packages that may lack a GPU; ``*`` stands for any letters.
    """
    known: dict[str, _Build] = {}
    unknown = []
    for package in packages:
        if not _is_cuda(package) or _matches(package.name, _WITHOUT_CODE):
            continue
        label = f"{package.name} {package.version}"
        if build := _known(package):
            known[label] = build
        else:
            unknown.append(label)
    gpus = [_together(gpu, known, excused) for gpu in TABLED]
    return ViewGpus(view=view, source="lock", release=None, gpus=gpus, unknown=unknown)


def _together(gpu: Gpu, known: Mapping[str, _Build], excused: Sequence[str]) -> ViewGpu:
    covers = {label: _cover(build, gpu) for label, build in known.items()}
    covers = {label: cover for label, cover in covers.items() if cover.way != "none" or not _matches(label, excused)}
    total = worst(covers.values())
    return ViewGpu(
        gpu=gpu.name,
        compute=gpu.compute,
        way=total.way if known else "unknown",
        driver=total.driver,
        limits=[label for label, cover in covers.items() if cover.way == total.way != "native"],
    )


def _matches(label: str, patterns: Sequence[str]) -> bool:
    return any(fnmatchcase(label.partition(" ")[0], pattern) for pattern in patterns)


def _cover(build: _Build, gpu: Gpu) -> Cover:
    kinds = {code.kind for code in map(_code, build.targets.split()) if runs(code, gpu.compute)}
    way: Way = "native" if "machine" in kinds else "ptx" if kinds else "none"
    return Cover(way, oldest_driver(way, build.compiler or build.cuda, gpu))


def _code(target: str) -> Code:
    kind, _, compute = target.partition("_")
    suffix: Literal["", "a", "f"] = "a" if compute.endswith("a") else "f" if compute.endswith("f") else ""
    return Code("machine" if kind == "sm" else "ptx", int(compute.rstrip("af")), suffix, (0, 0))


def _is_cuda(package: LockedPackage) -> bool:
    return bool(package.dependencies.keys() & {"cuda-version", "__cuda"}) or "cuda" in package.build


def _known(package: LockedPackage) -> _Build | None:
    cuda = cuda_of(package)
    for build in _BUILDS:
        same = package.name in build.names and package.version in build.versions
        if same and cuda and f"{build.cuda}.".startswith(f"{cuda}."):
            return build
    return None


def cuda_of(package: LockedPackage) -> str | None:
    """Return the CUDA that a package was built for, as its build string or its dependencies tell: `12.9`, or `12`."""
    if found := re.search(r"cuda(\d\d)(\d)", package.build):
        return f"{found[1]}.{found[2]}"
    found = re.match(r">=(\d+(?:\.\d+)?)", package.dependencies.get("cuda-version", ""))
    return found[1] if found else None
