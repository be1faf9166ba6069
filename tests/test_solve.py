"""Solving: the hardware that was stated, the CUDA rule, and the blame when it cannot be done."""

from __future__ import annotations

from datetime import datetime, timezone
from typing import TYPE_CHECKING, Any

import pytest

from mlviews.conda.channels import open_sources
from mlviews.errors import FailedError, RefusedError
from mlviews.loop import run
from mlviews.recipe.compose import compose
from mlviews.recipe.model import Recipe, parse
from mlviews.solve.solver import solve

if TYPE_CHECKING:
    from collections.abc import Callable
    from pathlib import Path

    from conftest import Recipes

GPU = {"glibc": "2.34", "cuda": "12.9"}


@pytest.fixture
def builds(recipes: Recipes, channel: Path, tmp_path: Path) -> Callable[..., dict[str, str]]:
    """Return a function that solves a recipe and gives package -> version and build."""

    def builds(
        *dependencies: str, platform: str = "linux-64", as_of: str | None = None, mirror: Path = channel, **keys: Any
    ) -> dict[str, str]:
        path = recipes.recipe("x", *dependencies, platforms=["linux-64", "linux-aarch64"], **keys)
        spec = compose(parse(path, Recipe), recipes.folder / "layers")
        mirrors = {"conda-forge": str(mirror)}
        sources = open_sources(["conda-forge"], spec.platforms, mirrors=mirrors, cache=tmp_path / "cache")
        day = datetime.fromisoformat(as_of).replace(tzinfo=timezone.utc) if as_of else None
        solution = run(solve(spec, platform, sources, as_of=day))
        assert solution.platform == platform
        names = [record.name.normalized for record in solution.packages]
        assert names == sorted(set(names))
        return {record.name.normalized: f"{record.version} {record.build}" for record in solution.packages}

    return builds


def refused(builds: Callable[..., dict[str, str]], *dependencies: str, code: str = "unsolvable", **keys: Any) -> str:
    with pytest.raises(RefusedError) as caught:
        builds(*dependencies, **keys)
    assert caught.value.code == code
    assert caught.value.hint
    return str(caught.value)


def test_the_newest_that_fits(builds: Callable[..., dict[str, str]]) -> None:
    found = builds("uproot", "python")
    assert found["uproot"] == "5.4.0 pyhd_0"
    assert found["numpy"] == "2.1.0 py312_0"
    assert builds("uproot", "numpy <2")["numpy"] == "1.26.4 py312_0"


def test_a_constraint_limits_and_does_not_ask(builds: Callable[..., dict[str, str]]) -> None:
    found = builds("uproot", constraints=["numpy <2", "xrootd <1"])
    assert found["numpy"] == "1.26.4 py312_0"
    assert "xrootd" not in found


def test_platforms_differ(builds: Callable[..., dict[str, str]]) -> None:
    assert builds("numpy", platform="linux-64")["numpy"] == "2.1.0 py312_0"
    assert builds("numpy", platform="linux-aarch64")["numpy"] == "2.1.0 py312h1_0"
    text = refused(builds, "xrootd", platform="linux-aarch64", code="package-unknown")
    assert "on linux-aarch64" in text
    assert refused(builds, "armonly", platform="linux-64", code="package-unknown")


def test_the_stated_glibc_is_the_floor(builds: Callable[..., dict[str, str]]) -> None:
    assert builds("fastio", hardware={"glibc": "2.34"})["fastio"] == "1.0 h0_0"
    assert builds("fastio", hardware={"glibc": "2.38"})["fastio"] == "2.0 h0_0"
    text = refused(builds, "fastio >=2", hardware={"glibc": "2.34"})
    assert "cannot be solved for linux-64 with glibc 2.34" in text


def test_the_stated_level_chooses_the_build(builds: Callable[..., dict[str, str]]) -> None:
    assert builds("simd")["simd"] == "1.0 h0_0"
    assert builds("simd", hardware={"glibc": "2.34", "archspec": "x86_64_v2"})["simd"] == "1.0 h0_0"
    found = builds("simd", hardware={"glibc": "2.34", "archspec": "x86_64_v3"})
    assert found["simd"] == "1.0 h0_1"
    assert found["_x86_64-microarch-level"] == "3 3_x86_64_v3"


def test_as_of_a_day(builds: Callable[..., dict[str, str]]) -> None:
    assert builds("clock", "tick")["clock"] == "3.0 h0_0"
    found = builds("clock", "tick", as_of="2025-06-01")
    assert (found["clock"], found["tick"]) == ("2.0 h0_0", "1.0 h0_0")
    refused(builds, "clock", as_of="2020-01-01")


def test_a_cpu_view_never_holds_cuda(builds: Callable[..., dict[str, str]]) -> None:
    found = builds("pytorch", "onnxruntime", "gpublas", "latecuda")
    assert found["pytorch"] == "2.6.0 cpu_generic_py312_0"
    assert found["onnxruntime"] == "1.23.0 py312_0_cpu"
    assert found["gpublas"] == "3.0 cpu_9"
    assert "cuda-version" not in found
    for spec in ("pytorch-gpu", "gpublas * cuda*", "oldcuda"):
        text = refused(builds, spec)
        assert "x states no hardware.cuda, so it holds no CUDA build" in text or "__cuda" in text
        with pytest.raises(RefusedError) as caught:
            builds(spec)
        assert "state hardware.cuda in the recipe" in caught.value.hint
    with pytest.raises(RefusedError) as caught:
        builds("numpy >=9")
    assert "cuda" not in caught.value.hint


def test_a_cpu_view_refuses_what_only_its_build_string_calls_cuda(builds: Callable[..., dict[str, str]]) -> None:
    text = refused(builds, "silentcuda", "numpy", code="cuda-in-cpu-view")
    assert "CUDA builds of silentcuda" in text


