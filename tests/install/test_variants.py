"""Variants as views of their own: which one a host takes, locks, builds, and what tells of them."""

from __future__ import annotations

import shutil
from pathlib import Path
from typing import Any

import pytest

from mlviews.recipe.catalogue import open_catalogue
from mlviews.variants import HostDriver, choose, read_driver


@pytest.fixture
def gpu(builder: Any, recipes: Any) -> Any:
    """Return the command line where a view has a variant for CUDA 13, and one that the channel cannot give."""
    hardware = {"glibc": "2.17", "cuda": "12.9", "gpus": ["V100", "T4"]}
    cuda13 = {"hardware": {"cuda": "13.0", "gpus": ["T4", "B200"]}, "dependencies": ["native"]}
    other = {"hardware": {"cuda": "13.2"}, "dependencies": ["not-there"]}
    variants = {"cuda13": cuda13, "cuda132": other}
    recipes.recipe("demo-gpu", "plain", hardware=hardware, module="atlasml/demo", variants=variants, smoke=[])
    return lambda *more: builder(*more, "--recipes", recipes.folder)


@pytest.mark.parametrize(
    ("driver", "gpus", "takes", "why"),
    [
        ("", (), "demo-gpu", "without an NVIDIA driver it takes the recipe itself"),
        ("550.54.14", ("T4",), "demo-gpu", "driver 550.54.14 is too old for any, so it takes the recipe itself"),
        ("575.51.03", ("T4",), "demo-gpu", "driver 575.51.03 serves CUDA 12.9; demo-gpu-cuda13 needs driver 580.65.06"),
        ("580.65.06", ("T4",), "demo-gpu-cuda13", "serves CUDA 13.0; demo-gpu-cuda132 needs driver 595.45.04"),
        ("580.65.06", ("V100",), "demo-gpu", "serves CUDA 12.9; demo-gpu-cuda13 has no code for this host's V100"),
        ("580.65.06", (), "demo-gpu-cuda13", "serves CUDA 13.0"),
    ],
)
def test_a_host_takes_the_newest_cuda_that_its_driver_and_its_gpus_have(
    recipes: Any, gpu: Any, driver: str, gpus: tuple[str, ...], takes: str, why: str
) -> None:
    del gpu
    choice = choose(open_catalogue(recipes.folder).family("demo-gpu"), HostDriver(driver, gpus))
    assert choice.takes == takes
    assert why in choice.why


def test_the_driver_is_read_without_a_program(tmp_path: Path) -> None:
    assert read_driver(tmp_path) == HostDriver()
    (tmp_path / "version").write_text("NVRM version: NVIDIA UNIX x86_64 Kernel Module  580.65.06  Sun\nGCC 13.3.0\n")
    for number, model in enumerate(("Tesla V100-SXM2-32GB", "NVIDIA GeForce RTX 2080 Ti", "NVIDIA A100-PCIE-40GB")):
        information = tmp_path / f"gpus/{number}/information"
        information.parent.mkdir(parents=True)
        information.write_text(f"Model: \t\t {model}\nIRQ: 7\n")
    assert read_driver(tmp_path) == HostDriver("580.65.06", ("V100", "RTX 2080 Ti", "A100"))
    (tmp_path / "version").write_text("\n")
    assert read_driver(tmp_path).branch == 0


def test_variants_are_built_locked_and_told_as_views_of_their_own(builder: Any, gpu: Any, monkeypatch: Any) -> None:
    done = gpu("build", "demo-gpu", "--all-variants", "--json")
    assert (done.code, done.codes) == (1, ["package-unknown"])  # the one that the channel cannot give stops no other
    release = done.data["release"]
    assert (done.data["view"], done.data["others"]) == ("demo-gpu", {"demo-gpu-cuda13": release})
    tree = builder.root / "modulefiles/atlasml"
    assert sorted(path.name for path in (tree / "demo").glob("*.lua")) == [f"{release}-cuda13.lua", f"{release}.lua"]
    assert [path.name for path in (tree / "demo-cuda13").glob("*.lua")] == [f"{release}.lua"]
    held = gpu("packages", "demo-gpu-cuda13", "--json").data["packages"]
    assert {package["name"] for package in held if package["asked"]} == {"native", "plain"}
    assert {package["variant"] for package in held} == {"cuda13"}

    # A variant gets its first lock when it is asked for; then `--all` keeps it.
    assert gpu("lock", "--all", "--check").code == 0
    told = gpu("lock", "--all", "--check", "--json").data["locks"]
    assert [line["view"] for line in told] == ["demo-gpu", "demo-gpu-cuda13"]

    for verb in ("list", "doctor"):
        chosen = [one for one in gpu(verb, "--json").json["data"]["variants"] if one["view"] == "demo-gpu"]
        assert [one["takes"] for one in chosen] == ["demo-gpu"]
    assert "variants for this host: " in gpu("gpus", "--all").out
    for view in ("demo-gpu", "demo-gpu-cuda13"):
        assert "variant for this host: demo-gpu; without an NVIDIA driver" in gpu("gpus", view).out

    monkeypatch.setattr("mlviews.variants.read_driver", lambda: HostDriver("580.65.06", ("T4",)))
    here = gpu("build", "demo-gpu", "--json").data
    assert (here["view"], here["status"]) == ("demo-gpu-cuda13", "unchanged")
    assert "driver 580.65.06 serves CUDA 13.0" in here["chosen"]
    assert gpu("build", "demo-gpu", "--variant", "own", "--json").data["view"] == "demo-gpu"
    builder.lock("demo-gpu-cuda13").unlink()
    here = gpu("build", "demo-gpu", "--json").data  # as it was before there were variants
    assert here["view"] == "demo-gpu"
    assert "has no lock: `mlviews lock demo-gpu-cuda13`" in here["chosen"]

    assert gpu("build", "demo-gpu", "--variant", "cuda14", "--json").codes == ["variant-unknown"]
    assert gpu("build", "demo-gpu", "--variant", "own", "--all-variants").code == 2


def test_a_variants_release_that_somebody_deleted_by_hand_goes_from_the_shared_module_too(
    builder: Any, gpu: Any
) -> None:
    first = gpu("build", "demo-gpu", "--variant", "cuda13", "--json").data["release"]
    second = gpu("build", "demo-gpu", "--variant", "cuda13", "--rebuild", "--json").data["release"]
    shutil.rmtree(builder.root / "envs/demo-gpu-cuda13" / first)
    shared = builder.root / "modulefiles/atlasml/demo"
    assert {f"{first}-cuda13", f"{first}-cuda13.lua"} <= {path.name for path in shared.iterdir()}

    foretold = builder("gc", "--dry-run", "--json").data["debris"]

    assert builder("gc", "--json").data["debris"] == foretold
    assert {Path(path).name for path in foretold} == {first, f"{first}.lua", f"{first}-cuda13", f"{first}-cuda13.lua"}
    visible = {path.name for path in shared.iterdir() if not path.name.startswith(".")}
    assert visible == {f"{second}-cuda13", f"{second}-cuda13.lua"}
