"""What is known of a view before it is built, and ``mlviews gpus --all``."""

from __future__ import annotations

import re
from datetime import date
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.gpus.nvidia import GPUS
from mlviews.lock.lockfile import LockedPackage
from mlviews.lock.parse import read_lock
from mlviews.upstream import ENDINGS, TABLED, ViewGpu, view_of_lock

if TYPE_CHECKING:
    from pathlib import Path


def package(name: str, version: str, build: str = "h0_0", **dependencies: str) -> LockedPackage:
    depends = {key.replace("cuda_version", "cuda-version"): value for key, value in dependencies.items()}
    return LockedPackage(name, version, build, "linux-64", "https://x/linux-64/x.conda", "", "", 0, depends)


def told(*packages: LockedPackage) -> dict[str, ViewGpu]:
    return {line.gpu: line for line in view_of_lock("demo", packages).gpus}


TORCH = package("libtorch", "2.12.0", "cuda129_mkl_h0_300", cuda_version=">=12.9,<13")
TORCH_13 = package("libtorch", "2.12.0", "cuda130_mkl_h0_300", cuda_version=">=13.0,<14")
ONNX = package("onnxruntime", "1.24.2", "py311h0_200_cuda129", cuda_version=">=12.9,<13")
XGBOOST = package("libxgboost", "3.2.0", "cuda129_h0_3", cuda_version=">=12,<13.0a0")
CUFILE = package("libcufile", "1.14.1.1", cuda_version=">=12,<12.10.0a0")


@pytest.mark.parametrize(
    ("locked", "gpu", "way", "driver", "limits"),
    [
        ([TORCH], "GTX 1080 Ti", "native", "525.60.13", []),  # by sm_60
        ([TORCH], "L4", "native", "525.60.13", []),  # by sm_86
        ([TORCH], "B200", "native", "570.26", []),
        ([TORCH_13], "V100", "none", None, ["libtorch 2.12.0"]),
        ([TORCH_13], "RTX 2080 Ti", "native", "580.65.06", []),
        ([TORCH, ONNX], "GTX 1080 Ti", "none", None, ["onnxruntime 1.24.2"]),
        ([TORCH, ONNX], "V100", "native", "525.60.13", []),
        ([XGBOOST], "H100", "native", "525.60.13", []),  # by sm_90a
        ([XGBOOST], "B200", "native", "570.26", []),  # by sm_100f
        ([CUFILE], "H100", "ptx", "520.61.05", ["libcufile 1.14.1.1"]),
        ([TORCH, CUFILE], "GH200", "ptx", "525.60.13", ["libcufile 1.14.1.1"]),
        ([TORCH, CUFILE], "L40S", "native", "525.60.13", []),
    ],
)
def test_a_lock_is_told_by_its_packages(
    locked: list[LockedPackage], gpu: str, way: str, driver: str | None, limits: list[str]
) -> None:
    line = told(*locked)[gpu]
    assert (line.way, line.driver, line.limits) == (way, driver, limits)


@pytest.mark.parametrize(
    "stranger",
    [
        package("libtorch", "2.99.0", "cuda129_h0_0", cuda_version=">=12.9,<13"),  # another version
        package("libtorch", "2.12.0", "cuda126_h0_0", cuda_version=">=12.6,<13"),  # another CUDA
        package("libtorch", "2.12.0", "h0_0", cuda_version=">=11,<12"),
        package("libtorch", "2.12.0", "h0_0", __cuda=""),  # no CUDA that anything tells
        package("kernels", "1.0", cuda_version=">=12,<13"),
    ],
)
def test_what_the_table_does_not_hold_is_not_guessed(stranger: LockedPackage) -> None:
    alone = view_of_lock("demo", [stranger])
    assert alone.unknown == [f"{stranger.name} {stranger.version}"]
    assert {line.way for line in alone.gpus} == {"unknown"}
    assert {line.driver for line in alone.gpus} == {None}
    beside = view_of_lock("demo", [stranger, ONNX])
    assert beside.unknown == alone.unknown
    assert beside.gpus[0].way == "none"


def test_an_excused_package_may_lack_a_gpu() -> None:
    (line,) = (line for line in view_of_lock("demo", [TORCH, ONNX], ["onnx*"]).gpus if line.gpu == "GTX 1080 Ti")
    assert (line.way, line.limits) == ("native", [])
    assert view_of_lock("demo", [ONNX], ["onnx*"]).gpus[0].way == "none"


