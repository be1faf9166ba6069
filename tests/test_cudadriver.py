"""Drivers and CUDA: NVIDIA's tables, and what is read off them."""

from __future__ import annotations

import pytest

from mlviews.gpus.nvidia import (
    GPUS,
    driver_key,
    first_cuda,
    minimum_driver,
    newest,
    ptx_cuda,
    toolkit_driver,
    version_key,
)


@pytest.mark.parametrize(
    ("cuda", "floor", "own"),
    [
        ("10.2", "440.33", "440.33"),
        ("11.0", "450.80.02", "450.51.05"),
        ("11.8", "450.80.02", "520.61.05"),
        ("12.0", "525.60.13", "525.60.13"),
        ("12.6", "525.60.13", "560.28.03"),
        ("12.9", "525.60.13", "575.51.03"),
        ("12.9.1", "525.60.13", "575.51.03"),
        ("13.0", "580.65.06", "580.65.06"),
    ],
)
def test_what_nvidias_tables_say(cuda: str, floor: str, own: str) -> None:
    assert (minimum_driver(cuda), toolkit_driver(cuda)) == (floor, own)


def test_the_major_version_is_enough_for_machine_code() -> None:
    assert minimum_driver("12") == "525.60.13"


def test_a_version_that_there_was_no_toolkit_of_needs_the_next_one() -> None:
    assert toolkit_driver("12.7") == toolkit_driver("12.8")


@pytest.mark.parametrize("cuda", ["6.5", "99.0"])
def test_what_the_tables_do_not_hold_is_not_guessed(cuda: str) -> None:
    assert toolkit_driver(cuda) is None
    assert minimum_driver(cuda) is None


def test_newer_toolkits_need_newer_drivers() -> None:
    versions = [f"{major}.{minor}" for major in range(9, 14) for minor in range(10)]
    known = [driver_key(driver) for version in versions if (driver := toolkit_driver(version))]
    assert known == sorted(known)
    floors = [driver_key(driver) for version in versions if (driver := minimum_driver(version))]
    assert floors == sorted(floors)


@pytest.mark.parametrize("text", ["", "x", "12.x"])
def test_what_is_no_version_is_refused(text: str) -> None:
    with pytest.raises(ValueError, match="invalid literal"):
        version_key(text)


def test_every_gpu_has_a_first_cuda() -> None:
    assert {name for name, gpu in GPUS.items() if first_cuda(gpu.compute) is None} == set()
    assert first_cuda(90) == "11.8"
    assert first_cuda(91) is None


def test_ptx_tells_its_toolkit() -> None:
    assert [ptx_cuda(isa) for isa in ("6.0", "7.8", "8.8", "9.0", "99.0")] == ["9.0", "11.8", "12.9", "13.0", None]


def test_the_newest_version_is_found_by_its_figures() -> None:
    assert newest(["12.9", None, "12.10", ""]) == "12.10"
    assert newest([]) == ""
