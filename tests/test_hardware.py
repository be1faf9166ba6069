"""Virtual packages: what a solve may count on, whatever machine does it."""

from __future__ import annotations

import pytest
from rattler import MatchSpec

from mlviews.gpus.nvidia import GPUS
from mlviews.hardware import ARCHSPECS, PLATFORMS, virtual_packages
from mlviews.recipe.view import ViewHardware


def stated(platform: str, **figures: str | None) -> dict[str, str]:
    return {package.name: str(package) for package in virtual_packages(platform, glibc="2.34", **figures)}


def test_a_cpu_view_states_no_cuda() -> None:
    assert stated("linux-64") == {
        "__unix": "__unix=0=0",
        "__linux": "__linux=5.14=0",
        "__glibc": "__glibc=2.34=0",
        "__archspec": "__archspec=1=x86_64",
    }


def test_a_gpu_view_states_cuda_and_its_level() -> None:
    found = stated("linux-64", cuda="12.9", archspec="x86_64_v3")
    assert found["__cuda"] == "__cuda=12.9=0"
    assert found["__archspec"] == "__archspec=1=x86_64_v3"


def test_the_oldest_gpu_of_a_recipe_is_stated() -> None:
    hardware = ViewHardware(glibc="2.34", cuda="12.9", archspec=None, gpus=("H100", "T4", "V100"))
    found = {package.name: str(package) for package in hardware.virtual_packages("linux-64")}
    assert found["__cuda_arch"] == "__cuda_arch=7.0=0"
    none = ViewHardware(glibc="2.34", cuda="12.9", archspec=None, gpus=())
    assert "__cuda_arch" not in {package.name for package in none.virtual_packages("linux-64")}


def test_a_level_of_another_platform_stands_for_the_own_baseline() -> None:
    assert stated("linux-aarch64", archspec="x86_64_v3")["__archspec"] == "__archspec=1=aarch64"
    assert stated("linux-64", archspec="aarch64")["__archspec"] == "__archspec=1=x86_64"


@pytest.mark.parametrize("platform", PLATFORMS)
def test_packages_ask_for_the_level_by_its_build_string(platform: str) -> None:
    assert set(ARCHSPECS) == set(PLATFORMS)
    for level in ARCHSPECS[platform]:
        spec = MatchSpec(f"__archspec 1.* {level}")
        package = next(p for p in virtual_packages(platform, glibc="2.34", archspec=level) if p.name == "__archspec")
        assert spec.build == package.build


def test_the_machine_that_solves_does_not_matter(monkeypatch: pytest.MonkeyPatch) -> None:
    before = virtual_packages("linux-64", glibc="2.34", cuda="12.9")
    monkeypatch.setenv("CONDA_OVERRIDE_CUDA", "11.0")
    monkeypatch.setenv("CONDA_OVERRIDE_GLIBC", "2.17")
    assert virtual_packages("linux-64", glibc="2.34", cuda="12.9") == before


def test_gpus_by_name() -> None:
    assert {name: GPUS[name].compute for name in ("V100", "T4", "A100", "H100")} == {
        "V100": 70,
        "T4": 75,
        "A100": 80,
        "H100": 90,
    }
