"""Which code serves which GPU, and what it asks of the driver."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from mlviews.gpus.coverage import Cover, best, cover, runs, worst
from mlviews.gpus.fatbin import Code
from mlviews.gpus.libraries import DeviceCode
from mlviews.gpus.nvidia import GPUS


def code(target: str, isa: tuple[int, int] = (8, 0)) -> Code:
    kind, _, figures = target.partition("_")
    suffix = figures[-1] if figures[-1] in "af" else ""
    number = int(figures.rstrip("af"))
    if kind == "sm":
        return Code("machine", number, suffix, (1, 7))
    return Code("ptx", number, suffix, isa)


def made(*modules: str, loose: tuple[str, ...] = (), cuda: str = "12.0", isa: tuple[int, int] = (8, 0)) -> DeviceCode:
    def parse(module: str) -> frozenset[Code]:
        return frozenset(code(target, isa) for target in module.split())

    return DeviceCode(tuple(map(parse, modules)), tuple(map(parse, loose)), cuda)


@pytest.mark.parametrize(
    ("target", "yes", "no"),
    [
        ("sm_70", (70, 75), (60, 80, 100)),
        ("sm_75", (75,), (70, 80)),
        ("sm_80", (80, 86, 89), (75, 90)),
        ("sm_86", (86, 89), (80, 90)),
        ("sm_90", (90,), (89, 100)),
        ("sm_100", (100, 103), (90, 120)),
        ("sm_90a", (90,), (89, 100)),
        ("sm_100a", (100,), (103,)),
        ("sm_100f", (100, 103), (90, 120)),
        ("sm_103f", (103,), (100,)),
        ("sm_120f", (120, 121), (100, 130)),
        # Tegra: no binary compatibility with the rest, in either direction.
        ("sm_72", (72,), (75,)),
        ("sm_70", (), (72,)),
        ("sm_87", (87,), (89,)),
        ("sm_80", (), (87,)),
        ("compute_70", (70, 75, 80, 87, 90, 100), (60,)),
        ("compute_87", (87, 89, 90), (86,)),
        ("compute_90a", (90,), (100,)),
        ("compute_100f", (100, 103), (90, 120)),
    ],
)
def test_what_runs_where(target: str, yes: tuple[int, ...], no: tuple[int, ...]) -> None:
    assert [compute for compute in (*yes, *no) if runs(code(target), compute)] == list(yes)


@given(
    kind=st.sampled_from(["sm", "compute"]),
    suffix=st.sampled_from(["", "a", "f"]),
    made_for=st.integers(30, 130),
    compute=st.integers(30, 130),
)
def test_nothing_runs_on_what_is_older(kind: str, suffix: str, made_for: int, compute: int) -> None:
    found = runs(code(f"{kind}_{made_for}{suffix}"), compute)
    assert not (found and compute < made_for)
    assert found or compute != made_for
    if found and kind == "sm":
        assert made_for // 10 == compute // 10


@pytest.mark.parametrize(
    ("library", "gpu", "expected"),
    [
        # Machine code: any driver of the CUDA family that knows the GPU.
        (made("sm_70 sm_80", cuda="12.9"), "V100", Cover("native", "525.60.13")),
        (made("sm_70 sm_80", cuda="11.2"), "V100", Cover("native", "450.80.02")),
        (made("sm_90", cuda="11.8"), "H100", Cover("native", "520.61.05")),
        (made("sm_100", cuda="12.8"), "B200", Cover("native", "570.26")),
        (made("sm_75", cuda="13.2"), "T4", Cover("native", "580.65.06")),
        (made("sm_80"), "L4", Cover("native", "525.60.13")),
        # PTX: a driver as new as the toolkit that wrote it.
        (made("sm_70 compute_70", isa=(8, 8)), "H100", Cover("ptx", "575.51.03")),
        (made("compute_90", isa=(7, 8)), "B200", Cover("ptx", "570.26")),
        (made("compute_70", isa=(6, 0)), "V100", Cover("ptx", "384.81")),
        (made("compute_70", isa=(99, 0)), "V100", Cover("ptx", None)),
        # Neither.
        (made("sm_80 compute_80"), "V100", Cover("none")),
        (made("sm_90a compute_90a"), "B200", Cover("none")),
        (made(), "V100", Cover("none")),
        # One module that fits is enough: mathematics libraries have one for each architecture.
        (made("sm_90a", "sm_80", "sm_70"), "V100", Cover("native", "525.60.13")),
        # What awaits linking must fit as a whole, and the driver must then compile it.
        (made("sm_80", loose=("compute_70", "compute_70 sm_75"), isa=(8, 1)), "V100", Cover("ptx", "530.30.02")),
        (made("sm_80", loose=("compute_70", "compute_75")), "V100", Cover("none")),
        (made("sm_80", loose=("compute_70", "sm_80")), "A100", Cover("native", "525.60.13")),
        (made(loose=("sm_70",), cuda="12.4"), "V100", Cover("ptx", "550.54.14")),
        (made("sm_70", cuda=""), "V100", Cover("native", None)),
    ],
)
def test_how_a_library_serves_a_gpu(library: DeviceCode, gpu: str, expected: Cover) -> None:
    assert cover(library, GPUS[gpu]) == expected


NATIVE, PTX, NONE = Cover("native", "525.60.13"), Cover("ptx", "570.26"), Cover("none")


def test_of_a_packages_libraries_the_best_counts_and_the_newest_driver() -> None:
    assert best([NONE, PTX, NATIVE]) == Cover("native", "570.26")
    assert best([NONE, PTX]) == PTX
    assert best([NONE]) == best([]) == NONE
    assert best([NATIVE, Cover("ptx", None)]) == Cover("native", None)


def test_of_a_views_packages_the_worst_counts_and_the_newest_driver() -> None:
    assert worst([NATIVE, PTX]) == PTX
    assert worst([NATIVE, NATIVE]) == NATIVE
    assert worst([NATIVE, NONE]) == worst([]) == NONE


def test_drivers_are_compared_by_their_figures() -> None:
    assert best([Cover("native", "570.26"), Cover("native", "570.124.06")]).driver == "570.124.06"