def test_a_gpu_lock_needs_no_gpu_and_holds_cuda_builds(builds: Callable[..., dict[str, str]]) -> None:
    found = builds("pytorch-gpu", hardware=GPU)
    assert found["pytorch"] == "2.6.0 cuda126_generic_py312_200"
    assert found["libtorch"] == "2.6.0 cuda126_200"
    assert found["cuda-version"].startswith("12.")


def test_the_stated_cuda_limits_what_is_locked(builds: Callable[..., dict[str, str]]) -> None:
    assert builds("cuda-version", hardware=GPU)["cuda-version"] == "12.9 h1_3"
    assert builds("cuda-version", hardware={"glibc": "2.34", "cuda": "13.0"})["cuda-version"] == "13.0 h1_3"
    refused(builds, "pytorch-gpu", hardware={"glibc": "2.34", "cuda": "11.8"})


def test_a_package_that_has_cuda_builds_locks_one(builds: Callable[..., dict[str, str]]) -> None:
    found = builds("onnxruntime", "numpy", hardware=GPU)
    assert found["onnxruntime"] == "1.22.0 py312_200_cuda"
    assert found["gpublas"] == "3.0 cuda12_0"
    assert found["gpufft"] == "3.0 cuda12_0", "the choice of one brings in the next, which is under the rule too"
    assert found["numpy"] == "2.1.0 py312_0", "what has no CUDA build is not touched"


@pytest.mark.parametrize("names", [("onnxruntime", "gpublas"), ("onnx*", "gpu*"), ("*",)])
def test_cpu_only_names_the_exceptions(builds: Callable[..., dict[str, str]], names: tuple[str, ...]) -> None:
    exempt = [{"package": name, "why": "no build for our Python"} for name in names]
    found = builds("onnxruntime", hardware=GPU, cpu_only=exempt)
    assert (found["onnxruntime"], found["gpublas"]) == ("1.23.0 py312_0_cpu", "3.0 cpu_9")


def test_cpu_only_exempts_only_what_it_names(builds: Callable[..., dict[str, str]]) -> None:
    found = builds("onnxruntime", hardware=GPU, cpu_only=[{"package": "onnx*", "why": "too old"}])
    assert (found["onnxruntime"], found["gpublas"]) == ("1.23.0 py312_0_cpu", "3.0 cuda12_0")


def test_the_rule_knows_no_build_from_the_future(builds: Callable[..., dict[str, str]]) -> None:
    assert builds("latecuda", hardware=GPU)["latecuda"] == "1.0 cuda12_0"
    assert builds("latecuda", hardware=GPU, as_of="2025-06-01")["latecuda"] == "1.0 cpu_9"


def test_the_rule_is_blamed_and_the_way_out_named(builds: Callable[..., dict[str, str]]) -> None:
    with pytest.raises(RefusedError) as caught:
        builds("onnxruntime >=1.23", hardware=GPU)
    text = str(caught.value)
    assert "x states hardware.cuda, and cpu-only does not name the package" in text
    assert "onnxruntime with CUDA" in text
    assert "onnxruntime >=1.23  <-  recipe x" in text
    assert "[build=" not in text
    assert caught.value.hint.startswith("Name onnxruntime under cpu-only")


def test_a_conflict_is_blamed_on_the_layers_that_asked(builds: Callable[..., dict[str, str]], recipes: Recipes) -> None:
    one = recipes.layer("one", "python", "outer")
    two = recipes.layer("two", "numpy", "right")
    text = refused(builds, "uproot", layers=["one", "two"])
    assert "These 2 requests cannot stand together" in text
    assert f"outer  <-  layer one ({one}:4: dependencies[1])" in text
    assert f"right  <-  layer two ({two}:4: dependencies[1])" in text
    assert "uproot  <-" not in text
    assert "common" in text, "rattler's own tree is there too"


def test_everybody_who_asked_is_blamed(builds: Callable[..., dict[str, str]], recipes: Recipes) -> None:
    recipes.layer("one", "left", "numpy")
    recipes.layer("two", "left")
    text = refused(builds, "right", layers=["one", "two"])
    line = next(line for line in text.splitlines() if line.strip().startswith("left  <-"))
    assert "layer one" in line
    assert "layer two" in line


def test_a_constraint_can_be_to_blame(builds: Callable[..., dict[str, str]]) -> None:
    text = refused(builds, "left", "numpy", constraints=["common <2", "numpy <3"])
    assert "constraints[0]" in text
    assert "numpy <3  <-" not in text


def test_one_request_that_cannot_be_met(builds: Callable[..., dict[str, str]]) -> None:
    text = refused(builds, "python", "numpy >=99")
    assert "This request cannot be met, whatever else the view holds:\n  numpy >=99  <-  recipe x" in text


def test_all_unknown_packages_are_named_with_who_asked(builds: Callable[..., dict[str, str]], recipes: Recipes) -> None:
    recipes.layer("one", "nmupy", "zzzzzz")
    text = refused(builds, "python", "upro0t", layers=["one"], code="package-unknown")
    assert "'nmupy', asked for by layer one" in text
    assert "near are numpy" in text
    assert "'zzzzzz', asked for by layer one" in text
    assert "'upro0t', asked for by recipe x" in text
    assert "'python'" not in text


def test_a_channel_without_the_platform(
    builds: Callable[..., dict[str, str]], make_channel: Callable[..., Path], tmp_path: Path
) -> None:
    mirror = make_channel(tmp_path / "mirror", {"noarch": {"plain 1.0 h0_0": []}})
    assert builds("plain", mirror=mirror) == {"plain": "1.0 h0_0"}
    with pytest.raises(FailedError, match="holds no package at all"):
        builds("plan", mirror=mirror)
