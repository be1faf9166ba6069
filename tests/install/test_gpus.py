"""Views and their GPUs: a build refuses binaries that do not serve what its recipe names; a release can be asked."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from mlviews.release import served_in_words
from mlviews.site.file import SHIPPED_SITES


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


@pytest.fixture
def site(monkeypatch, tmp_path):
    """Return a function that adds a line to the site `local`."""

    def change(line: str) -> None:
        own = tmp_path / "config/mlviews/sites"
        own.mkdir(parents=True)
        shipped = (SHIPPED_SITES / "local.yaml").read_text(encoding="utf-8")
        (own / "local.yaml").write_text(f"{shipped}{line}\n", encoding="utf-8")
        monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))

    return change


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
def test_a_site_may_refuse_a_view_that_leaves_a_gpu_out(gpu_view, builder, site, targets, fault):
    site("gpu-coverage: refuse")
    refused = gpu_view(*targets)
    assert (refused.code, set(refused.codes)) == (1, {"gpu-not-served"})
    assert any(fault in error["message"] for error in refused.json["errors"])
    assert builder("releases", "demo", "--json").data["releases"] == []


def test_what_serves_no_gpu_says_so_in_two_words():
    assert served_in_words({"V100": "none", "A100": "none"}) == "no GPU"
    assert served_in_words({"V100": "none", "A100": "ptx"}) == "A100 through PTX; not V100"
    assert served_in_words({}) == ""


def test_elsewhere_it_is_built_and_says_which_gpus_it_serves(gpu_view, builder):
    built = gpu_view("sm_80", "compute_90")
    assert built.code == 0, built.out
    assert built.data["left-out"] == ["V100"]
    served = {gpu: built.data["served"][gpu] for gpu in ("V100", "T4", "A100", "L4", "H100", "B200")}
    assert served == {"V100": "none", "T4": "none", "A100": "native", "L4": "native", "H100": "ptx", "B200": "ptx"}
    said = builder("build", "demo").out
    assert "serves A100, A30, A10, A40, L4, L40S; H100, H200, GH200, B200 through PTX; " in said
    assert "not P100, GTX 1080 Ti, V100, T4, RTX 2080 Ti" in said
    assert "leaves out V100, which the recipe names" in said
    assert "holds code for" in builder("show", "demo").out
    module = (builder.root / "modulefiles" / built.data["module"] / built.data["release"]).read_text(encoding="utf-8")
    assert "Holds code for A100" in module
    assert "holds no code for this host" in module


def test_a_package_may_be_excused(gpu_view, builder):
    why = "a feature of A100 and newer"
    built = gpu_view("sm_80", gpus=("A100",), some_gpus_only=[{"package": "kernels", "why": why}])
    assert built.code == 0, built.out
    told = builder("gpus", "demo", "--json").data
    assert [line["why-some"] for line in told["packages"]] == [why]
    assert f"kernels 1.0 may not serve every GPU: {why}" in builder("gpus", "demo").out
    assert "some-gpus-only" in builder("show", "demo").out


@pytest.mark.parametrize(
    ("library", "left_out"), [("nvjpeg/lib/libnvjpeg.so.12", False), ("cu13/lib/libnvjpeg.so.13", True)]
)
def test_cuda_13_leaves_v100_out(builder, shelf, cuda_wheels, library, left_out):
    content = (cuda_wheels / "nvidia" / library).read_bytes()
    shelf.add("libnvjpeg", subdir="linux-64", files={f"lib/{Path(library).name}": content})
    hardware = {"glibc": "2.34", "cuda": "13.0", "gpus": ["V100", "T4"]}
    builder.recipes.recipe("demo", "python", "greet", "libnvjpeg", hardware=hardware)
    built = builder("build", "demo", "--json")
    assert built.code == 0, built.out
    assert built.data["left-out"] == (["V100"] if left_out else [])


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


def test_all_views_are_told_by_what_their_releases_state(gpu_view, builder):
    built = gpu_view("sm_70", "compute_75", gpus=("V100",))
    told = builder("gpus", "--all", "--json")
    assert told.code == 0
    (view,) = told.data["views"]
    assert (view["view"], view["source"], view["release"]) == ("demo", "release", built.data["release"])
    ways = {line["gpu"]: (line["way"], line["driver"]) for line in view["gpus"]}
    assert ways["GTX 1080 Ti"] == ("none", None)
    assert ways["V100"] == ("native", "525.60.13")
    assert ways["A100"] == ("ptx", "575.51.03")
    assert "demo" in builder("gpus", "--all").out
    assert told.data["variants"] == []  # those of the catalogue behind are not shown here


def test_a_release_that_cannot_be_read_hides_no_other_view(gpu_view, builder):
    assert gpu_view("sm_70", "compute_75", gpus=("V100",)).code == 0
    builder.recipes.recipe("plain", "python")
    (found,) = builder.root.glob("envs/demo/[0-9]*/linux-64/release.json")
    found.write_text("{", encoding="utf-8")
    told = builder("gpus", "--all", "--json")
    assert told.code == 3
    assert (told.data["views"], told.data["cpu"]) == ([], ["plain"])
    assert len(told.codes) == 1