def test_what_holds_no_code_for_gpus_does_not_count() -> None:
    others = [package("cuda-nvcc-tools", "12.9.86", cuda_version="*"), package("numpy", "2.4.0")]
    assert told(TORCH, *others) == told(TORCH)
    assert view_of_lock("demo", others).unknown == []


def test_gpus_of_one_compute_capability_are_served_alike() -> None:
    lines = told(TORCH, ONNX, CUFILE)
    assert list(lines) == [gpu.name for gpu in TABLED]
    by_compute: dict[int, set[tuple[str, str | None]]] = {}
    for line in lines.values():
        by_compute.setdefault(line.compute, set()).add((line.way, line.driver))
    assert {len(ways) for ways in by_compute.values()} == {1}
    assert [line.compute for line in lines.values()] == sorted(line.compute for line in lines.values())


def test_ends_have_a_date_and_a_source() -> None:
    for end in ENDINGS:
        assert set(end.gpus) <= {gpu.name for gpu in TABLED} <= set(GPUS)
        assert date.fromisoformat(end.date)
        assert re.fullmatch(r"https://\S+", end.source)


def test_the_shipped_locks_serve_what_their_recipes_name(repository: Path) -> None:
    for path in sorted(repository.glob("lockfiles/*-gpu.conda-lock.yml")):
        lock = read_lock(path)
        view = view_of_lock(lock.view, lock.on("linux-64"))
        ways = {line.gpu: line.way for line in view.gpus}
        assert {ways[gpu] for gpu in lock.inputs["hardware"]["gpus"]} <= {"native", "ptx"}, lock.view


@pytest.fixture
def catalogue(cli: Any, recipes: Any, repository: Path, tmp_path: Path) -> Any:
    """Return the command line where two GPU views have a lock, one has none, and one view is for CPUs."""
    hardware = {"glibc": "2.34", "cuda": "12.9", "gpus": ["V100"]}
    for name in ("inference-gpu", "jax-gpu", "unlocked"):
        recipes.recipe(name, "python", hardware=hardware)
    recipes.recipe("plain", "python")
    locks = tmp_path / "locks"
    locks.mkdir()
    for lock in ("inference-gpu.conda-lock.yml", "jax-gpu.conda-lock.yml"):
        (locks / lock).write_bytes((repository / "lockfiles" / lock).read_bytes())
    return lambda *more: cli("gpus", "--all", "--recipes", recipes.folder, "--lockfiles", locks, *more)


def test_the_table_fits_a_terminal(catalogue: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("COLUMNS", "80")
    done = catalogue()
    assert done.code == 0, done.err
    lines = [" ".join(line.split()) for line in done.out.splitlines()]
    assert "inference-gpu lock no GTX 1080 Ti (by onnxruntime 1.24.2)" in lines
    assert "native 570.26 B200" in lines
    assert "native? 570.26 B200" in lines
    assert "jax-gpu: jaxlib 0.10.2" in lines
    assert "unlocked none - - -" in lines
    assert "for CPUs: plain" in lines
    assert max(len(line) for line in done.out.splitlines() if "https://" not in line) <= 80


def test_the_json_is_what_its_own_schema_says(catalogue: Any) -> None:
    data = catalogue("--json").data
    sources = {view["view"]: view["source"] for view in data["views"]}
    assert sources == {"inference-gpu": "lock", "jax-gpu": "lock", "unlocked": "none"}
    assert data["cpu"] == ["plain"]
    assert data["endings"][0]["source"].startswith("https://docs.nvidia.com/")


def test_all_goes_alone(cli: Any) -> None:
    assert cli("gpus", "--all", "training-gpu").code == 2
    assert cli("gpus", "--all", "--gpu", "V100").code == 2
    assert cli("gpus").code == 2


def test_the_documentation_has_the_same_ends(repository: Path) -> None:
    lines = (repository / "docs/gpus.md").read_text().splitlines()
    rows = [line.split("|") for line in lines if line.startswith("|") and "](https://" in line]
    told = [(row[1].strip(), row[2].strip(), row[3].strip(), row[4].strip()) for row in rows]
    assert told == [
        (", ".join(end.gpus), end.software, end.ends + " (planned)" * end.planned, end.date) for end in ENDINGS
    ]
    assert all(end.source in row[5] for end, row in zip(ENDINGS, rows, strict=True))
