"""Views and their GPUs: a build refuses binaries that do not serve what its recipe names; a release can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest


@pytest.fixture
def gpu_view(builder: Any, shelf: Any, binaries: Any):
    """Return a function that builds a view of a package with device code for some architectures."""

    def build(*targets: str, gpus: tuple[str, ...] = ("V100", "A100"), **keys: Any) -> Any:
        code = binaries.container(*map(binaries.Piece, targets))
        files = {"lib/libkernels.so": binaries.library(code, needed=("libcudart.so.12",))}
        shelf.add("kernels", subdir="linux-64", files=files if targets else {"share/kernels": "none\n"})
        hardware = {"glibc": "2.34", "cuda": "12.9", "gpus": list(gpus)}
        builder.recipes.recipe("demo", "python", "greet", "kernels", hardware=hardware, **keys)
        return builder("build", "demo", "--json")

    return build


@pytest.mark.parametrize("targets", [("sm_70", "sm_80"), ("compute_70",), ("sm_70", "compute_75")])
def test_a_view_that_serves_its_gpus_is_built(gpu_view, builder, targets):
    built = gpu_view(*targets)
    assert built.code == 0, built.out

    told = builder("gpus", "demo", "--json")
    assert told.code == 0
    assert (told.data["view"], told.data["release"]) == ("demo", built.data["release"])
    assert [line["package"] for line in told.data["packages"]] == ["kernels 1.0"]
    assert [gpu["gpu"] for gpu in told.data["gpus"] if gpu["asked"]] == ["V100", "A100"]
    assert builder("gpus", f"demo/{built.data['release']}").code == 0
    assert builder("gpus", "demo", "--gpu", "P100").code == 1


@pytest.mark.parametrize(
    ("targets", "fault"),
    [
        (("sm_75", "sm_80", "compute_80"), "V100 (sm_70): no machine code or PTX for it in kernels 1.0"),
        (("sm_70", "sm_90a", "compute_90a"), "A100 (sm_80): no machine code or PTX for it in kernels 1.0"),
        ((), "V100 (sm_70): no machine code or PTX for it in any library"),
    ],
)
def test_a_view_that_leaves_a_gpu_out_is_refused_and_not_recorded(gpu_view, builder, targets, fault):
    refused = gpu_view(*targets)
    assert (refused.code, set(refused.codes)) == (1, {"gpu-not-served"})
    assert any(fault in error["message"] for error in refused.json["errors"])
    assert builder("releases", "demo", "--json").data["releases"] == []


def test_a_package_may_be_excused(gpu_view, builder):
    why = "a feature of A100 and newer"
    built = gpu_view("sm_80", gpus=("A100",), some_gpus_only=[{"package": "kernels", "why": why}])
    assert built.code == 0, built.out
    told = builder("gpus", "demo", "--json").data
    assert [line["why-some"] for line in told["packages"]] == [why]
    assert f"kernels 1.0 may lack GPUs: {why}" in builder("gpus", "demo").out
    assert "some-gpus-only" in builder("show", "demo").out


@pytest.mark.parametrize(
    ("library", "refused"), [("nvjpeg/lib/libnvjpeg.so.12", False), ("cu13/lib/libnvjpeg.so.13", True)]
)
def test_cuda_13_is_refused_where_v100_is_named(builder, shelf, cuda_wheels, library, refused):
    content = (cuda_wheels / "nvidia" / library).read_bytes()
    shelf.add("libnvjpeg", subdir="linux-64", files={f"lib/{Path(library).name}": content})
    hardware = {"glibc": "2.34", "cuda": "13.0", "gpus": ["V100", "T4"]}
    builder.recipes.recipe("demo", "python", "greet", "libnvjpeg", hardware=hardware)
    built = builder("build", "demo", "--json")
    assert set(built.codes) == ({"gpu-not-served"} if refused else set()), built.out
    if refused:
        assert "V100 (sm_70)" in built.out
        assert "T4" not in built.out


def test_a_view_that_names_no_gpu_is_not_judged(gpu_view):
    assert gpu_view("sm_35", gpus=()).code == 0


def test_binaries_that_changed_later_are_found_out(gpu_view, builder, binaries):
    built = gpu_view("sm_70", "sm_80")
    library = Path(built.data["folder"]) / "lib/libkernels.so"
    library.unlink()  # it is the cache's file, too
    library.write_bytes(binaries.library(binaries.container(binaries.Piece("sm_80"))))
    told = builder("gpus", "demo", "--json")
    assert told.code == 1
    assert {gpu["gpu"]: gpu["way"] for gpu in told.data["gpus"] if gpu["asked"]} == {"V100": "none", "A100": "native"}


def test_a_view_goes_before_a_folder_of_its_name(gpu_view, builder, tmp_path):
    gpu_view("sm_70", "sm_80")
    (tmp_path / "demo").mkdir()
    assert builder("gpus", "demo", "--json").data["view"] == "demo"
    assert builder("gpus", "./demo", "--json").data["view"] is None
