"""The rule: every package that holds device code must serve a GPU with one of its libraries at least."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path

from mlviews.gpus import coverage
from mlviews.gpus.coverage import USUAL, GpusResult
from mlviews.gpus.fatbin import Code
from mlviews.gpus.libraries import DeviceCode
from mlviews.gpus.scan import Library, Scan
from mlviews.release import Release


def library(package: str, path: str, *targets: int) -> Library:
    module = frozenset(Code("machine", target, "", (1, 7)) for target in targets)
    return Library(path, package, DeviceCode((module,), (), "12.0"))


TORCH = library("torch 2.9", "libtorch_cuda.so", 70, 80, 90)
SPARSE = library("cusparselt 0.6", "libcusparseLt.so", 80, 90)


def survey(libraries: Iterable[Library], gpus: Iterable[str] = (), some: Mapping[str, str] | None = None) -> GpusResult:
    release = Release.model_construct(view="v", release="r", gpus=tuple(gpus), some_gpus_only=some or {})
    return coverage.survey(Scan(Path("/prefix"), tuple(libraries), {}, 0), release)


def ways(judged: GpusResult) -> dict[str, str]:
    return {verdict.gpu: verdict.way for verdict in judged.gpus}


def lacking(judged: GpusResult, gpu: str) -> Iterable[str]:
    return next(verdict.lacking for verdict in judged.gpus if verdict.gpu == gpu)


def test_the_usual_gpus_are_told_of_and_those_asked_for_beside_them() -> None:
    assert [verdict.gpu for verdict in survey([TORCH]).gpus] == list(USUAL)
    judged = survey([TORCH], ["P100", "V100"])
    assert [verdict.gpu for verdict in judged.gpus] == ["P100", *USUAL]
    assert [verdict.gpu for verdict in judged.gpus if verdict.asked] == ["P100", "V100"]


def test_one_library_of_a_package_is_enough() -> None:
    more = library("torch 2.9", "libflash.so", 90)
    judged = survey([TORCH, more], ["V100"])
    assert (ways(judged)["V100"], judged.failures) == ("native", ())
    assert [[served.way for served in line.gpus if served.gpu == "V100"] for line in judged.libraries] == [
        ["native"],
        ["none"],
    ]


def test_a_package_without_code_for_a_gpu_fails_it_by_name() -> None:
    judged = survey([SPARSE, TORCH], ["V100", "A100"])
    assert ways(judged) | {"V100": "none", "A100": "native"} == ways(judged)
    assert judged.failures == ("V100 (sm_70): no machine code or PTX for it in cusparselt 0.6",)
    assert survey([SPARSE, TORCH], ["A100"]).failures == ()


def test_a_package_may_be_excused_and_is_then_named_with_the_reason() -> None:
    judged = survey([SPARSE, TORCH], ["V100"], some={"cuspars*": "2:4 sparsity begins with A100"})
    assert (ways(judged)["V100"], judged.failures, list(lacking(judged, "V100"))) == ("native", (), [])
    assert [line.why_some for line in judged.packages] == ["2:4 sparsity begins with A100", ""]


def test_an_excuse_does_not_serve_a_gpu() -> None:
    assert survey([SPARSE], ["V100"], some={"*": "?"}).failures
    assert survey([SPARSE, TORCH], ["V100"], some={"torch": "?"}).failures
    assert survey([TORCH], ["V100"], some={"torch": "?"}).failures == ()


def test_no_device_code_serves_no_gpu() -> None:
    judged = survey([], ["V100"])
    assert judged.failures == ("V100 (sm_70): no machine code or PTX for it in any library",)
    assert survey([]).failures == ()
